"""A pretrained Transformer without a head teaches a CNN, from weights file to report, by commands alone.

With KDPROBE_TRIAL=FOLDER, which holds `weights.safetensors` (a DINOv2 ViT-S/14 in timm's names) and `images/`, on a
few of these; otherwise on random weights and coloured squares.
"""

import argparse
import json
import os
import shutil
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from tests import killable
from tests.benchmarks.foreign_teacher import DINO, Study

TRAIN, TEST, N_CLASSES = 16, 8, 3


def stand_ins(place: Path) -> dict[str, object]:
    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=0, img_size=64)
    save_file(network.state_dict(), place / "weights.safetensors")
    numbers = np.random.default_rng(0)
    for part, count in (("train", TRAIN), ("val", TEST)):
        for label in range(N_CLASSES):
            folder = place / "images" / part / f"class{label}"
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = numbers.integers(0, 60, (48, 48, 3))
                pixels[:, :, label] += 150
                Image.fromarray(pixels.astype("uint8")).save(folder / f"{number}.png")
    return {"teacher": "vit_tiny_patch16_224", "teacher_size": 48, "student_size": 32}


def a_few_of(trial: Path, place: Path) -> dict[str, object]:
    shutil.copy(trial / "weights.safetensors", place)
    for part, count in (("train", TRAIN), ("val", TEST)):
        for folder in sorted((trial / "images" / part).iterdir())[:N_CLASSES]:
            (place / "images" / part / folder.name).mkdir(parents=True)
            for file in sorted(folder.iterdir())[:count]:
                shutil.copy(file, place / "images" / part / folder.name)
    return {"teacher": DINO, "teacher_size": 98, "student_size": 64}


class Forked(Study):
    """Its commands run in processes that have imported what takes long."""

    def command(self, words: list[str]) -> CompletedProcess[str]:
        return killable.finished(words, self.out / "told.txt")


@pytest.mark.slow(first=True)
def test_a_headless_transformer_teaches_a_cnn(tmp_path):
    trial = os.environ.get("KDPROBE_TRIAL")
    networks = stand_ins(tmp_path) if trial is None else a_few_of(Path(trial), tmp_path)
    told = argparse.Namespace(
        weights=tmp_path / "weights.safetensors",
        data=tmp_path / "images",
        out=tmp_path / "out",
        student="resnet18",
        epochs=1,
        batch_size=16,
        per_class=None,
        device="cpu",
        jobs=1,
        **networks,
    )
    Forked(told).run()
    found = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert found["head"]["accuracy"] > 1 / N_CLASSES
    assert found["unlabelled-rkd"]["accuracy"] is None
    assert "trained without labels" in found["unlabelled-rkd"]["printed"]
    assert "linear probe" in found["unlabelled-rkd-linear"]["printed"]
    assert "resampled" in found["headless-rkd"]["said"]
    assert found["loops"]["equal"]
    report = (tmp_path / "out" / "results" / "report.html").read_text()
    for said in ("CKA", "unlabelled-rkd", "head-dropkd", "general"):
        assert said in report
    assert {path.suffix for path in (tmp_path / "out" / "exported").iterdir()} >= {".onnx", ".pt2", ".safetensors"}
