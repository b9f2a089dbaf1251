"""Whatever stands in the files of a run or in a dump: they are read, or refused in one line; a seeded sample."""

import copy
import json
import random
import zlib

import h5py
import numpy as np
import pytest
import torch
import yaml

from analyses.cka.stored import files_cka
from kdprobe.errors import KdprobeError
from kdprobe.features.store import FeatureStore, Network
from kdprobe.models.layout import Layout
from kdprobe.recipe import read_recipe
from kdprobe.runs.compare import gather, group, table, to_result
from kdprobe.runs.curves import training_curves
from kdprobe.training.verify import problems
from tests.kdprobe.runs.test_folder import write_run

VALUES = [
    None, True, False, 0, -1, 0.5, 1e308, 10**30, 2**64, float("nan"), "", "x", "1", "\u2028", "a\0b", [], [1],
    [[1]], {}, {"a": [None]}, {"name": 5}, "x" * 5000,
]  # fmt: skip
TEXTS = [
    b"",
    b"null",
    b"[1]",
    b"[" * 3000,
    b"9" * 6000,
    b"NaN",
    b"\xff\xfe\0",
    b"&a [*a]",
    b"a: 1\n---\nb: 2",
    b'{"a": 1, "a": 2}\n',
]


def places(value, before=()):
    """All paths to parts of nested mappings and lists."""
    yield before
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*before, key))


def changed(value, draw):
    """A copy with one part replaced, left out, doubled in depth, or something added."""
    *parents, last = draw.choice([place for place in places(value) if place])
    made = section = copy.deepcopy(value)
    for key in parents:
        section = section[key]
    kind = draw.choice(("put", "put", "put", "drop", "wrap", "add"))
    if kind == "put":
        section[last] = draw.choice(VALUES)
    elif kind == "drop":
        del section[last]
    elif kind == "wrap":
        section[last] = [section[last]]
    elif isinstance(section, dict):
        section["more"] = draw.choice(VALUES)
    return made


def looks(path):
    """Everything that reads run folders."""
    runs = gather([path])
    yield lambda: [run.summary() for run in runs]
    yield lambda: table(group(runs), best=True).to_string()
    yield lambda: to_result(group(runs))
    yield lambda: training_curves(runs)
    yield lambda: [problem for run in runs for problem in problems(run)]


def passes_or_is_told(call, told):
    try:
        call()
    except KdprobeError as error:
        told.append(str(error))


@pytest.mark.slow
def test_run_folders(tmp_path):
    draw, told = random.Random(21), []
    for seed in (0, 1):
        write_run(tmp_path / str(seed), f"seed={seed}", "teacher=runs/gone", method="kd", accuracies=(0.5, 0.7))
    run = tmp_path / "0"
    kept = {name: (run / name).read_bytes() for name in ("config.yaml", "metrics.jsonl", "result.json")}
    for _ in range(20):
        name = draw.choice(list(kept))
        if draw.random() < 0.2:
            content = draw.choice([*TEXTS, kept[name][: draw.randrange(len(kept[name]))]])
        elif name == "config.yaml":
            content = yaml.safe_dump(changed(yaml.safe_load(kept[name]), draw)).encode()
        elif name == "result.json":
            content = json.dumps(changed(json.loads(kept[name]), draw)).encode()
        else:
            lines = [json.loads(line) for line in kept[name].splitlines()]
            content = "".join(json.dumps(line) + "\n" for line in changed(lines, draw)).encode()
        (run / name).write_bytes(content)
        for look in looks(tmp_path):
            passes_or_is_told(look, told)
        (run / name).write_bytes(kept[name])
    assert len(told) > 10
    assert all(len(text) < 3 * 5000 + 1000 for text in told)


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    path = tmp_path_factory.mktemp("dump") / "features.h5"
    networks = {role: Network("net", "0" * 64, {"image_size": 8}) for role in ("teacher", "student")}
    draw = torch.Generator().manual_seed(0)
    with FeatureStore.create(path, networks, batch_size=8) as writer:
        for start in (0, 8):
            features = {role: {"a": torch.randn(8, 4, 3, 3, generator=draw)} for role in networks}
            layouts = {role: {"a": Layout("NCHW")} for role in networks}
            stages = {role: ["a"] for role in networks}
            writer.append(
                torch.arange(start, start + 8), torch.zeros(8).long(), features, layouts=layouts, stages=stages
            )
    return path.read_bytes()


def damage(file, draw):
    """One member or attribute of a dump replaced or gone, or its values of another type or form."""
    found = ["/"]
    file.visit(found.append)
    name = draw.choice(found)
    keys = list(file[name].attrs)
    kind = draw.choice(("attribute", "attribute", "gone", "member", "values", "values"))
    if kind == "attribute" and keys:
        key = draw.choice(keys)
        odd = [
            3,
            -1,
            2.5,
            10**9,
            "",
            "x",
            "[]",
            "null",
            '["a","a"]',
            '["../a"]',
            "[" * 3000,
            [1, 2],
            np.nan,
            b"\xff",
            True,
            "tokens",
            "grams",
        ]
        if draw.random() < 0.2:
            del file[name].attrs[key]
        else:
            file[name].attrs[key] = draw.choice(odd)
    elif name == "/":
        file.attrs["version"] = 2
    elif kind == "values" and isinstance(file[name], h5py.Dataset) and file[name].ndim:
        values, attributes = file[name][:], dict(file[name].attrs)
        as_other = (
            lambda v: v[:0], lambda v: v[:5], lambda v: v.astype("S8"), lambda v: v.astype("c8"), lambda v: v * np.nan,
            lambda v: v.astype("i4"), lambda v: v.astype(">f4"), lambda v: v[..., None], lambda v: -v,
            lambda v: v.reshape(len(v), -1)[:, 0], lambda v: v.reshape(len(v), -1)[:, :0],
        )  # fmt: skip
        with np.errstate(all="ignore"):
            values = draw.choice(as_other)(values if values.dtype.kind != "u" else values.astype("i8"))
        del file[name]
        file.create_dataset(name, data=values).attrs.update(attributes)
        if name.startswith(("teacher/", "student/")) and f"checksums/{name}" in file:
            del file[f"checksums/{name}"]
            sums = [zlib.crc32(row) for row in np.ascontiguousarray(values)]
            file.create_dataset(f"checksums/{name}", data=np.array(sums, np.uint32))
    else:
        del file[name]
        if kind == "member":
            file[name] = draw.choice(
                ["text", np.arange(3), h5py.SoftLink("/" + name), h5py.ExternalLink("/etc/passwd", "/x"), 7]
            )


def test_dumps(dump, tmp_path):
    draw, told = random.Random(22), []
    path = tmp_path / "f.h5"
    for _ in range(100):
        if draw.random() < 0.2:
            content = bytearray(dump)
            for _ in range(draw.randrange(1, 9)):
                content[draw.choice((draw.randrange(len(dump)), draw.randrange(4096)))] ^= 1 << draw.randrange(8)
            path.write_bytes(content[: draw.choice((len(dump), draw.randrange(len(dump))))])
        else:
            path.write_bytes(dump)
            with h5py.File(path, "r+") as file:
                damage(file, draw)
        with np.errstate(all="ignore"):
            passes_or_is_told(lambda: files_cka([path]), told)
    assert len(told) > 50
    assert all(str(path) in text or "teacher" in text or "student" in text or "samples" in text for text in told), told


@pytest.mark.slow
def test_recipes(tmp_path):
    draw, told = random.Random(23), []
    path = tmp_path / "r.yaml"
    for content in TEXTS:
        path.write_bytes(content)
        passes_or_is_told(lambda: read_recipe(str(path), method=draw.choice((None, "kd"))), told)
    assert len(told) == len(TEXTS)
