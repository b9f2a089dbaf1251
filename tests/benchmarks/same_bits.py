"""Fingerprints of everything that kdprobe computes, to compare two of its versions on one machine.

    python tests/benchmarks/same_bits.py NEW_FOLDER > before.txt   # with one version first on PATH and PYTHONPATH
    python tests/benchmarks/same_bits.py OTHER_FOLDER > after.txt  # with the other one
    diff before.txt after.txt

Each line is a file, a field and the first digits of a sha256: tensors of weights, metrics without times, maps of
feature files, arrays and facts of results. Only the command line is used, so the two versions may be built quite
differently.
"""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from safetensors import safe_open

SHORT = ("--set", "training.epochs=2", "--quiet")
ALONE = ("plain", "scn", "eac")  # these take no teacher
TAUGHT = (
    "kd",
    "dropkd",
    "at",
    "fitnet",
    "rkd",
    "crd",
    "dkd",
    "dist",
    "logit_standard",
    "reviewkd",
    "ofa",
    "dpk",
    "cakd",
    "mld",
)
WHEN = ("seconds", "images_per_second", "time", "command", "versions", "started", "path", "host")


def commands() -> Iterator[list[str]]:
    """All command lines, each of which finds what the ones before it left."""
    alone = ["train", "digits/demo-student"]
    train = [*alone, "--teacher", "teacher"]
    yield ["train", "digits/demo-teacher", "--out", "teacher", *SHORT]
    for method in (*ALONE, *TAUGHT):
        yield [*(train if method in TAUGHT else alone), "--method", method, "--out", method, *SHORT]
    extras = ["precision=bf16", "ema_decay=0.9", "accumulate=2", "clip_grad_norm=1.0", "label_smoothing=0.1"]
    yield [*train, "--out", "extras", *SHORT, *(w for extra in extras for w in ("--set", f"training.{extra}"))]
    yield [*train, "--out", "epochs", *SHORT, "--set", "training.saving.snapshots=1"]
    networks = ["--teacher", "teacher", "--student", "dropkd"]
    yield ["dump", *networks, "--out", "features.h5", "--quiet"]
    yield ["dump", *networks, "--grams", "--out", "grams.h5", "--quiet"]
    yield ["cka", *networks, "--out", "cka", "--quiet"]
    yield ["cka", *networks, "--student-layers", "leaves", "--kernel", "rbf", "--out", "cka-rbf", "--quiet"]
    yield ["cka", *networks, "--estimator", "biased", "--permutations", "50", "--out", "cka-biased", "--quiet"]
    yield ["cka", "--features", "features.h5", "--out", "cka-stored", "--quiet"]
    yield ["cka", "--features", "grams.h5", "--out", "cka-grams", "--quiet"]
    yield ["cka", "--run", "epochs", "--quiet"]
    for measure in ("svcca", "pwcca", "procrustes", "rsa"):
        yield [
            "similarity",
            "--features",
            "features.h5",
            "--measure",
            measure,
            "--out",
            f"similarity-{measure}",
            "--quiet",
        ]
    for method in ("adjusted", "ridge", "dropkd"):
        shown = ["--images", "2"] if method != "dropkd" else []
        yield ["decompose", *networks, "--method", method, *shown, "--out", f"knowledge-{method}", "--quiet"]
    yield ["decompose", *networks, "--student", "kd", "--out", "knowledge-two", "--quiet"]
    yield ["decompose", "--features", "features.h5", "--out", "knowledge-stored", "--quiet"]
    yield ["evaluate", *(w for run in ("kd", "dropkd") for w in ("--checkpoint", run)), "--against", "plain", "--quiet"]
    yield ["complexity", "teacher", "kd", "timm:resnet18", "--quiet"]
    yield ["runs", "compare", "kd", "dropkd", "plain", "--out", "comparison.npz", "--quiet"]
    yield ["runs", "curves", "kd", "dropkd", "--out", "curves.npz", "--quiet"]
    rates = ["--rates", "0.3,0.6", "--seeds", "2", "--set", "training.epochs=1"]
    yield ["sweep-dropout", "digits/demo-student", "--teacher", "teacher", *rates, "--out", "sweep", "--quiet"]


def without_times(value: Any) -> Any:
    """JSON without what differs from one run to the next."""
    if isinstance(value, dict):
        return {key: without_times(one) for key, one in value.items() if key not in WHEN}
    return [without_times(one) for one in value] if isinstance(value, list) else value


def digest(value: Any) -> str:
    """The first digits of a sha256, of an array with its type and shape, or of JSON."""
    if isinstance(value, np.ndarray):
        head, data = f"{value.dtype}{value.shape}", np.ascontiguousarray(value).tobytes()
        return hashlib.sha256(head.encode() + data).hexdigest()[:16]
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def maps(group: h5py.Group) -> Iterator[tuple[str, str]]:
    """All numbers of a feature file."""
    for one in group.values():
        if isinstance(one, h5py.Group):
            yield from maps(one)
        elif one.dtype.kind != "O":
            yield one.name, digest(np.asarray(one[()]))


def fields(path: Path) -> Iterator[tuple[str, str]]:
    """What a file holds, by name."""
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                tensor = file.get_tensor(name)
                yield name, f"{tensor.dtype} {digest(tensor.view(-1).contiguous().float().numpy())}"
    elif path.name == "metrics.jsonl":
        for number, line in enumerate(path.read_text().splitlines()):
            for key, value in without_times(json.loads(line)).items():
                yield f"{number} {key}", digest(value)
    elif path.suffix == ".npz":
        with np.load(path) as file:
            meta = json.loads(str(file["meta"]))
            for name in file.files:
                if name != "meta":
                    yield name, digest(file[name])
        for key, value in without_times(meta["facts"]).items():
            yield f"fact {key}", digest(value)
    elif path.suffix == ".h5":
        with h5py.File(path, "r") as file:
            yield from maps(file)


def main() -> None:
    """Run all commands in a new folder and print what they left."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    lines: list[str] = []
    for words in commands():
        done = subprocess.run(["kdprobe", *words], cwd=folder, capture_output=True, text=True, check=False)
        print(f"{' '.join(words)}: {done.returncode}", file=sys.stderr)
        if done.returncode:
            print("   ", done.stderr[-600:], file=sys.stderr)
    for path in filter(Path.is_file, folder.rglob("*")):
        shown = re.sub(
            "(?<=cells/)[0-9a-f]+", "CELL", str(path.relative_to(folder))
        )  # ids go by the configuration's keys
        lines += [f"{shown} {name} {value}" for name, value in fields(path)]
    print(*sorted(lines), sep="\n")


if __name__ == "__main__":
    main()
