"""How image files are shown to published networks: their own crop and interpolation, as timm shows them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from analyses.evaluation.predictions import judge
from kdprobe.cli import main
from kdprobe.data import View, load_data
from kdprobe.data.dataset import ImageFiles
from kdprobe.data.decode import decode
from kdprobe.errors import DataError
from kdprobe.features.shared_images import open_views
from kdprobe.models.checkpoint import save
from kdprobe.models.creation import ModelInfo, create, model_info, published_view, relabel
from kdprobe.results import load_result


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    smooth = torch.nn.functional.interpolate(torch.from_numpy(rng.random((12, 3, 6, 9))), (64, 96), mode="bicubic")
    for place, image in enumerate(smooth.clamp(0, 1).permute(0, 2, 3, 1).numpy()):
        path = tmp_path / "images" / ("train" if place % 2 else "test") / "ab"[place % 4 // 2] / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * image).astype(np.uint8)).save(path)
    return tmp_path / "images"


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("mode", "crop_pct"), [("center", 0.5), ("center", 1.0), ("squash", 1.0), ("squash", 0.5)])
def test_pixels_are_those_of_timm(folder: Path, interpolation: str, mode: str, crop_pct: float) -> None:
    path = next(folder.rglob("0.png"))
    seen = ImageFiles((str(path),)).seen(View(crop_pct, interpolation, mode))
    ours = decode(seen, 0, image_size=32)
    transform = create_transform(
        (3, 32, 32), crop_pct=crop_pct, interpolation=interpolation, crop_mode=mode, mean=(0, 0, 0), std=(1, 1, 1)
    )
    theirs = 255 * transform(Image.open(path)).numpy()  # type: ignore[operator]
    assert np.abs(ours - theirs).mean() < 1.0  # of 255; they resize and crop in two steps
    assert np.abs(ours - theirs).max() < 12


def test_a_view_leaves_to_the_next_one_what_it_does_not_say(folder: Path) -> None:
    own = View(0.9, "bilinear", "center")
    assert View(interpolation="box").otherwise(own) == View(0.9, "box", "center")
    split = load_data(f"folder:{folder}", image_size=16, storage="files", view=View(0.9)).test
    assert isinstance(split.images, ImageFiles)
    assert split.images.crop_fraction == 0.9
    assert split.images.interpolation == "bicubic"
    info = ModelInfo("x", 2, 8, view=own)
    stored = json.loads(json.dumps(info.to_json()))
    assert ModelInfo.from_json(stored) == info
    for wrong in ([1], {"crop_pct": "all"}, {"interpolation": 3}):
        with pytest.raises(TypeError, match="view is"):
            ModelInfo.from_json({**stored, "view": wrong})
    assert "view" not in replace(info, view=View()).to_json()
    published = published_view({"crop_pct": 0.95, "interpolation": "bilinear", "crop_mode": "squash"})
    assert published == View(0.95, "bilinear", "squash")


def test_what_cannot_be_shown_is_said() -> None:
    files = ImageFiles(("a.png",))
    with pytest.raises(DataError, match=r"crop_pct must be above 0 and at most 1, but is 1\.5"):
        files.seen(View(1.5))
    with pytest.raises(DataError, match=r"no interpolation 'cubic'; did you mean 'bicubic'"):
        files.seen(View(interpolation="cubic"))
    with pytest.raises(DataError, match=r"measured with crop_mode 'border', but .*; give --crop-pct"):
        files.seen(View(1.0, crop_mode="border"))


def _network(path: Path, view: View) -> str:
    torch.manual_seed(0)
    model = create("resnet8", n_classes=2, image_size=32, classes=("a", "b"))
    save(relabel(model, view=view), path)
    return str(path)


def test_networks_are_judged_on_their_own_view(folder: Path, tmp_path: Path) -> None:
    checkpoints = [_network(tmp_path / f"{name}.safetensors", view) for name, view in
                   (("own", View(0.5, "bilinear")), ("open", View()))]  # fmt: skip
    own, left = judge(checkpoints, f"folder:{folder}")
    assert model_info(create("resnet8", n_classes=2, image_size=32)).view == View()
    assert not torch.equal(own.logits, left.logits)
    told = judge(checkpoints, f"folder:{folder}", view=View(1.0, "bicubic"))
    assert torch.equal(told[0].logits, left.logits)
    assert torch.equal(told[0].logits, told[1].logits)


def test_networks_that_are_compared_see_the_same_part(folder: Path, tmp_path: Path) -> None:
    views = [View(0.5, "bilinear"), View()]
    paths = [_network(tmp_path / f"{place}.safetensors", view) for place, view in enumerate(views)]

    def pixels(teacher: str, student: str, **options: View) -> list[torch.Tensor]:
        found = open_views({"teacher": teacher, "student": student}, data=f"folder:{folder}", **options)
        return [torch.as_tensor(split.images) for split in found.splits.values()]

    mixed = pixels(paths[0], paths[1])
    assert torch.equal(*mixed)
    assert torch.equal(mixed[0], pixels(paths[1], paths[1])[0])
    assert not torch.equal(mixed[0], pixels(paths[0], paths[0])[0])
    assert torch.equal(pixels(*paths, view=views[0])[0], pixels(paths[0], paths[0])[0])


@pytest.mark.parametrize("view", [View(0.5), View(interpolation="box"), View(decode="fast")])
def test_images_in_memory_take_no_view(tmp_path: Path, view: View) -> None:
    checkpoint = _network(tmp_path / "net.safetensors", View(0.5, "bilinear"))
    message = "cannot be chosen for digits, whose images are made already; leave --crop-pct, "
    with pytest.raises(DataError, match=message):
        judge([checkpoint], "digits", view=view, same_classes=False)
    with pytest.raises(DataError, match=message):
        open_views({"student": checkpoint}, data="digits", view=view)
    assert open_views({"student": checkpoint}, data="digits").n_samples == 359


@pytest.mark.slow
def test_the_command_sets_it(folder: Path, tmp_path: Path) -> None:
    path, values = _network(tmp_path / "net.safetensors", View(0.5)), []
    for place, options in enumerate(([], ["--crop-pct", "1"], ["--crop-pct", "0.5", "--interpolation", "bicubic"])):
        out = tmp_path / str(place)
        assert not main(
            ["evaluate", "--checkpoint", path, "--data", f"folder:{folder}", "--out", str(out), "--quiet", *options]
        )
        values.append(load_result(out / "evaluation.npz", kind="evaluation").arrays["confidences"])
    assert np.array_equal(values[0], values[2])
    assert not np.array_equal(values[0], values[1])
