"""What a dump holds is what its schema says, no more and no less."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from kdprobe.features import Dump, write_dump
from kdprobe.features.store_checks import LAYOUT, TYPES
from kdprobe.models import create

N_SAMPLES, BATCH_SIZE = 20, 8
#: types of attributes as HDF5 has them
STORED = {"text": str, "JSON": str, "name": str, "whole": np.integer, "true": np.bool_}


def networks() -> dict[str, torch.nn.Module]:
    torch.manual_seed(0)
    vit = {"patch_size": 4, "embed_dim": 12, "depth": 2, "num_heads": 3}
    return {
        "teacher": create("vit_tiny_patch16_224", n_classes=3, image_size=8, args=vit),
        "student": create("resnet8", n_classes=3, image_size=8),
    }


def place_of(path: str) -> str:
    """The name that the schema has for a group or data set; its own where that has none."""
    root, *names = path.split("/")
    if root in ("teacher", "student"):
        return "/<role>" + ("/<layer>" if names else "")
    if root == "checksums" and len(names) > 1:
        return "/checksums/<role>/<layer>"
    return f"/{path}"


def misfits(file: h5py.File) -> list[str]:
    """Where a file is not as the schema says."""
    found: dict[str, list[h5py.Group | h5py.Dataset]] = {"/": [file]}
    file.visititems(lambda path, one: found.setdefault(place_of(path), []).append(one))
    content = file.attrs["content"]
    sizes = {"n": N_SAMPLES, "k": -(-N_SAMPLES // BATCH_SIZE), "b": BATCH_SIZE}
    wrong = [f"no {place}" for place in LAYOUT.keys() - found.keys()]
    for place, ones in found.items():
        known = LAYOUT.get(place)
        for one in ones:
            rows = [each for each in known.rows if each.content in ("", content)] if known else []
            if len(rows) != isinstance(one, h5py.Dataset):
                wrong.append(f"{one.name} is no such place")
            elif rows:
                dims, shape = rows[0].dims.split(), list(one.shape)
                expected = [sizes[dim] for dim in dims if dim != "..."]
                fits = len(shape) > len(expected) if "..." in dims else len(shape) == len(expected)
                if str(one.dtype) not in rows[0].types or not fits or shape[: len(expected)] != expected:
                    wrong.append(f"{one.name} is {one.dtype} {shape}")
            attributes = known.attributes if known else {}
            names = attributes.keys() - ({"parts"} if "parts" not in one.attrs else set())
            wrong += [f"{one.name} {name}: there or not there" for name in names ^ one.attrs.keys()]
            for name in names & one.attrs.keys():
                value, about = one.attrs[name], attributes[name]
                if not isinstance(value, STORED[about.of.split()[0]]) or (about.words and value not in about.words):
                    wrong.append(f"{one.name} {name}: {value}")
                else:
                    TYPES[about.of](value)
    return wrong


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"reduce": "gap"},
        {"content": "grams"},
        {"content": "grams", "reduce": "gap", "roles": 1},
        {"dtype": "float16", "reduce": "gap", "part_size": 8},
        {"compression": "none", "reduce": "flatten", "roles": 1},
    ],
    ids=str,
)
def test_a_dump_is_as_its_schema_says(tmp_path: Path, options: dict[str, object], labelled: bool) -> None:
    options = dict(options)
    roles, part_size = options.pop("roles", 2), options.pop("part_size", None)
    images = torch.rand(N_SAMPLES, 3, 8, 8, generator=torch.Generator().manual_seed(0)).split(BATCH_SIZE)
    loader = [(one, torch.arange(len(one)) % 3) for one in images] if labelled else list(images)
    shown = dict(list(networks().items())[-roles:])
    write_dump(Dump.over(shown, loader, **options), tmp_path / "features.h5", part_size=part_size)
    with h5py.File(tmp_path / "features.h5") as file:
        assert misfits(file) == []
        assert [role for role in ("teacher", "student") if role in file] == list(shown)
        assert ("parts" in file.attrs) == (part_size is not None)
        assert file["samples/label"][:].any() == labelled
        assert (file["student/layer3"].compression is None) == (options.get("compression") == "none") or part_size
        assert json.loads(file["student"].attrs["layers"]) == [*file["student"]]


def test_what_is_not_as_the_schema_says_is_found(tmp_path: Path) -> None:
    loader = [torch.rand(n, 3, 8, 8) for n in (8, 8, 4)]
    write_dump(Dump.over({"student": networks()["student"]}, loader, reduce="gap"), tmp_path / "features.h5")
    with h5py.File(tmp_path / "features.h5", "a") as file:
        file["samples/more"] = np.zeros(20)
        del file["samples/label"], file["student"].attrs["remark"]
        file["student/layer3"].attrs.update({"stage": 1, "colour": "red"})
        assert sorted(misfits(file)) == [
            "/samples/more is no such place",
            "/student remark: there or not there",
            "/student/layer3 colour: there or not there",
            "/student/layer3 stage: 1",
            "no /samples/label",
        ]
