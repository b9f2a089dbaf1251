"""A whole comparison in a folder: trials, the choice among them, final trainings, and what came out.

trials/        a sweep: each method's settings, judged on held-out images
choice.json    what was chosen of them and when
finals/        a sweep: what was chosen, trained anew with several seeds, and judged once on the test images

Killed and run again, it goes on; with more trials, seeds or methods, it is extended.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdprobe.config import RunConfig
from kdprobe.distillers import option_types
from kdprobe.errors import ConfigError, SweepError
from kdprobe.formats.settings import worded_settings
from kdprobe.runs.folder import PLACES, differing_keys
from kdprobe.sweeps.cells import Settings, make_cells
from kdprobe.sweeps.completion import complete
from kdprobe.sweeps.driver import RETRIES
from kdprobe.sweeps.engine import Engine
from kdprobe.sweeps.ledger import Ledger, check_folder, open_ledger
from kdprobe.sweeps.trial import try_cells
from kdprobe.tuning.chosen import best_trial
from kdprobe.tuning.decisions import CHOICE_FILE, Chosen, Decision, decide, read_decisions
from kdprobe.tuning.plan import Plan

_SHOWN = 6  # keys that differ


@dataclass(frozen=True)
class Finished:
    """What there is at the end.

    Attributes:
        plan: the comparison.
        trials: the sweep of the trials, whose cells are each method's in their order.
        finals: the sweep of the final trainings.
        decisions: every choice that was made, the one that counts at the end.
    """

    plan: Plan
    trials: Ledger
    finals: Ledger
    decisions: Sequence[Decision]

    @property
    def chosen(self) -> dict[str, Chosen]:
        """What was chosen for each method."""
        return self.decisions[-1].chosen


def run_comparison(
    plan: Plan,
    folder: Path,
    engine_for: Callable[[Path], Callable[[], Engine]],
    *,
    retries: int = RETRIES,
    say: Callable[[str], object] = lambda _: None,
    quiet: bool = True,
) -> Finished:
    """Bring a comparison to its end.

    Args:
        plan: what is trained.
        folder: where; empty, absent, or one that holds the same comparison.
        engine_for: returns what opens an engine for the sweep in a folder.
        retries: further tries of a training that failed.
        say: is given a line about each event.
        quiet: show no progress.

    Raises:
        ConfigError: if a method is not defined for the networks, before anything is written, and the like.
        SweepError: if the folder holds something else, a training failed, or all trials of a method diverged.
    """
    check_place(plan, folder)
    given: dict[str, Any] = {"retries": retries, "say": say, "quiet": quiet}
    grid = [cell for one in plan.contenders for cell in plan.trials(one)]
    trials = complete(
        folder / "trials",
        plan.trial_config,
        grid,
        option_types(),
        engine_for(folder / "trials"),
        diverging=True,
        **given,
    )
    chosen = choices(plan, trials)
    made = decide(folder, chosen, n_seeds=plan.n_seeds, published=plan.published, n_tested=n_tested(folder / "finals"))
    for name, one in chosen.items():
        say(f"{name}: trial {one.trial} of {plan.n_trials} is chosen: {worded_settings(one.settings)}")
    finals = complete(
        folder / "finals", plan.final_config, final_grid(plan, chosen), option_types(), engine_for(folder / "finals"),
        diverging=True, **given,
    )  # fmt: skip
    return Finished(plan, trials, finals, made)


def check_place(plan: Plan, folder: Path) -> None:
    """Find out, before anything is written, whether a comparison can be made in a folder.

    Raises:
        KdprobeError: as `run_comparison`.
    """
    begun = (folder / "trials").exists()
    if folder.exists() and not begun and (not folder.is_dir() or any(folder.iterdir())):
        raise SweepError(f"{folder} is not an empty folder and holds no comparison; choose another --out")
    for name, config in (("trials", plan.trial_config), ("finals", plan.final_config)):
        if (folder / name / "sweep.json").exists():
            _check_same(folder, open_ledger(folder / name), config)
    _check_trials(plan, folder)
    if not (folder / "finals" / "sweep.json").exists():
        first = plan.contenders[0]
        grid = plan.finals(first, plan.settings(first)[0])[:1]
        cells = make_cells(plan.final_config.model_dump(mode="json"), grid, option_types())
        check_folder(folder / "finals", cells, {})
        try_cells(cells, option_types())  # such as whether there are test images at all


def choices(plan: Plan, trials: Ledger) -> dict[str, Chosen]:
    """The setting that is best on the held-out images, for each method.

    Raises:
        ConfigError: if there is no accuracy, because the data have no labels.
        SweepError: if no trial of a method came to a result.
    """
    found, cells = {}, iter(trials.cells)
    for one in plan.contenders:
        own = [next(cells) for _ in range(plan.n_trials)]
        results = [trials.state(cell.id).result for cell in own]
        if any(result is not None and result.get("accuracy") is None for result in results):
            raise ConfigError(
                "trials are chosen by their accuracy, but the data have no labels; give labelled data with --data"
            )
        shares = [None if result is None else float(result["accuracy"]) for result in results]
        best = best_trial([math.nan if share is None else share for share in shares])
        if best is None:
            attempt = trials.state(own[0].id).attempt
            why = f" (the first: {attempt.error})" if attempt is not None and attempt.error else ""
            raise SweepError(
                f"all {plan.n_trials} trials of {one.name} diverged{why}, so there is none to choose; change what "
                "makes them diverge, such as training.optimizer.lr, and give another --out"
            )
        ids = tuple(cell.id for cell in own)
        found[one.name] = Chosen(trial=best, tried=tuple(plan.settings(one)), accuracies=tuple(shares), cells=ids)
    return found


def final_grid(plan: Plan, chosen: dict[str, Chosen]) -> list[Settings]:
    """The cells of all final trainings: of each method as chosen, and then, where asked for, as published."""
    grid = [cell for one in plan.contenders for cell in plan.finals(one, chosen[one.name].settings)]
    if plan.published:
        grid += [cell for one in plan.contenders for cell in plan.finals(one, plan.settings(one)[0])]
    return grid


def n_tested(finals: Path) -> int:
    """How many final trainings were judged on the test images."""
    return len(list((finals / "cells").glob("*/result.json")))


def _check_same(folder: Path, before: Ledger, config: RunConfig) -> None:
    """Refuse what differs from the comparison in a folder, but for where its inputs are."""
    apart = (*PLACES, "teacher_facts.store")
    now = config.model_dump(mode="json")
    changed = [key for key in differing_keys(before.cells[0].base, now) if key not in apart]
    if changed:
        more = f" and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise SweepError(
            f"{folder} holds another comparison; these keys differ: {', '.join(changed[:_SHOWN])}{more}; choose "
            "another --out"
        )


def _check_trials(plan: Plan, folder: Path) -> None:
    """Refuse trials with other settings than those of the same numbers before."""
    if not (made := read_decisions(folder)):
        return
    known = {one.name: plan.settings(one) for one in plan.contenders}
    for name, before in made[-1].chosen.items():
        for trial, (old, new) in enumerate(zip(before.tried, known.get(name, ()), strict=False)):
            if old != new:
                raise SweepError(
                    f"{folder} holds another comparison: by its {CHOICE_FILE}, trial {trial} of {name} was "
                    f"{worded_settings(old)}, but now it would be {worded_settings(new)}; choose another --out"
                )
