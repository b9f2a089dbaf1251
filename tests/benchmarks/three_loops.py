"""The same first steps of a training in kdprobe's trainer, in a loop of one's own, and in Lightning."""

import copy
import logging
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

import kdprobe
from kdprobe.config import RunConfig, parse
from kdprobe.data.loaders import Batch, training_batches
from kdprobe.distillers import Progress, option_types
from kdprobe.formats.yamls import read_yaml
from kdprobe.runtime.distributed import Ranks
from kdprobe.runtime.precision import repeatable
from kdprobe.training.build import build
from kdprobe.training.loop import Trainer
from kdprobe.training.optimizer import make_optimizer

CPU = torch.device("cpu")
STEPS = 4


def first_losses(config_path: Path) -> dict[str, Any]:
    """The losses of the first steps of a run, by each of the three loops, on the CPU in float32.

    Args:
        config_path: the run's configuration; its teacher must be where it says.

    Returns:
        for each loop the sums of the terms, as hexadecimal numbers that show every bit, and whether all are equal.
    """
    values = read_yaml(config_path.read_text(), source=str(config_path))
    values["training"] |= {"precision": "fp32", "channels_last": False, "batch_size": 32}
    config = parse(values, option_types(), source=str(config_path))
    with repeatable(0, CPU):
        job = build(config, CPU)
        batches = [batch for batch, _ in zip(_batches(config, job.data.train), range(STEPS), strict=False)]
        begun = copy.deepcopy(job.student), copy.deepcopy(job.method)
        method = {key: value for key, value in config.method.items() if key != "name"}

        def distillation() -> kdprobe.Distillation:
            student = copy.deepcopy(begun[0])
            own = kdprobe.Distillation(student, config.teacher, config.method["name"], n_epochs=STEPS, **method)
            own.method.load_state_dict(begun[1].state_dict())
            return own

        trainer = Trainer(config.training, config.data, job, Ranks(0, 1, CPU), seed=0)
        found = {
            "trainer": _stepped(partial(_by_trainer, trainer), trainer.optimizer, batches),
            "plain": _plain(distillation(), config, batches),
            "lightning": _lightning(distillation(), config, batches),
        }
    return {**found, "equal": len({tuple(losses) for losses in found.values()}) == 1}


def _batches(config: RunConfig, split: Any) -> Any:
    return training_batches(split, batch_size=32, augment=config.data.augment, seed=0, epoch=0, workers=0)


def _by_trainer(trainer: Trainer, batch: Batch, step: int) -> Tensor:
    return torch.stack(list(trainer.losses(batch, None, Progress(step / STEPS, STEPS)).values())).sum()


def _stepped(loss_of: Any, optimizer: torch.optim.Optimizer, batches: list[Batch]) -> list[str]:
    found = []
    for step, batch in enumerate(batches):
        torch.manual_seed(step)
        loss = loss_of(batch, step)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(loss.item().hex())
    return found


def _plain(own: kdprobe.Distillation, config: RunConfig, batches: list[Batch]) -> list[str]:
    optimizer = make_optimizer(config.training.optimizer, own.student, own.method)
    own.train()
    return _stepped(lambda batch, step: own(batch.images, batch.labels, epoch=step / STEPS).loss, optimizer, batches)


def _lightning(own: kdprobe.Distillation, config: RunConfig, batches: list[Batch]) -> list[str]:
    import lightning

    found = []

    class Distilling(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.distillation = own

        def training_step(self, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
            torch.manual_seed(step)
            loss: Tensor = self.distillation(*batch, epoch=step / STEPS).loss
            found.append(loss.item().hex())
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return make_optimizer(config.training.optimizer, own.student, own.method)

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the number of workers and the like
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", enable_model_summary=False, **quiet)
        pairs: Any = [(batch.images, batch.labels) for batch in batches]
        trainer.fit(Distilling(), DataLoader(pairs, batch_size=None))
    return found
