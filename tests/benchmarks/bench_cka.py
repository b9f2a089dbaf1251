"""CKA against other packages: right where it is hard, how long, how much memory (`make bench-cka`).

All in one process, in turns on the same images. Times are the median over `--rounds` of a turn's time over that of the
two bare forward passes of the same round; memory is the peak of the process while it runs. "products alone" is the
limit: one product of each layer's features with themselves and nothing else, which gives no CKA yet.
"""

import argparse
import contextlib
import io
import statistics
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import TextIO

import timm
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from analyses.cka.networks import cka, minibatch_cka
from analyses.cka.sums import HSICSums
from kdprobe.features.capturing import capture, select_layers
from kdprobe.features.gram import centred_gram
from tests.benchmarks.timed import now

CPU = torch.device("cpu")
Compare = Callable[[nn.Module, nn.Module, DataLoader, Sequence[str], Sequence[str]], Tensor]


def ours(one: nn.Module, other: nn.Module, loader: DataLoader, rows: Sequence[str], columns: Sequence[str]) -> Tensor:
    """This package."""
    layers = {"teacher_layers": rows, "student_layers": columns}
    return torch.from_numpy(cka(one, other, loader, device=_device_of(one), **layers).matrix)


def pytorch_cka(
    one: nn.Module, other: nn.Module, loader: DataLoader, rows: Sequence[str], columns: Sequence[str]
) -> Tensor:
    """pytorch-cka."""
    from cka import compute_cka

    options = {"device": str(_device_of(one)), "progress": False}
    with torch.no_grad():
        (matrix,) = compute_cka(one, other, loader, layers=rows, model2_layers=columns, **options)
    return matrix


def _device_of(model: nn.Module) -> torch.device:
    return next((parameter.device for parameter in model.parameters()), torch.device("cpu"))


def torch_cka(
    one: nn.Module, other: nn.Module, loader: DataLoader, rows: Sequence[str], columns: Sequence[str]
) -> Tensor:
    """torch-cka; it leaves its hooks behind."""
    from torch_cka import CKA

    with torch.no_grad():
        comparison = CKA(one, other, model1_layers=rows, model2_layers=columns)
        comparison.compare(loader)
    for module in (*one.modules(), *other.modules()):
        module._forward_hooks.clear()
    return comparison.hsic_matrix


def ckatorch(
    one: nn.Module, other: nn.Module, loader: DataLoader, rows: Sequence[str], columns: Sequence[str]
) -> Tensor:
    """ckatorch; it takes features [1, n, d] only, which the layers are made to give, and leaves its hooks behind."""
    from ckatorch import CKA

    for model, layers in ((one, rows), (other, columns)):
        for name in layers:
            model.get_submodule(name).register_forward_hook(lambda _module, _inputs, output: output.flatten(1)[None])
    try:
        return CKA(one, other, layers=rows, second_layers=columns)(loader, epochs=1)
    finally:
        for module in (*one.modules(), *other.modules()):
            module._forward_hooks.clear()


def products_alone(
    one: nn.Module, other: nn.Module, loader: DataLoader, rows: Sequence[str], columns: Sequence[str]
) -> Tensor:
    """What no package can do without, measured, not a way to CKA."""
    made: list[Tensor] = []

    def product(_module: nn.Module, _inputs: object, output: Tensor) -> None:
        features = output.flatten(1)
        made.append(features @ features.T)

    named = [*((one, name) for name in rows), *((other, name) for name in columns)]
    hooks = [model.get_submodule(name).register_forward_hook(product) for model, name in named]
    with torch.inference_mode():
        for (images,) in loader:
            made.clear()
            one(images), other(images)
    for hook in hooks:
        hook.remove()
    return made[0]


METHODS: dict[str, Compare] = {
    "products alone": products_alone,
    "kdprobe": ours,
    "pytorch-cka": pytorch_cka,
    "torch-cka": torch_cka,
    "ckatorch": ckatorch,
}
PACKAGES = {name: compare for name, compare in METHODS.items() if compare is not products_alone}


class Half(nn.Module):
    """Gives one half of what it is shown, through a layer."""

    def __init__(self, half: int) -> None:
        super().__init__()
        self.half, self.layer = half, nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """[n, 2, d] -> [n, d]."""
        return self.layer(x[:, self.half])


def loader_of(images: Tensor, batch_size: int, *, shuffle: bool = False) -> DataLoader:
    """Minibatches of a tensor."""
    return DataLoader(TensorDataset(images), batch_size=batch_size, shuffle=shuffle)


def attempt(compare: Compare, *arguments: object) -> str:
    """The first value that a package gives, or how it fails."""
    try:
        return f"{float(quietly(compare, *arguments)[0, 0]):.4f}"
    except Exception as error:  # whatever a package does is its result
        return type(error).__name__


def quietly(compare: Compare, *arguments: object) -> Tensor:
    """Without a package's own output and warnings."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        return compare(*arguments)


def correctness() -> list[tuple[str, str, list[str]]]:
    """Situations with their true value and what each package says."""
    torch.manual_seed(0)
    rows = []
    resnet, images = timm.create_model("resnet18").eval(), torch.randn(64, 3, 64, 64)
    with torch.no_grad(), capture(resnet, ["bn1", "act1"], reduce="flatten") as taken:
        resnet(images)
        truth = minibatch_cka(taken["bn1"].double()[None], taken["act1"].double()[None])
    said = [attempt(f, resnet, resnet, loader_of(images, 64), ["bn1"], ["act1"]) for f in PACKAGES.values()]
    rows.append(("bn1 against the in-place relu behind it", f"{truth:.4f}", said))
    for mean in (10.0, 100.0):
        x = torch.randn(64, 2, 2048)
        x[:, 1] = 0.9 * x[:, 0] + 0.43 * x[:, 1]
        x += mean
        truth = minibatch_cka(x[None, :, 0].double(), x[None, :, 1].double())
        said = [attempt(f, Half(0), Half(1), loader_of(x, 64), ["layer"], ["layer"]) for f in PACKAGES.values()]
        rows.append((f"features of mean {mean:g} and spread 1", f"{truth:.4f}", said))
    small = timm.create_model("resnet10t").eval()
    shuffled = loader_of(images, 16, shuffle=True)
    said = [attempt(f, small, deepcopy(small), shuffled, ["fc"], ["fc"]) for f in PACKAGES.values()]
    rows.append(("the same model twice, shuffling loader", "1.0000", said))
    x = torch.randn(64, 2, 100)
    x[:48, 1] += x[:48, 0]
    truth = minibatch_cka(x[:, 0].reshape(4, 16, -1).double(), x[:, 1].reshape(4, 16, -1).double())
    said = [attempt(f, Half(0), Half(1), loader_of(x, 16), ["layer"], ["layer"]) for f in PACKAGES.values()]
    rows.append(("four minibatches, the last one unlike", f"{truth:.4f}", said))
    return rows


def speed(
    batch_size: int,
    *,
    minibatches: int,
    rounds: int,
    methods: Sequence[str],
    device: torch.device = CPU,
    to: TextIO | None = None,
) -> list[tuple[str, float, float]]:
    """Time over two bare forward passes and peak memory in GB, 61 x 87 layers of ResNet18 and ViT-tiny at 224 px.

    On a GPU the images are there before, and the memory is the GPU's. What is found is printed at once.
    """
    torch.manual_seed(0)
    one, other = (timm.create_model(name).to(device).eval() for name in ("resnet18", "vit_tiny_patch16_224"))
    rows, columns = select_layers(one, "leaves"), select_layers(other, "leaves")
    ran = {}
    with capture(one, rows) as first, capture(other, columns) as second, torch.inference_mode():
        one(torch.zeros(1, 3, 224, 224, device=device)), other(torch.zeros(1, 3, 224, 224, device=device))
        ran = {"rows": list(first), "columns": list(second)}
    images = torch.randn(minibatches, batch_size, 3, 224, 224).to(device)
    loader = DataLoader(TensorDataset(images), batch_size=None)  # minibatches as they are

    def bare() -> None:
        with torch.inference_mode():
            for (images,) in loader:
                one(images), other(images)

    bare()
    turns: dict[str, list[float]] = {name: [] for name in methods}
    peaks, bases = dict.fromkeys(methods, 0.0), []
    for _ in range(rounds):
        bases.append(seconds(bare, device))
        for name in list(turns):
            reset_peak(device)
            try:
                run = lambda f=METHODS[name]: quietly(f, one, other, loader, ran["rows"], ran["columns"])  # noqa: E731
                turns[name].append(seconds(run, device) / bases[-1])
            except Exception as error:
                print(f"{name:14} minibatches of {batch_size}: {type(error).__name__}: {error}", flush=True, file=to)
                del turns[name]
            peaks[name] = max(peaks[name], peak_memory(device))
    found = [(name, statistics.median(times), peaks[name]) for name, times in turns.items()]
    for name, ratio, peak in found:
        spread = f"{min(turns[name]):.2f} to {max(turns[name]):.2f}"
        base = f"{statistics.median(bases):.4g} s"
        told = f"{name:14} minibatches of {batch_size}: {ratio:.2f} ({spread}) of {base}, {peak:.1f} GB"
        print(told, flush=True, file=to)
    return found


def growth(batch_size: int, *, samples: Sequence[int] = (1_000, 50_000)) -> list[float]:
    """Peak memory in MB above the start while so many samples of 61 x 87 layers are added up and given intervals.

    Prints it, and the median time of a minibatch in the last tenth over that in the first.
    """
    generator, found, times = torch.Generator().manual_seed(0), [], []
    grams = [
        {str(k): centred_gram(torch.randn(batch_size, 100, generator=generator)) for k in range(n)} for n in (61, 87)
    ]
    for n_samples in samples:
        reset_peak()
        before, sums = peak_memory(), HSICSums()
        times = [seconds(lambda sums=sums: sums.add(*grams)) for _ in range(n_samples // batch_size)]
        sums.result()
        found.append(1e3 * (peak_memory() - before))
    told = ", ".join(f"{value:.0f} MB at {n:,} samples" for n, value in zip(samples, found, strict=True))
    tenth = max(1, len(times) // 10)
    slower = statistics.median(times[-tenth:]) / statistics.median(times[:tenth])
    print(
        f"sums over minibatches of {batch_size}, peak above the start: {told}; the last tenth's minibatches take "
        f"{slower:.3f} of the first's time",
        flush=True,
    )
    return found


def seconds(function: Callable[[], object], device: torch.device = CPU) -> float:
    """How long a call takes until the device has done it."""
    start = now(device)
    function()
    return now(device) - start


def reset_peak(device: torch.device = CPU) -> None:
    """Let the peak memory of this process, or on its GPU, be measured from now on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory(device: torch.device = CPU) -> float:
    """Peak memory in GB since the last reset: resident of this process, or allocated on its GPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1e6


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minibatches", type=int, default=2)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 64, 128])
    given = parser.parse_args()
    print("| situation | truth | " + " | ".join(PACKAGES) + " |")
    print("|---" * (2 + len(PACKAGES)) + "|")
    for situation, truth, said in correctness():
        print(f"| {situation} | {truth} | " + " | ".join(said) + " |")
    for size in given.batch_sizes:
        growth(size)
        methods = ["products alone", "kdprobe", "pytorch-cka", *(["torch-cka"] if size <= 32 else [])]
        speed(size, minibatches=given.minibatches, rounds=given.rounds, methods=methods)


if __name__ == "__main__":
    main()
