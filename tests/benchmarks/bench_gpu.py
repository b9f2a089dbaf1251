"""What training, CKA and dumps cost on a GPU; run by `make bench-gpu`, or on a CPU with `--smoke`. About 6 minutes.

* Training: ResNet56 teaches ResNet20 by vanilla KD and by DropKD on made-up images of 32 px, as they are and with
  `training.compile`, which replays CUDA graphs there. The time of an epoch is the second one's, as the first one
  prepares kernels, and is projected to 240 epochs of 50,000 images.
* CKA: 61 x 87 layers of ResNet18 and ViT-tiny at 224 px, over two bare forward passes, and pytorch-cka beside it.
* Dumps: of ResNet56's stages, over bare forward passes of the same images.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import torch

import kdprobe
from kdprobe.config import parse
from kdprobe.data import DataSet, Split, evaluation_batches
from kdprobe.devices import pick_device
from kdprobe.distillers import option_types
from kdprobe.features.dump import Dump, write_dump
from kdprobe.features.shared_images import Views
from kdprobe.models import create
from kdprobe.models.creation import model_info
from kdprobe.runs.folder import RunFolder
from kdprobe.training import train
from tests.benchmarks.bench_cka import speed
from tests.benchmarks.timed import timed

N_IMAGES, LITTLE = 10_000, 32  # of an epoch
PROJECTED = 240, 50_000  # epochs, and images of each


def noise(image_size: int | None = None, n_images: int = N_IMAGES) -> DataSet:
    """Images and labels without a meaning."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n_images, 3, 32, 32), dtype=torch.uint8, generator=generator)
    train_split = Split(images, torch.arange(n_images) % 100, 32)
    classes, half = tuple(map(str, range(100))), (0.5, 0.5, 0.5)
    test = train_split.take(torch.arange(n_images // 2))
    return DataSet("noise", train_split, test, classes, half, half, 32)


def little_noise(image_size: int | None = None) -> DataSet:
    """The first few of these."""
    return noise(n_images=LITTLE)


def versions(device: torch.device) -> str:
    """A row of a table: card, driver, CUDA, torch, kdprobe."""
    is_gpu = device.type == "cuda"
    card = torch.cuda.get_device_name(device) if is_gpu else "CPU"
    found = (card, _driver() if is_gpu else "none", torch.version.cuda or "none", torch.__version__)
    return row(*found, kdprobe.__version__)


def _driver() -> str:
    """The version of the driver, as `nvidia-smi` says it."""
    if shutil.which("nvidia-smi") is None:
        return "unknown"
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    said = subprocess.run(asked, capture_output=True, text=True, check=False)
    return said.stdout.split("\n")[0].strip() or "unknown"


def row(*cells: object) -> str:
    """A row of a table in Markdown."""
    return "| " + " | ".join(map(str, cells)) + " |"


def heading(*names: str) -> str:
    """The first two rows."""
    return f"\n{row(*names)}\n{row(*['---'] * len(names))}"


def epoch_seconds(folder: Path, teacher: Path, method: str, data: str, *, compiled: bool, device: str) -> float:
    """Seconds of the second epoch of a training."""
    size = {"epochs": 2, "batch_size": 64 if data == "noise" else 16}
    values = {
        "data": {"spec": f"tests.benchmarks.bench_gpu:{data}"},
        "model": {"name": "resnet20"},
        "teacher": str(teacher),
        "method": {"name": method},
        "training": {"compile": compiled, "evaluate": "end", **size},
    }
    train(parse(values, option_types(), source="bench"), folder, device=device, quiet=True)
    return float(RunFolder(folder).metrics()[-1]["seconds"])


def trainings(folder: Path, device: torch.device, *, little: bool) -> Iterator[str]:
    """Rows of a table, each when it is known."""
    teacher = folder / "teacher.safetensors"
    kdprobe.models.save(create("resnet56", n_classes=100, image_size=32), teacher)
    epochs, n_projected = PROJECTED
    yield heading("method", "compile", "images/s", f"hours for {epochs} epochs of {n_projected:,} images")
    for method in ("kd", "dropkd"):
        for compiled in (False,) if little else (False, True):
            out, data = folder / f"{method}-{compiled}", "little_noise" if little else "noise"
            found = epoch_seconds(out, teacher, method, data, compiled=compiled, device=str(device))
            pace = (LITTLE if little else N_IMAGES) / found
            yield row(method, compiled, f"{pace:.0f}", f"{epochs * n_projected / pace / 3600:.2f}")


def similarities(device: torch.device, *, sizes: Sequence[int], minibatches: int, rounds: int) -> Iterator[str]:
    """Rows of a table."""
    methods = ["kdprobe", "pytorch-cka"]
    if find_spec("cka") is None:
        methods.remove("pytorch-cka")
        yield "\npytorch-cka is not installed, so kdprobe stands alone: python -m pip install '.[bench]'"
    yield heading("CKA by", "minibatches of", "over two bare passes", "peak memory in GB")
    for size in sizes:
        options = {"minibatches": minibatches, "rounds": rounds, "methods": methods}
        found = speed(size, device=device, to=sys.stderr, **options)
        yield from (row(name, size, f"{ratio:.2f}", f"{peak:.2f}") for name, ratio, peak in found)


def dumps(folder: Path, device: torch.device, *, little: bool) -> Iterator[str]:
    """Rows of a table."""
    split = (little_noise if little else noise)().test
    network = create("resnet56", n_classes=100, image_size=32).to(device).eval()
    shown = Views("noise", {"teacher": network}, {"teacher": split})

    @torch.inference_mode()
    def bare() -> None:
        for batch in evaluation_batches(split, batch_size=256, device=device):
            network(model_info(network).normalise(batch.images))

    alone = timed(bare, device)
    yield heading("dump of stages", "images/s", "over bare passes")
    yield row("none", f"{len(split) / alone:.0f}", "1.00")
    for reduce, dtype in (("whole", "float32"), ("whole", "float16"), ("gap", "float32")):
        dump = Dump.of(shown, batch_size=256, device=device, dtype=dtype, reduce=reduce, compression="none")
        took = timed(partial(write_dump, dump, folder / "features.h5", overwrite=True), device)
        yield row(f"{reduce}, {dtype}", f"{len(split) / took:.0f}", f"{took / alone:.2f}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--smoke", action="store_true", help="with few images and nothing compiled, to see that it runs"
    )
    args = parser.parse_args()
    device = pick_device(args.device)
    small = {"sizes": (4,), "minibatches": 1, "rounds": 1}
    full = {"sizes": (32, 64, 128), "minibatches": 4, "rounds": 3}
    print(heading("card", "driver", "CUDA", "torch", "kdprobe"), versions(device), sep="\n", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = (
            similarities(device, **(small if args.smoke else full)),
            dumps(folder, device, little=args.smoke),
            trainings(folder, device, little=args.smoke),
        )
        for line in chain(*tables):
            print(line, flush=True)


if __name__ == "__main__":
    main()
