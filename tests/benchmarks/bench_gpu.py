"""What training and looking inside cost on a GPU; run by `make bench-gpu`, or on a CPU with `--smoke`.

ResNet56 teaches ResNet20 by vanilla KD and by DropKD on 50,000 made-up images of 32 px, as they are and compiled; the
time of an epoch is the second one's, as the first one prepares kernels. Dumps are compared with forward passes of the
same networks alone.
"""

import argparse
import tempfile
from pathlib import Path

import torch

import kdprobe
from kdprobe.config import parse
from kdprobe.data import DataSet, Split, evaluation_batches
from kdprobe.devices import pick_device
from kdprobe.distillers import option_types
from kdprobe.features.dump import Dump, write_dump
from kdprobe.models import create
from kdprobe.runs.folder import RunFolder
from kdprobe.training import train
from tests.benchmarks.timed import timed


def noise(image_size: int | None = None, n_images: int = 50_000) -> DataSet:
    """Images and labels without a meaning."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (n_images, 3, 32, 32), dtype=torch.uint8, generator=generator)
    train_split = Split(images, torch.arange(n_images) % 100, 32)
    classes, half = tuple(map(str, range(100))), (0.5, 0.5, 0.5)
    test = train_split.take(torch.arange(min(n_images, 1000)))
    return DataSet("noise", train_split, test, classes, half, half, 32)


def little_noise(image_size: int | None = None) -> DataSet:
    """The first few of these."""
    return noise(n_images=64)


def epoch_seconds(folder: Path, teacher: Path, method: str, data: str, *, compiled: bool, device: str) -> float:
    """Seconds of the second epoch of a training."""
    values = {
        "data": {"spec": f"tests.benchmarks.bench_gpu:{data}"},
        "model": {"name": "resnet20"},
        "teacher": str(teacher),
        "method": {"name": method},
        "training": {"epochs": 2, "batch_size": 64 if data == "noise" else 16, "compile": compiled, "evaluate": "end"},
    }
    train(parse(values, option_types(), source="bench"), folder, device=device, quiet=True)
    return float(RunFolder(folder).metrics()[-1]["seconds"])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--smoke", action="store_true", help="with 64 images and nothing compiled, to see that it runs")
    args = parser.parse_args()
    data = little_noise if args.smoke else noise
    device = pick_device(args.device)
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{card}, torch {torch.__version__}, CUDA {torch.version.cuda}, kdprobe {kdprobe.__version__}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network = create("resnet56", n_classes=100, image_size=32)
        kdprobe.models.save(network, folder / "teacher.safetensors")
        for method in ("kd", "dropkd"):
            for compiled in (False,) if args.smoke else (False, True):
                out, teacher = folder / f"{method}-{compiled}", folder / "teacher.safetensors"
                found = epoch_seconds(out, teacher, method, data.__name__, compiled=compiled, device=str(device))
                how = "compiled" if compiled else "as it is"
                print(f"{method:8} {how:9} {found:8.2f} s per epoch, {240 * found / 3600:6.2f} h for 240 epochs")
        split, network = data().test, network.to(device).eval()

        @torch.inference_mode()
        def bare() -> None:
            for batch in evaluation_batches(split, batch_size=256, device=device):
                network(batch.images)

        def dumped() -> None:
            batches = [(batch.images, batch.labels) for batch in evaluation_batches(split, batch_size=256)]
            dump = Dump.over({"teacher": network}, batches, dtype="float16", compression="none", device=device)
            write_dump(dump, folder / "features.h5", overwrite=True)

        alone, with_dump = timed(bare, device), timed(dumped, device)
        print(f"pass     {alone:8.3f} s of {len(split)} images, {with_dump:8.3f} s with a dump of its stages")


if __name__ == "__main__":
    main()
