"""Images per second of the trainer and of mdistiller's, both as they are: ResNet56 to ResNet20 by KD, ReviewKD and CRD.

    python -m tests.benchmarks.bench_mdistiller FOLDER

FOLDER is a checkout of github.com/megvii-research/mdistiller, whose packages (yacs, tensorboardX) are installed. It
trains on GPUs alone: its `cuda()` does nothing here. Images, batch size, optimizer and augmentation are the same; each
varies its images in its own way, evaluates after each epoch and saves. Counted are seconds of processors for the epochs
after the first one, in turns.
"""

import argparse
import os
import statistics
import sys
import tempfile
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision import datasets

from kdprobe.config import parse
from kdprobe.data import DataSet
from kdprobe.distillers import option_types
from kdprobe.models import create
from kdprobe.models.checkpoint import save
from kdprobe.training import train
from tests.benchmarks.bench_train import BATCH, N_CLASSES, images, take_turns

N_IMAGES, EPOCHS = 300, 2
CHANNELS = "[16, 32, 64, 64]"
METHODS = {
    "kd": ("KD", []),
    "reviewkd": (
        "REVIEWKD",
        ["REVIEWKD.IN_CHANNELS", CHANNELS, "REVIEWKD.OUT_CHANNELS", CHANNELS, "REVIEWKD.MAX_MID_CHANNEL", 64],
    ),
    "crd": ("CRD", ["CRD.FEAT.STUDENT_DIM", 64, "CRD.FEAT.TEACHER_DIM", 64]),
}


def few() -> DataSet:
    """The first of the random images of `bench_train`."""
    data = images()
    return replace(data, train=data.train.take(torch.arange(N_IMAGES)))


def spent() -> float:
    """Seconds of processors so far, those of ended children too."""
    return sum(os.times()[:4])


def ours(method: str, folder: Path) -> float:
    """Images per second of the trainer's later epochs."""
    teacher = folder / "teacher.safetensors"
    if not teacher.exists():
        save(create("resnet56", n_classes=N_CLASSES, image_size=32), teacher)
    costs = []
    for epochs in (1, 1 + EPOCHS):
        values = {
            "data": {"spec": "tests.benchmarks.bench_mdistiller:few", "workers": 0},
            "model": {"name": "resnet20"},
            "teacher": str(teacher),
            "method": {"name": method},
            "training": {"epochs": epochs, "batch_size": BATCH, "precision": "fp32"},
        }
        start = spent()
        train(parse(values, option_types()), Path(tempfile.mkdtemp(dir=folder)) / "run", device="cpu", quiet=True)
        costs.append(spent() - start)
    return EPOCHS * N_IMAGES / (costs[1] - costs[0])


def theirs(method: str, folder: Path) -> float:
    """Images per second of mdistiller's trainer in its later epochs."""
    from mdistiller.dataset import get_dataset
    from mdistiller.distillers import distiller_dict
    from mdistiller.engine import trainer_dict
    from mdistiller.engine.cfg import CFG
    from mdistiller.models import cifar_model_dict

    kind, given = METHODS[method]
    cfg = CFG.clone()
    cfg.DISTILLER.TYPE, cfg.DATASET.NUM_WORKERS, cfg.LOG.PREFIX, cfg.LOG.WANDB = kind, 0, str(folder / "logs"), False
    cfg.SOLVER.TRAINER = "crd" if kind == "CRD" else "base"
    cfg.merge_from_list(given)
    loader, judged, n_images, _ = get_dataset(cfg)
    teacher, student = (cifar_model_dict[name][0](num_classes=N_CLASSES) for name in ("resnet56", "resnet20"))
    more = (n_images,) if kind == "CRD" else ()
    distiller = nn.DataParallel(distiller_dict[kind](student, teacher, cfg, *more))
    trainer = trainer_dict[cfg.SOLVER.TRAINER](method, distiller, loader, judged, cfg)
    trainer.train_epoch(1)
    start = spent()
    for epoch in range(EPOCHS):
        trainer.train_epoch(2 + epoch)
    return EPOCHS * N_IMAGES / (spent() - start)


def prepare_theirs(checkout: str) -> None:
    """Random images in the place of CIFAR-100's, and no GPU."""
    sys.path.insert(0, checkout)
    data = few()

    def begin(self: Any, *_given: Any, train: bool = True, transform: Any = None, **_others: Any) -> None:
        split = data.train if train else data.test
        assert isinstance(split.images, torch.Tensor)
        self.data = np.ascontiguousarray(split.images.permute(0, 2, 3, 1).numpy())
        self.targets, self.transform, self.target_transform, self.train = split.labels.tolist(), transform, None, train

    datasets.CIFAR100.__init__ = begin  # type: ignore[method-assign]
    torch.Tensor.cuda = lambda self, *_given, **_options: self  # type: ignore[method-assign]
    torch.cuda.device_count = lambda: 0
    warnings.filterwarnings("ignore")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    options = parser.parse_args()
    prepare_theirs(options.checkout)
    with tempfile.TemporaryDirectory() as made:
        for method in options.methods:
            contenders = {
                "kdprobe": partial(ours, method, Path(made)),
                "mdistiller": partial(theirs, method, Path(made)),
            }
            taken = take_turns(contenders, options.turns)
            said = [f"{name} {statistics.median(speeds):,.0f} images/s" for name, speeds in taken.items()]
            ratio = statistics.median(a / b for a, b in zip(taken["kdprobe"], taken["mdistiller"], strict=True))
            print(f"{method}: {', '.join(said)} of a core; {ratio:.2f} times", flush=True)


if __name__ == "__main__":
    main()
