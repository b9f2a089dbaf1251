"""Images per second of reading photographs for a network of 224 px: kdprobe, exact and fast, against torchvision.

Run by `make bench-loader`. The photographs are JPEG files of 500x375 pixels, as those of ImageNet mostly are, and of
1600x1200 and 4032x3024, as cameras make them: parts of scikit-learn's two photographs, or the pictures of a folder of
one's own (`--pictures`), scaled with mild noise. Each contender cuts random parts, mirrors half of them and
standardises them, in batches of 64. The contenders take turns, and seconds are those of processors, workers' too, so
that a busy machine matters little.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from kdprobe.config import AugmentConfig
from kdprobe.data import DataSet, View, evaluation_batches, load_data, training_batches
from kdprobe.data.dataset import IMAGENET_MEAN, IMAGENET_STD
from kdprobe.data.decode import decode
from kdprobe.models.creation import ModelInfo
from tests.benchmarks.bench_train import take_turns

BATCH, SIDE = 64, 224
SIZES = {(500, 375): 320, (1600, 1200): 128, (4032, 3024): 32}
CUT = AugmentConfig(crop="resized")


def photographs(folder: Path, size: tuple[int, int], count: int, pictures: str | None) -> Path:
    """A folder of JPEG files of quality 90, as `folder:` and torchvision read it."""
    rng = np.random.default_rng(0)
    found = sorted(path for path in Path(pictures).rglob("*") if path.is_file()) if pictures else []
    for number in range(count):
        small = Image.open(found[number * len(found) // count]).convert("RGB") if found else part(number, rng)
        large = np.asarray(small.resize(size, Image.Resampling.BICUBIC), np.float32)
        noisy = large + rng.normal(0, 8, large.shape).astype(np.float32)
        path = folder / ("train" if number % 8 else "test") / f"class{number % 2}" / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noisy.clip(0, 255).round().astype(np.uint8)).save(path, quality=90)
    return folder


def part(number: int, rng: np.random.Generator) -> Image.Image:
    """A part of one of scikit-learn's photographs, four thirds as wide as it is high, at a random place."""
    whole = load_sample_images().images[number % 2]
    top, left = rng.integers(np.array(whole.shape[:2]) - (360, 480))
    return Image.fromarray(whole[top : top + 360, left : left + 480])


def ours(data: DataSet, *, workers: int, trains: bool) -> Iterable[Tensor]:
    """Standardised batches of kdprobe."""
    info = ModelInfo("any", 2, SIDE)
    if trains:
        batches = training_batches(data.train, batch_size=BATCH, augment=CUT, seed=0, epoch=0, workers=workers)
    else:
        batches = evaluation_batches(data.test, batch_size=BATCH, workers=workers)
    return (info.prepare(batch.images) for batch in batches)


def theirs(folder: Path, *, workers: int, trains: bool) -> Iterable[Tensor]:
    """Those of torchvision, as its training reference makes them."""
    random: list[object] = [transforms.RandomResizedCrop(SIDE), transforms.RandomHorizontalFlip()]
    centre: list[object] = [transforms.Resize(256), transforms.CenterCrop(SIDE)]
    last = [transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)]
    shown = transforms.Compose([*(random if trains else centre), *last])
    images = ImageFolder(str(folder / ("train" if trains else "test")), shown)
    return (batch for batch, _ in DataLoader(images, BATCH, shuffle=trains, num_workers=workers))


def cost(read: Callable[[], Iterable[Tensor]]) -> float:
    """Milliseconds of processors for one image."""
    before = os.times()
    count = sum(len(batch) for batch in read())
    after = os.times()
    return sum(two - one for one, two in zip(before[:4], after[:4], strict=True)) / count * 1e3


def difference(exact: DataSet, fast: DataSet, count: int = 100) -> tuple[float, int]:
    """The mean and the largest difference of pixels, of 255, of training images cut at random."""
    found = []
    for place in range(min(count, len(exact.train))):
        one, other = (
            decode(data.train.images, place, image_size=SIDE, source=torch.Generator().manual_seed(place))
            for data in (exact, fast)
            if not isinstance(data.train.images, Tensor)
        )
        found.append(np.abs(one.astype(int) - other))
    return float(np.mean(found)), int(np.max(found))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", help="folder of pictures to make photographs of, instead of scikit-learn's two")
    parser.add_argument("--turns", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for size, count in SIZES.items():
        with tempfile.TemporaryDirectory() as made:
            report(photographs(Path(made), size, count, options.pictures), size, options.turns)


def report(folder: Path, size: tuple[int, int], turns: int) -> None:
    """Measure on photographs of one size."""
    taken = [path.stat().st_size for path in folder.rglob("*.jpg")]
    print(f"photographs of {size[0]}x{size[1]}, {statistics.mean(taken) / 1000:,.0f} kB each", flush=True)
    sets = {
        how: load_data(f"imagenet:{folder}", image_size=SIDE, storage="files", view=View(decode=how))
        for how in ("exact", "fast")
    }
    mean, most = difference(*sets.values())
    print(f"  fast differs from exact by {mean:.3f} of 255, at most by {most}")
    for trains, workers in ((True, 0), (True, 2), (False, 0)):
        options = {"workers": workers, "trains": trains}
        contenders = {"torchvision": partial(theirs, folder, **options)}
        contenders |= {f"kdprobe {how}": partial(ours, data, **options) for how, data in sets.items()}
        costs = take_turns({name: partial(cost, read) for name, read in contenders.items()}, turns)
        for name, found in costs.items():
            ratio = statistics.median(one / other for one, other in zip(costs["torchvision"], found, strict=True))
            title = f"{'training' if trains else 'evaluation'}, {workers} workers: {name}"
            print(
                f"  {title:40} {1e3 / statistics.median(found):6,.0f} images/s of a core, {ratio:.2f} times", flush=True
            )


if __name__ == "__main__":
    main()
