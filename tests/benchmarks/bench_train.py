"""Images per second of the trainer against bare loops and a peer: ResNet56 to ResNet20 by vanilla KD, batch 64.

Run by `make bench-train`. The contenders take turns and their medians are compared, so that a busy machine slows all
of them alike. The bare loop takes preloaded, normalised tensors and does nothing but forward, backward and step; the
trainer shifts, flips and normalises its images, logs and keeps its metrics. The peer, torchdistill, varies images one
by one in its data loader, which is no matter of its loop: it is given the bare loop's tensors, layout and autocast, and
compared with the trainer without augmentation ("still"). Without the `bench` extra it is left out.
"""

import argparse
import logging
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdprobe.config import RunConfig, parse
from kdprobe.data import DataSet, Split
from kdprobe.distillers import option_types
from kdprobe.distillers.kd import kd_loss
from kdprobe.models import create
from kdprobe.models.checkpoint import save
from kdprobe.runs.folder import RunFolder
from kdprobe.training import train
from kdprobe.training.saving import Keeper
from tests.benchmarks.timed import timed

BATCH = 64
N_CLASSES = 100
N_IMAGES = 2048
PRECISIONS = ("fp32", "bf16")


def images(image_size: int | None = None) -> DataSet:
    """Random images as large as CIFAR's: speed does not depend on what they show."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (N_IMAGES, 3, 32, 32), dtype=torch.uint8, generator=generator)
    labels = torch.arange(N_IMAGES) % N_CLASSES
    train_split = Split(pixels, labels, 32)
    test_split = Split(pixels[:N_CLASSES], labels[:N_CLASSES], 32)
    names = tuple(map(str, range(N_CLASSES)))
    return DataSet("synthetic", train_split, test_split, names, (0.5,) * 3, (0.25,) * 3, 32)


def trainer_speed(precision: str, folder: Path, device: torch.device, *, still: bool = False) -> float:
    """Images per second of the whole trainer, over its second epoch, with or without augmentation."""
    still_ones = {"augment": {"crop": "none", "flip": False}} if still else {}
    settings = {"epochs": 2, "batch_size": BATCH, "precision": precision, "saving": {"epochs": 2}}
    config = _config(folder, {"name": "kd"}, training=settings, data=still_ones)
    out = Path(tempfile.mkdtemp(dir=folder)) / "run"
    train(config, out, device=str(device), quiet=True)
    speed: float = RunFolder(out).metrics()[-1]["images_per_second"]
    return speed


def _config(
    folder: Path, method: dict[str, Any], *, training: dict[str, Any], data: dict[str, Any] | None = None
) -> RunConfig:
    """A student of a teacher that has not learnt anything."""
    teacher = folder / "teacher.safetensors"
    if not teacher.exists():
        save(create("resnet56", n_classes=N_CLASSES, image_size=32), teacher)
    values = {
        "data": {"spec": "tests.benchmarks.bench_train:images", **(data or {})},
        "model": {"name": "resnet20"},
        "teacher": str(teacher),
        "method": method,
        "training": training,
    }
    return parse(values, option_types())


def saving_share(folder: Path, device: torch.device) -> tuple[float, float]:
    """Processor seconds of saving, and of the whole training: ResNet56 to ResNet20 by DropKD, at the defaults."""
    taken = [0.0]

    def timed_save(save_something: Callable[..., None]) -> Callable[..., None]:
        def saved(*args: Any, **options: Any) -> None:
            start = time.process_time()
            try:
                save_something(*args, **options)
            finally:
                taken[0] += time.process_time() - start

        return saved

    config = _config(folder, {"name": "dropkd"}, training={"epochs": 4, "batch_size": BATCH})
    names = ("begin", "save_epoch", "save_inside")
    with patch.multiple(Keeper, **{name: timed_save(getattr(Keeper, name)) for name in names}):
        start = time.process_time()
        train(config, Path(tempfile.mkdtemp(dir=folder)) / "run", device=str(device), quiet=True)
    return taken[0], time.process_time() - start


def tensors(device: torch.device) -> tuple[Tensor, Tensor]:
    """Preloaded, normalised images and their labels."""
    split = images().train
    assert isinstance(split.images, Tensor)
    return ((split.images.float() / 255 - 0.5) / 0.25).to(device), split.labels.to(device)


def networks(device: torch.device) -> tuple[nn.Module, nn.Module]:
    """Teacher, frozen, and student."""
    teacher, student = (
        create(name, n_classes=N_CLASSES, image_size=32).to(device) for name in ("resnet56", "resnet20")
    )
    return teacher.eval().requires_grad_(False), student.train()


def arithmetic(precision: str, device: torch.device) -> tuple[bool, torch.memory_format]:
    """Whether the forward pass is in half precision, and the layout that the trainer chooses then."""
    half = precision != "fp32"
    return half, torch.channels_last if half or device.type == "cuda" else torch.contiguous_format


def bare_speed(precision: str, device: torch.device) -> float:
    """Images per second of a loop that does nothing else, in the trainer's precision and layout."""
    x, y = tensors(device)
    teacher, student = networks(device)
    half, layout = arithmetic(precision, device)
    x, teacher, student = (thing.to(memory_format=layout) for thing in (x, teacher, student))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, fused=True)

    def epoch() -> None:
        for index in torch.randperm(len(x), device=device).split(BATCH):
            batch, labels = x[index].contiguous(memory_format=layout), y[index]
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
                with torch.no_grad():
                    taught = teacher(batch)
                logits = student(batch)
            logits = logits.float()
            loss = 0.1 * F.cross_entropy(logits, labels) + 0.9 * kd_loss(logits, taught.float(), temperature=4.0)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return N_IMAGES / timed(epoch, device)


def peer_speed(precision: str, device: torch.device) -> float:
    """Images per second of torchdistill's loop on the bare loop's tensors in the trainer's precision and layout."""
    import torchdistill
    from torchdistill.core.distillation import get_distillation_box

    logging.getLogger("torchdistill").setLevel(logging.ERROR)
    assert torchdistill
    x, y = tensors(torch.device("cpu"))
    half, layout = arithmetic(precision, device)
    teacher, student = (network.to(memory_format=layout) for network in networks(device))
    sampler = {"class_or_func": torch.utils.data.RandomSampler}
    loader = {"dataset_id": "train", "sampler": sampler, "kwargs": {"batch_size": BATCH, "num_workers": 0}}
    optimizer = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
    logits = {"student_module_path": ".", "student_module_io": "output"}
    logits |= {"teacher_module_path": ".", "teacher_module_io": "output"}
    criterion = {"key": "KDLoss", "kwargs": {**logits, "temperature": 4.0, "alpha": 0.1}}
    config: dict[str, Any] = {
        "num_epochs": 2,
        "train_data_loader": loader,
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False, "sequential": []},
        "student": {"forward_proc": "forward_batch_only", "sequential": []},
        "optimizer": {"key": "SGD", "kwargs": optimizer},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": criterion, "weight": 1.0}}},
        },
    }
    sets = {"train": torch.utils.data.TensorDataset(x, y)}
    box = get_distillation_box(teacher, student, sets, config, device, None, False, 1)

    def epoch() -> None:
        box.pre_epoch_process(epoch=0)
        for sample_batch, targets, supplement in box.train_data_loader:
            box.pre_forward_process()
            batch = sample_batch.to(device).contiguous(memory_format=layout)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half):
                loss = box.forward_process(batch, targets.to(device), supp_dict=supplement)
            box.post_forward_process(loss=loss)

    return N_IMAGES / timed(epoch, device)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--saving", action="store_true", help="what saving takes of a training, and nothing else")
    options = parser.parse_args()
    device = torch.device(options.device)
    if options.saving:
        with tempfile.TemporaryDirectory() as folder:
            saving, whole = saving_share(Path(folder), device)
        print(f"saving: {saving:.2f} of {whole:.1f} processor seconds, {saving / whole:.2%} of a training")
        return
    with tempfile.TemporaryDirectory() as folder:
        taken = take_turns(contenders(Path(folder), device, options.precisions), options.turns)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    print(f"ResNet56 to ResNet20, KD, batch {BATCH}, 32x32; torch {torch.__version__}, {where}; {options.turns} turns")
    for name, speeds in taken.items():
        turns = ", ".join(f"{speed:,.0f}" for speed in speeds)
        print(f"{name:20} {statistics.median(speeds):9,.0f} images/s   (turns: {turns})")
    for one, other in (("kdprobe", "bare"), ("kdprobe still", "torchdistill")):
        for precision in options.precisions:
            print_ratio(taken, f"{one} {precision}", f"{other} {precision}")


def contenders(
    folder: Path, device: torch.device, precisions: Sequence[str] = PRECISIONS
) -> dict[str, Callable[[], float]]:
    """What is measured, by name."""
    found: dict[str, Callable[[], float]] = {}
    for precision in precisions:
        found[f"bare {precision}"] = partial(bare_speed, precision, device)
        found[f"kdprobe {precision}"] = partial(trainer_speed, precision, folder, device)
        found[f"kdprobe still {precision}"] = partial(trainer_speed, precision, folder, device, still=True)
        found[f"torchdistill {precision}"] = partial(peer_speed, precision, device)
    return found


def take_turns(measures: dict[str, Callable[[], float]], turns: int) -> dict[str, list[float]]:
    """Images per second of each contender in each turn; a peer that is not installed is left out."""
    taken: dict[str, list[float]] = {}
    for _ in range(turns):
        for name, measure in measures.items():
            with suppress(ImportError):
                speed = measure()
                taken.setdefault(name, []).append(speed)
    return taken


def print_ratio(taken: dict[str, list[float]], one: str, other: str) -> None:
    """Compare two contenders turn by turn."""
    if other in taken:
        ratio = statistics.median(a / b for a, b in zip(taken[one], taken[other], strict=True))
        print(f"{one} / {other}: {ratio:.3f} (median of the turns' ratios)")


if __name__ == "__main__":
    main()
