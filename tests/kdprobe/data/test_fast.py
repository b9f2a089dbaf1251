"""Images that are decoded fast: nearly the same pixels, of no more of a JPEG file than is needed, and it is said."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, JpegImagePlugin

from analyses.evaluation.predictions import judge
from analyses.stored_pair import SeenSamples, require_same
from kdprobe.cli import main
from kdprobe.config import RunConfig, parse
from kdprobe.data import View, load_data
from kdprobe.data.augment import generator
from kdprobe.data.dataset import ImageFiles, Pictures
from kdprobe.data.decode import decode
from kdprobe.distillers import option_types
from kdprobe.errors import ConfigError, DataError, StoreError
from kdprobe.features.shared_images import open_views
from kdprobe.models import load, model_info
from kdprobe.results import load_result
from kdprobe.runs.compare import budget_differences, group
from kdprobe.runs.folder import RunFolder
from kdprobe.training import train
from kdprobe.training.build import data_of
from tests.kdprobe.data.test_decode import TURNED


def slopes(width: int, height: int) -> NDArray[np.uint8]:
    """Red grows to the right, green downwards: pixels that lie elsewhere are seen."""
    right, down = np.linspace(20, 230, width), np.linspace(20, 230, height)
    return np.stack(np.broadcast_arrays(right, down[:, None], np.float64(90)), 2).round().astype(np.uint8)


def saved(path: Path, pixels: NDArray[Any], mode: str = "RGB", **options: Any) -> ImageFiles:
    Image.fromarray(np.ascontiguousarray(pixels)).convert(mode).save(path, **options)
    return ImageFiles((str(path),))


def both(files: ImageFiles, image_size: int, seed: int | None = None) -> list[NDArray[np.int64]]:
    """The exact square and the fast one."""
    found = []
    for pictures in (files, files.seen(View(decode="fast"))):
        source = None if seed is None else generator(seed)
        found.append(decode(pictures, 0, image_size=image_size, source=source).astype(np.int64))
    return found


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Sizes at which JPEG files are decoded."""
    found, load = [], JpegImagePlugin.JpegImageFile.load

    def noted(self: JpegImagePlugin.JpegImageFile) -> Any:
        found.append(self.size)
        return load(self)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "load", noted)
    return found


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_the_same_part_of_a_turned_file_at_an_eighth(tmp_path: Path, orientation: int, seed: int | None) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.kron(slopes(29, 23), np.ones((7, 7, 1), np.uint8))  # 203 x 161: no side is divisible by 2
    files = saved(tmp_path / "x.jpg", TURNED[orientation](pixels), quality=100, subsampling=0, exif=exif)
    exact, fast = both(files, 8, seed)
    assert np.abs(exact - fast).max() <= 9  # from one pixel of the square to the next are up to 26
    assert np.abs(exact - fast).mean() <= 2.5


@pytest.mark.parametrize(
    ("wide", "side", "decoded"),
    [(160, 20, 20), (159, 20, 40), (160, 40, 40), (160, 41, 80), (161, 41, 81), (160, 81, 160)],
)
def test_a_pixel_is_left_for_each(
    tmp_path: Path, sizes: list[tuple[int, int]], wide: int, side: int, decoded: int
) -> None:
    both(saved(tmp_path / "x.jpg", slopes(wide, wide)), side)
    assert [*dict.fromkeys(sizes)] == [*dict.fromkeys([(wide, wide), (decoded, decoded)])]


def test_where_nothing_is_left_out_pixels_differ_at_the_border_alone(tmp_path: Path) -> None:
    files = saved(tmp_path / "x.jpg", np.random.default_rng(0).integers(256, size=(60, 80, 3), dtype=np.uint8))
    for seed in range(8):
        exact, fast = both(files, 48, seed)
        assert np.abs(exact - fast)[:, 4:-4, 4:-4].max() <= 1
    exact, fast = both(files, 60)
    assert np.array_equal(exact, fast)


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("x.jpg", "L", {}),
        ("x.jpg", "CMYK", {}),
        ("x.jpg", "RGB", {"progressive": True}),
        ("x.mpo", "RGB", {"save_all": True, "append_images": [Image.new("RGB", (160, 120))]}),
        ("x.png", "RGB", {}),
        ("x.png", "RGBA", {}),
        ("x.gif", "P", {}),
        ("x.webp", "RGB", {"quality": 95}),
    ],
)
def test_every_kind_of_file(tmp_path: Path, name: str, mode: str, options: dict[str, Any]) -> None:
    path = tmp_path / ("x.jpg" if name == "x.mpo" else name)
    files = saved(path, slopes(160, 120), mode, **options, **({"format": "MPO"} if name == "x.mpo" else {}))
    for seed in (None, 3):
        exact, fast = both(files, 16, seed)
        assert np.abs(exact - fast).max() <= 12
        assert np.abs(exact - fast).mean() <= 3


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (1, 90), (9, 7)])
@pytest.mark.parametrize("name", ["x.jpg", "x.png"])
def test_tiny_images(tmp_path: Path, size: tuple[int, int], name: str) -> None:
    files = saved(tmp_path / name, np.full((*size, 3), 77, np.uint8), quality=100)
    for fraction, squash in ((0.01, False), (0.875, False), (1.0, True)):
        shown = replace(files, crop_fraction=fraction, squash=squash)
        exact, fast = both(shown, 8)
        assert fast.shape == (3, 8, 8)
        assert np.abs(exact - fast).max() <= 1
        assert both(shown, 8, seed=0)[1].shape == (3, 8, 8)


@pytest.mark.parametrize("interpolation", ["bilinear", "lanczos", "nearest", "box"])
def test_every_interpolation(tmp_path: Path, interpolation: str) -> None:
    files = replace(saved(tmp_path / "x.jpg", slopes(90, 70)), interpolation=interpolation)
    exact, fast = both(files, 48)
    assert np.abs(exact - fast).max() <= (1 if interpolation in ("lanczos", "nearest", "box") else 4)


@pytest.mark.parametrize("kept", [0, 2, 300, 700, 1500])
def test_damaged_files_are_refused_as_exact_ones(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "x.jpg"
    files = saved(path, np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:kept])
    said = []
    for pictures in (files, files.seen(View(decode="fast"))):
        with pytest.raises(DataError, match=r"x\.jpg cannot be decoded as an image") as caught:
            decode(pictures, 0, image_size=8)
        said.append(str(caught.value))
    assert said[0] == said[1]


def test_a_mistyped_way_is_refused() -> None:
    with pytest.raises(DataError, match=r"images cannot be decoded 'fats'; did you mean 'fast'"):
        ImageFiles(("a.jpg",)).seen(View(decode="fats"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of 8 training and 4 test photographs."""
    root, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    for number in range(24):
        path = root / ("test" if number % 3 == 0 else "train") / "ab"[number % 2] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        saved(path, rng.integers(256, size=(80, 96, 3), dtype=np.uint8))
    return root


def config(folder: Path, **data: Any) -> RunConfig:
    values = {
        "data": {"spec": f"folder:{folder}", "image_size": 16, "workers": 0, **data},
        "model": {"name": "resnet8"},
        "training": {"epochs": 1, "batch_size": 8},
    }
    return parse(values, option_types())


@pytest.fixture(scope="module")
def runs(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each way."""
    out = tmp_path_factory.mktemp("runs")
    for how in ("exact", "fast"):
        train(config(folder, decode=how), out / how, device="cpu", quiet=True)
    return {how: out / how for how in ("exact", "fast")}


def test_a_run_says_so(runs: dict[str, Path]) -> None:
    for how, path in runs.items():
        assert RunFolder(path).values()["data"]["decode"] == how
        said = None if how == "exact" else how
        assert RunFolder(path).result().get("decode") == said
        assert model_info(load(str(path))).view.decode == said
    groups = group([RunFolder(path) for path in runs.values()])
    assert budget_differences(groups) == "budgets differ in decoding (exact, fast)"


def test_a_network_is_judged_as_its_run_was(runs: dict[str, Path], tmp_path: Path) -> None:
    exact, fast = map(str, runs.values())
    (one,), (other,), (third,) = judge(fast), judge(fast, view=View(decode="exact")), judge(exact)
    right = (one.logits.argmax(1) == one.data.test.labels).float().mean().item()
    assert right == pytest.approx(RunFolder(runs["fast"]).result()["accuracy"])
    assert not torch.equal(one.logits, other.logits)
    assert [judged.origin().get("decode") for judged in (one, other, third)] == ["fast", None, None]
    for pair, how in (((exact, fast), None), ((fast, fast), "fast")):
        views = open_views(dict(zip(("teacher", "student"), pair, strict=True)))
        assert [model_info(model).view.decode for model in views.models.values()] == [how, how]
    out = tmp_path / "judged"
    assert not main(["evaluate", "--checkpoint", exact, "--decode", "fast", "--out", str(out), "--quiet"])
    assert load_result(out / "evaluation.npz", kind="evaluation").provenance["models"][0]["decode"] == "fast"


def test_a_teacher_s_outputs_are_of_one_way(folder: Path, runs: dict[str, Path], tmp_path: Path) -> None:
    store = tmp_path / "store"
    for count, how in enumerate(runs, start=1):
        chosen = config(folder, decode=how).model_dump(mode="json")
        chosen |= {"teacher": str(runs["exact"]), "teacher_facts": {"store": str(store)}, "method": {"name": "kd"}}
        train(parse(chosen, option_types()), tmp_path / how, device="cpu", quiet=True)
        kept = {path.parent.name: json.loads(path.read_text())["images"] for path in store.glob("*/views.json")}
        assert len(kept) == count
    assert sorted(images.get("decode", "") for images in kept.values()) == ["", "fast"]


def test_training_and_test_images_are_decoded_alike(folder: Path) -> None:
    data = load_data(f"folder:{folder}", storage="files", view=View(0.5, decode="fast"))
    fraction = {}
    for name, split in (("train", data.train), ("test", data.test)):
        assert isinstance(split.images, Pictures)
        assert split.images.fast
        fraction[name] = split.images.crop_fraction
    assert fraction == {"train": 1.0, "test": 0.5}
    assert data.shown.view == View(0.5, "bicubic", "center", "fast")
    in_memory = [load_data(f"folder:{folder}", image_size=16, view=View(decode=how)) for how in ("exact", "fast")]
    one, other = (torch.as_tensor(data.train.images) for data in in_memory)
    assert not torch.equal(one, other)


def test_images_in_memory_are_not_decoded() -> None:
    with pytest.raises(ConfigError, match=r"data\.decode 'fast' is for images that are decoded, but digits has none"):
        data_of(parse({"data": {"spec": "digits", "decode": "fast"}, "model": {"name": "resnet8"}}, option_types()))


def test_dumps_of_different_ways_are_not_compared() -> None:
    def seen(**preprocessing: Any) -> SeenSamples:
        return SeenSamples("x.h5", "folder:x", "abc", preprocessing, torch.arange(3), torch.arange(3))

    require_same(seen(), seen(decode="exact"))
    with pytest.raises(StoreError, match=r"shown with decode exact for x\.h5, but with decode fast .*and --decode"):
        require_same(seen(), seen(decode="fast"))
