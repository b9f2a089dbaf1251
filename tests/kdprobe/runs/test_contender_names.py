"""Final trainings are called what their comparison calls them."""

import json
from pathlib import Path

import pytest
import yaml

from kdprobe.config import override, parse
from kdprobe.distillers import option_types
from kdprobe.recipe import read_recipe
from kdprobe.runs.contender_names import contender_names
from kdprobe.runs.folder import RunFolder

OPTIONS = {
    "kd": ["method.name=kd"],
    "kd-hot": ["method.name=kd", "method.temperature=8"],
    "kd-fast": ["method.name=kd", "training.optimizer.lr=0.3"],
}


def run_in(folder: Path, *assignments: str) -> RunFolder:
    folder.mkdir(parents=True)
    values = override(read_recipe("digits/resnet8-kd"), ["teacher=runs/vit", *assignments])
    config = parse(values, option_types()).model_dump(mode="json")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return RunFolder(folder)


@pytest.fixture
def comparison(tmp_path: Path) -> Path:
    """Each method was tried with its own settings and with a low learning rate, and the second trial chosen of one."""
    chosen = {}
    for name, options in OPTIONS.items():
        cells = [f"{name}-{trial}" for trial in range(2)]
        run_in(tmp_path / "c" / "trials" / "cells" / cells[0], *options)
        run_in(tmp_path / "c" / "trials" / "cells" / cells[1], *options, "training.optimizer.lr=0.01")
        chosen[name] = {"trial": int(name == "kd-hot"), "cells": cells}
    (tmp_path / "c" / "choice.json").write_text(json.dumps({"decisions": [{"chosen": chosen}]}))
    return tmp_path / "c"


def test_final_trainings_have_their_names_and_other_runs_have_none(comparison: Path) -> None:
    cells = comparison / "finals" / "cells"
    seeds = ["data.holdout=0", "seed=7", "training.epochs=3"]
    finals = [
        run_in(cells / "a", *OPTIONS["kd"], *seeds),
        run_in(cells / "b", *OPTIONS["kd-hot"], *seeds, "training.optimizer.lr=0.01"),
        run_in(cells / "c", *OPTIONS["kd-fast"], *seeds),
        run_in(cells / "d", *OPTIONS["kd-hot"], *seeds),
        run_in(cells / "e", "method.name=kd", "method.temperature=2"),
        run_in(comparison / "elsewhere" / "cells" / "a", *OPTIONS["kd"]),
        run_in(comparison.parent / "run", *OPTIONS["kd"]),
    ]
    assert contender_names(finals) == ["kd", "kd-hot", "kd-fast", "kd-hot as published", "", "", ""]
    assert contender_names([RunFolder(Path("run"))]) == [""]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"decisions": [{"chosen": {"kd": {"trial": 9, "cells": []}}}]}'])
def test_a_comparison_without_its_file_gives_no_names(text: str, comparison: Path) -> None:
    final = run_in(comparison / "finals" / "cells" / "a", *OPTIONS["kd"])
    (comparison / "choice.json").write_text(text)
    assert contender_names([final]) == [""]
    (comparison / "choice.json").unlink()
    assert contender_names([final]) == [""]
