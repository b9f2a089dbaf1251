"""What a comparison calls its final trainings: `dropkd-without-dropout` for a method with options of its own, say."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kdprobe.errors import RunError
from kdprobe.runs.folder import RunFolder


def contender_names(runs: Sequence[RunFolder]) -> list[str]:
    """The name of each run in the comparison (`kdprobe compare`) whose final training it is; empty for other runs.

    It is that of the chosen trial with the same method, options and learning rate.
    """
    known: dict[Path, dict[str, str]] = {}
    names = []
    for run in runs:
        above = run.path.resolve().parents
        if [one.name for one in above[:2]] != ["cells", "finals"]:
            names.append("")
            continue
        folder = above[2]
        if folder not in known:
            known[folder] = dict(_chosen(folder))
        names.append(known[folder].get(_settings(run), ""))
    return names


def _chosen(folder: Path) -> Iterator[tuple[str, str]]:
    """Settings and names of what a comparison trained anew, those that were decided last at the end."""
    try:
        decisions = json.loads((folder / "choice.json").read_text(encoding="utf-8"))["decisions"]
        for decision in decisions:
            for name, chosen in decision["chosen"].items():
                for trial, called in ((0, f"{name} as published"), (chosen["trial"], name)):
                    cell = RunFolder(folder / "trials" / "cells" / chosen["cells"][trial])
                    if cell.config_path.is_file():
                        yield _settings(cell), called
    except (RunError, OSError, ValueError, TypeError, LookupError, AttributeError):
        return  # a name is no reason to fail: the comparison itself says what is wrong with its file


def _settings(run: RunFolder) -> str:
    """What tells the methods of a comparison apart, as text."""
    config: dict[str, Any] = run.values()
    return json.dumps([config["method"], config["teacher"], config["training"]["optimizer"]], sort_keys=True)
