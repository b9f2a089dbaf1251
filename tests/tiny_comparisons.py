"""Comparisons that need no training: a stand-in for a training, and an engine that works in this process."""

from concurrent.futures import Future
from unittest.mock import patch

from kdprobe.errors import Diverged
from kdprobe.files import write_text
from kdprobe.runs.folder import RunFolder
from kdprobe.sweeps.work import Order, work
from kdprobe.tuning.comparing import run_comparison
from kdprobe.tuning.contenders import contenders, shared_config
from kdprobe.tuning.plan import Plan
from tests.tiny_cells import journal

RECIPE = "digits/resnet8-kd"


def plan(*names, n_trials=4, n_seeds=2, assignments=(), **options):
    config = shared_config(RECIPE, assignments, teacher="timm:vit_tiny_patch16_224")
    return Plan(contenders(RECIPE, names), config, n_trials=n_trials, n_seeds=n_seeds, **options)


def tuned(config, out, device):
    """An accuracy that is best where the rate is low; a high one diverges."""
    rate, weight = config.training.optimizer.lr, config.method.get("kd_weight", 0.5)
    if rate > 0.17:
        write_text(out / "failure.txt", "the loss is not finite\n")
        raise Diverged("the loss is not finite")
    right = round(100 * (0.9 - rate - 0.1 * abs(weight - 0.5))) - 2 * config.seed
    is_trial = config.data.holdout > 0
    values = {"model": "resnet8", "teacher": config.teacher, "data": "digits", "seed": config.seed}
    values |= {"evaluated_on": "held out" if is_trial else "test", "evaluated_images": 100}
    values |= {"accuracy": right / 100, "seconds": 1.0, "teacher_images": 0 if config.teacher is None else 1000}
    RunFolder(out).write_result(values)
    journal(out, "trained")


class Inline:
    """An engine without processes."""

    slots = 1

    def __init__(self, folder, task):
        self.order = Order(folder, task=task)

    def submit(self, cell, given_up=0):
        future = Future()
        future.set_result(work(self.order, cell.id, cell.config, given_up))
        return future

    def abandon(self, cell):
        raise AssertionError

    def close(self):
        pass


def bring(plan, folder, task="tests.tiny_comparisons:tuned", **options):
    """A comparison whose cells are not tried before."""
    with patch("kdprobe.sweeps.completion.try_cells", return_value={}), patch("kdprobe.tuning.comparing.try_cells"):
        return run_comparison(plan, folder, lambda sweep: lambda: Inline(sweep, task), **options)


def untested(config, out, device):
    """Trials alone come to a result."""
    if config.data.holdout == 0:
        raise ValueError("no such luck")
    tuned(config, out, device)


def diverging_at_last(config, out, device):
    """Trials alone do not diverge."""
    if config.data.holdout == 0:
        write_text(out / "failure.txt", "the loss is not finite\n")
        raise Diverged("the loss is not finite")
    tuned(config, out, device)


def unlabelled(config, out, device):
    """Without an accuracy."""
    RunFolder(out).write_result({"accuracy": None, "seconds": 1.0})
