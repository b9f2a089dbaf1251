"""What a comparison takes, held against what it took."""

from pathlib import Path

import pytest

from kdprobe.config import override, parse
from kdprobe.distillers import option_types
from kdprobe.recipe import read_recipe
from kdprobe.sweeps.cells import with_values
from kdprobe.teachers.store import STORE_LASTS
from kdprobe.training import train
from kdprobe.training.build import data_of
from kdprobe.tuning.budget import budget_lines, estimate
from kdprobe.tuning.contenders import contenders, shared_config
from kdprobe.tuning.plan import Plan

TINY = ["data.spec=tests.tiny:digits", "data.image_size=16", "training.epochs=3", "training.batch_size=16"]
VARIED = ["data.augment.padding=1", "data.augment.flip=true", "data.augment.period=2"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("teacher") / "run"
    values = override(read_recipe("digits/vit-teacher"), [*TINY, "model.args.depth=2"])
    train(parse(values, option_types()), out, device="cpu", quiet=True)
    return str(out)


@pytest.mark.parametrize("seed", [[], ["data.seed=3"]], ids=["a seed each", "one seed"])
def test_a_store_takes_the_room_that_was_said(seed: list[str], teacher: str, tmp_path: Path) -> None:
    stored = [f"teacher_facts.store={tmp_path / 's'}", "teacher_facts.store_outputs=[logits, pooled]"]
    recipe = "digits/resnet8-kd"
    config = shared_config(recipe, [*TINY, *VARIED, *seed, *stored], teacher=teacher)
    plan = Plan(contenders(recipe, ["plain", "kd", "rkd"]), config, n_trials=1, n_seeds=2, holdout=0.25)
    budget = estimate(plan, "cpu")
    assert not (tmp_path / "s").exists()
    *_, line = budget_lines(budget, tmp_path / "c")
    assert line == f"teacher.store {tmp_path / 's'}: {budget.store_bytes / 1e6:.1f} MB when it is full; {STORE_LASTS}"

    for one in plan.contenders:
        for base, cells in ((plan.trial_config, plan.trials(one)), (plan.final_config, plan.finals(one, {}))):
            for cell in cells:
                values = with_values(base.model_dump(mode="json"), cell)
                out = tmp_path / f"{one.name}-{base.data.holdout}-{cell['seed']}"
                train(parse(values, option_types()), out, device="cpu", quiet=True)
    files = list((tmp_path / "s").rglob("*.npy"))
    assert len(files) == (3 if not seed else 2) * 2 * 2 * 2  # with their sums; of each output, in each of two epochs
    assert sum(file.stat().st_size for file in files) - 128 * len(files) == budget.store_bytes


def test_trials_of_few_images_are_judged_on_the_held_out_part_of_all(tmp_path: Path) -> None:
    recipe = "digits/resnet8-kd"
    config = shared_config(recipe, [*TINY, "data.per_class=3"])
    plan = Plan(contenders(recipe, ["plain"]), config, n_trials=2, n_seeds=1, holdout=0.25)
    trials, finals = (data_of(one) for one in (plan.trial_config, plan.final_config))
    assert (len(trials.train), len(trials.test), len(finals.train), len(finals.test)) == (30, 24, 30, 60)
    line, *_ = budget_lines(estimate(plan, "cpu"), tmp_path / "c")
    assert line.startswith("2 trials of 3 epochs on 30 images, judged on 24 held-out ones; then 1 final training of 3 ")
    assert line.endswith(" on 30 images, tested once on 60")
