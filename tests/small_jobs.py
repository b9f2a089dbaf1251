"""One small training of each method, whose networks have not learnt anything."""

from pathlib import Path

import torch

import kdprobe
from kdprobe.config import RunConfig, override, parse
from kdprobe.distillers import DISTILLERS, option_types
from kdprobe.recipe import read_recipe
from kdprobe.training.build import Job, build

VIT = {"patch_size": 4, "embed_dim": 48, "depth": 2, "num_heads": 3}
#: methods of one family of networks; all others distil a ResNet into a ResNet
TEACHERS = {"cakd": "vit_tiny_patch16_224"}
STUDENTS = dict.fromkeys(("deit", "cskd"), "deit_tiny_distilled_patch16_224")
TINY = (
    "data.per_class=2", "training.batch_size=7", "training.epochs=3", "training.precision=fp32", "method={name: plain}"
)  # fmt: skip


def save_teachers(folder: Path) -> dict[str, Path]:
    """A ResNet and a vision transformer, by name."""
    found = {}
    for name, args in (("resnet8", {}), ("vit_tiny_patch16_224", VIT)):
        found[name] = folder / f"{name}.safetensors"
        kdprobe.models.save(kdprobe.models.create(name, n_classes=10, image_size=16, args=args), found[name])
    return found


def job_of(teachers: dict[str, Path], method: str, *assignments: str, device: str = "cpu") -> tuple[RunConfig, Job]:
    """A training of three steps an epoch, and what it needs."""
    given = [f"method.name={method}"]
    if method in STUDENTS:
        given += [f"model={{name: {STUDENTS[method]}, args: {VIT}}}"]
    if DISTILLERS[method].uses_teacher:
        given += [f"teacher={teachers[TEACHERS.get(method, 'resnet8')]}"]
    values = override(read_recipe("digits/demo-student"), [*TINY, *given, *assignments])
    config = parse(values, option_types(), source="test")
    return config, build(config, torch.device(device))
