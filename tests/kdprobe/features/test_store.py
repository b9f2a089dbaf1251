import subprocess
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from kdprobe.data import Shown, Split, View
from kdprobe.errors import AnalysisError, StoreError
from kdprobe.features.dump import Dump, write_dump
from kdprobe.features.gram import centred_gram
from kdprobe.features.minibatches import fixed_order
from kdprobe.features.parts import divide
from kdprobe.features.shared_images import Views
from kdprobe.features.store import FeatureStore, FeatureWriter, Network, partial_path
from kdprobe.models.creation import create, model_info
from kdprobe.models.layout import Layout
from tests.killable import CONTEXT

NETWORKS = {"teacher": Network("vit", "abc", {"image_size": 8, "mean": [0.5], "std": [0.2]}), "student": Network("cnn")}


def features(start, n, *, scale=1.0):
    generator = torch.Generator().manual_seed(start)
    one = {"blocks.0": torch.randn(n, 5, 4, generator=generator) * scale, "fc": torch.randn(n, 3, generator=generator)}
    return {"teacher": one, "student": {"layer1": torch.randn(n, 2, 3, 3, generator=generator)}}


def write(path, *, n=20, batch_size=8, stop=None, **options):
    """Minibatches of 8, 8, 4; an error after `stop` of them."""
    layouts = {"teacher": {"blocks.0": Layout("tokens", 1)}, "student": {"layer1": Layout("NCHW")}}
    stages = {"teacher": ["blocks.0"], "student": ["layer1"]}
    with FeatureStore.create(path, NETWORKS, data="digits", batch_size=batch_size, **options) as writer:
        for number, start in enumerate(range(0, n, batch_size)):
            if number == stop:
                raise ZeroDivisionError
            index = torch.arange(start, min(start + batch_size, n))
            made = features(start, len(index))
            if options.get("content") == "grams":
                made = {role: {name: centred_gram(x) for name, x in of.items()} for role, of in made.items()}
            writer.append(index, index % 3, made, layouts=layouts, stages=stages)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "features.h5"


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_what_was_written_is_read(path, compression):
    write(path, compression=compression)
    with FeatureStore.open(path) as store:
        assert (store.content, store.data, store.batch_size, store.n_samples) == ("features", "digits", 8, 20)
        assert store.roles == ["teacher", "student"]
        assert store.network("teacher") == NETWORKS["teacher"]
        assert store.index.tolist() == list(range(20))
        assert store.labels.tolist() == [i % 3 for i in range(20)]
        assert store.layout("teacher", "blocks.0") == Layout("tokens", 1)
        for start, (index, layers) in zip((0, 8, 16), store.minibatches("teacher"), strict=True):
            expected = features(start, len(index))["teacher"]
            assert list(layers) == list(expected)
            assert all(torch.equal(layers[name], expected[name]) for name in expected)
        assert torch.equal(store.read("student", "layer1", 8, 16), features(8, 8)["student"]["layer1"])
        assert store.read("student", "layer1").shape == (20, 2, 3, 3)
        assert [len(index) for index, _ in store.minibatches("teacher", "fc", batch_size=7)] == [7, 7, 6]
    assert not partial_path(path).exists()


def test_choices_of_stored_layers(path):
    write(path)
    with FeatureStore.open(path) as store:
        assert store.layers("teacher") == ["blocks.0", "fc"]
        assert store.layers("teacher", "stages") == ["blocks.0"]
        assert store.layers("teacher", ["all", "!f*"]) == ["blocks.0"]
        with pytest.raises(StoreError, match=r"no layer 'blocks\.1' of the teacher in .*; did you mean 'blocks\.0'"):
            store.layers("teacher", "blocks.1")
        with pytest.raises(StoreError, match=r"no layer 'layer2' of the student in .*; did you mean 'layer1'"):
            store.read("student", "layer2")


def test_plain_hdf5_tools_find_what_the_format_says(path):
    write(path)
    with h5py.File(path, "r") as file:
        assert file.attrs["format"] == "kdprobe-features"
        assert file.attrs["version"] == 1
        assert file["samples/valid"][()] == 20
        assert file["teacher/blocks.0"].shape == (20, 5, 4)
        assert file["teacher/blocks.0"].dtype == np.float32
        assert dict(file["teacher/blocks.0"].attrs) == {
            **{"layout": "tokens", "n_prefix": 1, "class_token": -1, "stage": True}
        }


def test_gram_matrices_without_their_padding(path):
    write(path, content="grams")
    with FeatureStore.open(path) as store:
        read = list(store.minibatches("teacher", "blocks.0"))
        assert [layers["blocks.0"].shape[0] for _, layers in read] == [8, 8, 4]
        for start, (_, layers) in zip((0, 8, 16), read, strict=True):
            expected = centred_gram(features(start, len(layers["blocks.0"]))["teacher"]["blocks.0"])
            assert torch.equal(layers["blocks.0"], expected)
        with pytest.raises(StoreError, match="holds Gram matrices of 8 samples, not of 4"):
            next(store.minibatches("teacher", batch_size=4))


def test_float16_halves_and_refuses_what_does_not_fit(path):
    write(path, dtype="float16")
    with FeatureStore.open(path) as store:
        assert store.read("teacher", "fc").dtype == torch.float16
        assert torch.allclose(store.read("teacher", "fc", 0, 8).float(), features(0, 8)["teacher"]["fc"], atol=1e-2)
    writer = FeatureStore.create(path.parent / "new" / "folder" / "b.h5", NETWORKS, dtype="float16")
    with pytest.raises(StoreError, match=r"teacher layer 'blocks\.0' reaches .*, which float16 cannot hold"), writer:
        writer.append(torch.arange(4), torch.arange(4), features(0, 4, scale=1e6))
    assert not (path.parent / "new").exists()
    with pytest.raises(StoreError, match="stored as float32 or float16, not 'int8'"):
        FeatureStore.create(path, NETWORKS, dtype="int8")


def test_an_interrupted_dump_is_refused_unless_salvaged(path):
    with pytest.raises(ZeroDivisionError):
        write(path, stop=2)
    assert not path.exists()
    with pytest.raises(StoreError, match=r"its dump was interrupted, .*features\.h5\.partial can be resumed"):
        FeatureStore.open(path)
    with pytest.raises(StoreError, match=r"features\.h5\.partial is the unfinished part of a dump"):
        FeatureStore.open(partial_path(path))
    with FeatureStore.open(partial_path(path), salvage=True) as store:
        assert store.n_samples == 16
        assert torch.equal(store.read("teacher", "fc", 8), features(8, 8)["teacher"]["fc"])


def test_a_growing_file_can_be_read(path):
    with FeatureStore.create(path, NETWORKS, batch_size=8) as writer:
        for start in (0, 8):
            writer.append(torch.arange(start, start + 8), torch.zeros(8, dtype=torch.int64), features(start, 8))
            with FeatureStore.open(partial_path(path), salvage=True) as store:
                assert store.n_samples == start + 8
                assert torch.equal(store.read("teacher", "fc", start), features(start, 8)["teacher"]["fc"])


def test_layers_must_stay_the_same(path):
    index = torch.arange(8)
    with FeatureStore.create(path, NETWORKS, batch_size=8) as writer:
        writer.append(index, index, {"teacher": {"old": torch.ones(8, 2)}})
        with pytest.raises(StoreError, match=r"has the layers \{'teacher': \['old'\]\}, but a minibatch has"):
            writer.append(index, index, {"teacher": {"new": torch.ones(8, 2)}})


def test_behind_a_minibatch_that_could_not_be_written_no_other_is_taken(path):
    index = torch.arange(8)
    writer = FeatureStore.create(path, NETWORKS, batch_size=8, dtype="float16")
    with pytest.raises(StoreError, match="takes no more minibatches: the one after its first 8 samples"), writer:
        writer.append(index, index, features(0, 8))
        with pytest.raises(StoreError, match="float16 cannot hold"):
            writer.append(index + 8, index, features(8, 8, scale=1e6))
        writer.append(index + 16, index, features(16, 8))
    with FeatureStore.open(partial_path(path), salvage=True) as store:
        assert store.index.tolist() == list(range(8))


def test_a_place_that_cannot_be_written_is_told(path):
    path.touch()
    partial_path(path).mkdir()
    for place in (path, path / "below.h5"):
        with pytest.raises(StoreError, match=rf"{place.name} cannot be written: \w"):
            FeatureStore.create(place, NETWORKS)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["features.h5", "features.h5.partial"]


def test_foreign_missing_and_newer_files(path, tmp_path):
    with pytest.raises(StoreError, match="there is no feature file"):
        FeatureStore.open(path)
    path.write_bytes(b"not HDF5")
    with pytest.raises(StoreError, match=r"the file cannot be read as part of a feature file: it is not an HDF5 file$"):
        FeatureStore.open(path)
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(StoreError, match="an HDF5 file, but not one of kdprobe's"):
        FeatureStore.open(tmp_path / "foreign.h5")
    with h5py.File(tmp_path / "newer.h5", "w") as file:
        file.attrs.update({"format": "kdprobe-features", "version": 2})
    with pytest.raises(StoreError, match="has format version 2; this kdprobe reads version 1"):
        FeatureStore.open(tmp_path / "newer.h5")
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file.attrs.update({"format": "kdprobe-features", "version": 1})
    with pytest.raises(StoreError, match=r"attributes cannot be read as part of .* file: the attribute .* is missing$"):
        FeatureStore.open(tmp_path / "empty.h5")


def test_what_a_damaged_file_lacks_is_told(path):
    write(path)
    with h5py.File(path, "r+") as file:
        del file["student"].attrs["layers"], file["teacher"].attrs["sha256"], file["teacher/fc"].attrs["layout"]
        del file["teacher/blocks.0"]
    with FeatureStore.open(path) as store:
        asked = (
            lambda: store.layers("student"),
            lambda: store.layers("teacher", "stages"),
            lambda: store.network("teacher"),
            lambda: store.layout("teacher", "fc"),
        )
        for ask in asked:
            with pytest.raises(StoreError, match=r"features\.h5: /(student|teacher).* cannot be read as part"):
                ask()


def test_a_role_that_is_not_stored(path):
    with FeatureStore.create(path, NETWORKS, batch_size=8) as writer:
        writer.append(torch.arange(8), torch.arange(8), {"student": {"fc": torch.ones(8, 2)}})
    with FeatureStore.open(path) as store, pytest.raises(StoreError, match="holds no teacher; it holds: student"):
        store.layers("teacher")


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_flipped_bits_and_lost_ends_are_noticed(path, compression):
    write(path, compression=compression)
    content = path.read_bytes()
    with h5py.File(path, "r") as file:
        chunk = file["teacher/blocks.0"].id.get_chunk_info(1)
    for offset in range(chunk.byte_offset, chunk.byte_offset + chunk.size, 37):
        damaged = bytearray(content)
        damaged[offset] ^= 16
        path.write_bytes(damaged)
        with FeatureStore.open(path) as store, pytest.raises(StoreError, match=r"/teacher/blocks\.0 "):
            store.read("teacher", "blocks.0")
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(StoreError, match="cannot be read as part of a feature file: its end is missing; copy it again"):
        FeatureStore.open(path)


def test_another_content_is_said(path):
    write(path)
    with h5py.File(path, "r+") as file:
        file.attrs["content"] = "logits"
    with pytest.raises(StoreError, match="the content 'logits' is none of features, grams"):
        FeatureStore.open(path)


@pytest.fixture(scope="module")
def nets():
    return small_nets()


def small_nets():
    torch.manual_seed(0)
    return {
        "teacher": create("vit_tiny_patch16_224", n_classes=3, image_size=16, args={"patch_size": 8, "depth": 2}),
        "student": create("resnet8", n_classes=5, image_size=16),
    }


def views(nets, n=20, image_size=16):
    images = torch.randint(0, 256, (n, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    split = Split(images, torch.arange(n) % 3, image_size)
    return Views("digits", nets, dict.fromkeys(nets, split))


def wanted(nets, *, n=20, minibatches=None, **options):
    seen = partial(views(nets, n).minibatches, batch_size=8)
    return Dump(nets, minibatches or seen, n, 8, data="digits", order=fixed_order(n), **options)


def test_dump_writes_what_the_networks_give(nets, path, monkeypatch):
    told = []
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: SimpleNamespace(free=57_100_000_000))
    write_dump(wanted(nets), path, say=told.append)
    n_values = 2 * 5 * 192 + 2 * 16 * 256 + 32 * 64 + 64 * 16
    assert told == [f"20 samples of 6 layers: {20 * 4 * n_values / 1e6:.1f} MB before compression, 57.1 GB are free"]
    with FeatureStore.open(path) as store:
        assert store.layers("teacher", "stages") == ["blocks.0", "blocks.1"]
        assert store.layers("student") == ["act1", "layer1", "layer2", "layer3"]
        assert store.layout("student", "layer3") == Layout("NCHW")
        assert store.layout("teacher", "blocks.1") == Layout("tokens", 1, 0)
        assert store.network("student").preprocessing["image_size"] == 16
        assert store.index.tolist() == fixed_order(20).tolist()
        with torch.no_grad():
            batches = next(views(nets).minibatches(8, 16, batch_size=8))
            model = nets["student"].eval()
            expected = model.forward_features(model_info(model).normalise(batches["student"].images))
        assert torch.equal(store.read("student", "layer3", 8, 16), expected)


@pytest.mark.slow
@pytest.mark.parametrize("content", ["features", "grams"])
def test_parts_are_joined_and_missed(nets, path, content):
    write_dump(wanted(nets, content=content), path.with_name("whole.h5"))
    write_dump(wanted(nets, content=content), path, part_size=8)
    names = [f"features.{number:04d}.h5" for number in range(3)]
    assert sorted(p.name for p in path.parent.iterdir()) == [*names, "features.h5", "whole.h5"]
    moved = path.parent / "moved"
    moved.mkdir()
    for name in [*names, "features.h5"]:
        path.with_name(name).rename(moved / name)
    with FeatureStore.open(moved / "features.h5") as store, FeatureStore.open(path.with_name("whole.h5")) as whole:
        assert torch.equal(store.index, whole.index)
        assert torch.equal(store.labels, whole.labels)
        for role in whole.roles:
            assert store.network(role) == whole.network(role)
            for one, other in zip(store.minibatches(role), whole.minibatches(role), strict=True):
                assert list(one[1]) == list(other[1])
                assert all(torch.equal(one[1][name], other[1][name]) for name in one[1])
    (moved / names[1]).unlink()
    with pytest.raises(StoreError, match=r"joined from several parts, and features\.0001\.h5 is missing"):
        FeatureStore.open(moved / "features.h5")


def test_division_into_parts(path):
    assert [(part.start, part.stop) for part in divide(path, 20, 8, None, 1)] == [(0, 20)]
    assert [(part.start, part.stop) for part in divide(path, 20, 8, None, 2)] == [(0, 16), (16, 20)]
    assert [(part.start, part.stop) for part in divide(path, 50, 8, 20, 1)] == [(0, 16), (16, 32), (32, 48), (48, 50)]
    with pytest.raises(StoreError, match="must hold at least one minibatch of 8 samples, but part_size is 7"):
        divide(path, 20, 8, 7, 1)


@pytest.mark.slow
@pytest.mark.parametrize("part_size", [pytest.param(None, marks=pytest.mark.slow), 16])
def test_an_interrupted_dump_is_continued(nets, path, part_size):
    calls = []

    def stopping(start, stop):
        for batches in views(nets, 40).minibatches(start, stop, batch_size=8):
            calls.append(fixed_order(40).tolist().index(int(batches["student"].index[0])))
            if len(calls) in (3, 5):
                raise ZeroDivisionError
            yield batches

    dump = wanted(nets, n=40, minibatches=stopping)
    for resume in (False, True):
        with pytest.raises(ZeroDivisionError):
            write_dump(dump, path, part_size=part_size, resume=resume)
        assert not path.exists()
    with pytest.raises(StoreError, match=r"is left from an interrupted dump|exists already"):
        write_dump(dump, path, part_size=part_size)
    write_dump(dump, path, part_size=part_size, resume=True)
    assert calls == [0, 8, 16, 16, 24, 24, 32]
    assert not list(path.parent.glob("*.partial"))
    write_dump(wanted(nets, n=40), path.with_name("whole.h5"))
    with FeatureStore.open(path) as store, FeatureStore.open(path.with_name("whole.h5")) as whole:
        assert torch.equal(store.index, whole.index)
        assert torch.equal(store.read("student", "layer3"), whole.read("student", "layer3"))
        assert store.layers("student", "stages") == whole.layers("student", "stages")


def test_a_dump_is_continued_where_a_minibatch_could_not_be_written(nets, path):
    def bright(start, stop, *, times):
        for batches in views(nets, 40).minibatches(start, stop, batch_size=8):
            one = batches["student"]
            images = one.images * times if fixed_order(40)[8] in one.index else one.images
            yield {"student": replace(one, images=images)}

    dump = wanted({"student": nets["student"]}, n=40, layers={"student": "act1"}, dtype="float16")
    with pytest.raises(StoreError, match=r"layer 'act1' reaches .*, which float16 cannot hold"):
        write_dump(replace(dump, minibatches=partial(bright, times=1e8)), path)
    write_dump(replace(dump, minibatches=partial(bright, times=1)), path, resume=True)
    with FeatureStore.open(path) as store:
        assert store.index.tolist() == fixed_order(40).tolist()


def stopping(nets, *, after):
    """Minibatches that end in an error behind so many samples."""

    def minibatches(start, stop):
        yield from views(nets).minibatches(start, min(stop, after), batch_size=8)
        if stop > after:
            raise ZeroDivisionError

    return minibatches


def test_samples_in_another_order_are_not_continued(nets, path):
    with pytest.raises(ZeroDivisionError):
        write_dump(wanted(nets, minibatches=stopping(nets, after=16)), path)
    with h5py.File(partial_path(path), "r+") as file:
        file["samples/index"][8:16] += 8
    with pytest.raises(StoreError, match="cannot be continued: it does not hold the samples from 0 on in the order"):
        write_dump(wanted(nets), path, resume=True)


@pytest.mark.slow
def test_another_dump_is_not_continued(nets, path):
    with pytest.raises(ZeroDivisionError):
        write_dump(wanted(nets, minibatches=stopping(nets, after=8)), path)
    student = {"student": nets["student"]}
    with pytest.raises(StoreError, match=r"features\.h5\.kept\.partial is the beginning of another dump"):
        write_dump(wanted(student), path, resume=True)
    with pytest.raises(StoreError, match=r"features\.h5\.kept\.partial is left from an interrupted dump"):
        write_dump(wanted(student), path)
    with pytest.raises(StoreError, match=r"has the layers .*, but a minibatch has"):
        write_dump(wanted(nets, layers={"student": "layer1"}), path, resume=True)
    told = []
    write_dump(wanted(nets), path, resume=True, say=told.append)
    assert told[0] == "continues after 8 samples"
    assert FeatureStore.open(path).n_samples == 20


@pytest.mark.parametrize(
    ("now", "message"),
    [
        (Shown("b", View(1.0)), "another dump: student images was a, but now is b; resume"),
        (Shown("a", View(0.5)), r"another dump: student crop_pct was 1\.0, but now is 0\.5; resume"),
    ],
)
def test_other_images_are_not_continued(nets, path, now, message):
    student = {"student": nets["student"]}
    shown = {"student": Shown("a", View(1.0))}
    with pytest.raises(ZeroDivisionError):
        write_dump(wanted(student, minibatches=stopping(student, after=8), shown=shown), path)
    with pytest.raises(StoreError, match=message):
        write_dump(wanted(student, shown={"student": now}), path, resume=True)
    write_dump(replace(wanted(student, shown=shown), data="moved"), path, resume=True)
    assert FeatureStore.open(path).n_samples == 20


def test_a_dump_of_an_older_kdprobe_is_continued_with_a_word(nets, path):
    student, told = {"student": nets["student"]}, []
    with pytest.raises(ZeroDivisionError):
        write_dump(wanted(student, minibatches=stopping(student, after=8)), path)
    write_dump(wanted(student, shown={"student": Shown("a", View(1.0))}), path, resume=True, say=told.append)
    assert (
        "does not hold its student images, student crop_pct, so it is not checked whether they are still the same"
        in told[0]
    )


@pytest.mark.slow
def test_another_precision_or_other_parts_are_not_continued(nets, path):
    student = {"student": nets["student"]}
    with pytest.raises(ZeroDivisionError):
        write_dump(wanted(student, minibatches=stopping(student, after=8), dtype="float16"), path)
    with pytest.raises(StoreError, match=r"is the beginning of another dump: dtype was float16, but now is float32"):
        write_dump(wanted(student), path, resume=True)
    write_dump(wanted(student, dtype="float16"), path, resume=True)
    with pytest.raises(StoreError, match=r"features\.h5 is the beginning of another dump"):
        write_dump(wanted(student), path, resume=True)

    parts = path.with_name("parts.h5")
    with pytest.raises(ZeroDivisionError):
        write_dump(wanted(student, minibatches=stopping(student, after=8)), parts, part_size=8)
    with pytest.raises(StoreError, match=r"parts\.0000\.h5 has 8 samples, not 16; remove it"):
        write_dump(wanted(student), parts, part_size=16, resume=True)
    with pytest.raises(StoreError, match=r"parts\.0001\.h5 has other layers than .*parts\.0000\.h5"):
        write_dump(wanted(student, layers={"student": "layer1"}), parts, part_size=8, resume=True)


def test_a_dump_that_is_being_written_is_left_alone(nets, path):
    def visited(start, stop):
        for batches in views(nets).minibatches(start, stop, batch_size=8):
            yield batches
            with pytest.raises(StoreError, match=r"features\.h5 is being written by another dump; wait for its end"):
                write_dump(wanted(nets), path, resume=True)
            with pytest.raises(StoreError, match=r"features\.h5 is being written"):
                FeatureStore.create(path, NETWORKS)

    write_dump(wanted(nets, minibatches=visited), path)
    assert FeatureStore.open(path).index.tolist() == fixed_order(20).tolist()
    assert [entry.name for entry in path.parent.iterdir()] == ["features.h5"]


def test_a_dump_that_was_killed_before_its_first_minibatch_begins_anew(nets, path):
    partial_path(path).write_bytes(b"")
    told = []
    write_dump(wanted(nets), path, resume=True, say=told.append)
    assert told[0].startswith("starts again from the beginning: ")
    assert FeatureStore.open(path).n_samples == 20


def test_a_dump_that_was_killed_inside_its_first_minibatch_begins_anew(nets, path):
    student, told = {"student": nets["student"]}, []
    with pytest.raises(ZeroDivisionError):
        write_dump(wanted(student, minibatches=stopping(student, after=8)), path)
    with h5py.File(partial_path(path), "r+") as file:
        file["samples/valid"][()] = 0
    write_dump(wanted(student), path, resume=True, say=told.append)
    assert told[0].startswith("starts again from the beginning: no minibatch of ")
    with FeatureStore.open(path) as store:
        assert store.index.tolist() == fixed_order(20).tolist()


def test_dump_refuses_existing_files_and_different_images(nets, path):
    def differing(start, stop):
        for batches in views(nets).minibatches(start, stop, batch_size=8):
            yield batches | {"student": replace(batches["student"], index=batches["student"].index + 1)}

    with pytest.raises(StoreError, match="different images, or the same ones in different order"):
        write_dump(wanted(nets, minibatches=differing), path)
    path.touch()
    with pytest.raises(StoreError, match=r"features\.h5 exists already"):
        write_dump(wanted(nets), path)


def test_dump_names_what_is_not_finite(path):
    broken = create("resnet8", n_classes=5, image_size=16)
    nn.init.constant_(broken.layer2[0].bn1.weight, float("inf"))
    dump = wanted({"student": broken}, layers={"student": "layer2.0.*"}, content="grams")
    with pytest.raises(AnalysisError, match=r"student, samples from 0 on: layer 'layer2\.0\.bn1': .* NaN"):
        write_dump(dump, path)


def test_dump_that_cannot_fit_is_refused_before_it_starts(nets, path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _folder: SimpleNamespace(free=1000))
    with pytest.raises(
        StoreError,
        match=r"the dump needs up to 1\.1 MB, but .* has 0\.0 MB left; choose fewer layers, --reduce gap, --dtype",
    ):
        write_dump(wanted(nets), path)
    assert not list(path.parent.iterdir())


def test_a_disk_that_fills_up_is_told_with_what_is_complete(path):
    index = torch.arange(8)
    message = r"features\.h5\.partial cannot be written \(.*\); its first 8 samples are complete"
    with suppress(StoreError), FeatureStore.create(path, NETWORKS, batch_size=8) as writer:
        writer.append(index, index, features(0, 8))
        writer._put = failing
        with pytest.raises(StoreError, match=message):
            writer.append(index + 8, index, features(8, 8))
        raise StoreError
    with FeatureStore.open(partial_path(path), salvage=True) as store:
        assert store.n_samples == 8


def failing(*_):
    raise OSError(28, "no space")


def append_and_tell(path, told):
    """Write samples without end and tell each number of samples that is safe."""
    with FeatureStore.create(path, {"student": Network("cnn")}, batch_size=8) as writer:
        for start in range(0, 100000, 8):
            index = torch.arange(start, start + 8)
            writer.append(index, index, {"student": {"a": index[:, None].float() * torch.ones(500)}})
            told.send(writer.n_samples)


def dump_and_tell(path, told):
    """Dump 80 samples and tell each number of samples that is safe."""
    append = FeatureWriter.append

    def telling(self, *given, **options):
        append(self, *given, **options)
        told.send(self.n_samples)

    FeatureWriter.append = telling
    write_dump(wanted(small_nets(), n=80), path)


def killed(target, path, *, after):
    """The last number told by a process that is killed so many seconds after the first one, and how long it went on."""
    told, telling = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=target, args=(path, telling))
    process.start()
    telling.close()
    acknowledged, start = told.recv(), time.perf_counter()
    process.join(after)
    process.kill()
    process.join()
    seconds = time.perf_counter() - start
    with suppress(EOFError):
        while True:
            acknowledged = told.recv()
    return acknowledged, seconds


@pytest.mark.slow
def test_no_acknowledged_sample_is_lost_when_the_writer_is_killed(tmp_path):
    rng = np.random.default_rng(0)
    for trial in range(10):
        path = tmp_path / f"{trial}.h5"
        acknowledged, _ = killed(append_and_tell, path, after=rng.uniform(0, 0.5))
        with FeatureStore.open(partial_path(path), salvage=True) as store:
            assert store.n_samples >= acknowledged
            assert store.index.tolist() == list(range(store.n_samples))
            assert torch.equal(store.read("student", "a")[:, 0], store.index.float())


@pytest.mark.slow(first=True)
def test_dumps_killed_at_50_random_moments_lose_nothing_and_can_be_resumed(tmp_path):
    rng, nets = np.random.default_rng(0), small_nets()
    acknowledged, seconds = killed(dump_and_tell, tmp_path / "whole.h5", after=100)
    assert acknowledged == 80
    whole = FeatureStore.open(tmp_path / "whole.h5")
    interrupted = 0
    for trial in range(50):
        path = tmp_path / f"{trial}.h5"
        acknowledged, _ = killed(dump_and_tell, path, after=rng.uniform(0, seconds))
        if not path.exists():
            interrupted += 1
            with FeatureStore.open(partial_path(path), salvage=True) as store:
                assert store.n_samples >= acknowledged
                assert store.index.tolist() == fixed_order(80)[: store.n_samples].tolist()
            write_dump(wanted(nets, n=80), path, resume=True)
        with FeatureStore.open(path) as store:
            assert torch.equal(store.index, whole.index)
            torch.testing.assert_close(store.read("student", "layer3"), whole.read("student", "layer3"))
    assert interrupted >= 10


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 8 MB, where this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)]
    if not Path("/bin/mount").exists() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs the rights of root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("compression", ["gzip", "none"])
def test_a_really_full_disk_is_told_and_what_was_acknowledged_is_there(small_disk, compression):
    path, values, acknowledged = small_disk / "f.h5", torch.randn(8, 5000), 0
    message = r"cannot be written \(No space left on device\); its first \d+ samples"
    with (
        pytest.raises(StoreError, match=message),
        FeatureStore.create(path, {"student": Network("cnn")}, batch_size=8, compression=compression) as writer,
    ):
        for start in range(0, 1000, 8):
            index = torch.arange(start, start + 8)
            writer.append(index, index, {"student": {"a": values + start}})
            acknowledged = writer.n_samples
    with FeatureStore.open(partial_path(path), salvage=True) as store:
        assert store.n_samples == acknowledged >= 160
        expected = values.repeat(acknowledged // 8, 1) + torch.arange(0, acknowledged, 8).repeat_interleave(8)[:, None]
        assert torch.equal(store.read("student", "a"), expected)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (lambda x: 1e-7 * x, r"student layer 'a' varies too little for float16, whose rounding is \d+ % of its"),
        (lambda x: 1e-9 * x, r"rounding is 100% of its variation \(values up to .*\); use float32, or leave the layer"),
        (lambda x: 1e-40 * x, "varies too little for float16"),
        (lambda x: 1000 + x, "varies too little for float16"),
        (lambda x: x, None),
        (lambda x: 1e-4 * x, None),
        (lambda x: 20 + x, None),
        (lambda x: 0 * x, None),
        (lambda x: 0 * x + 1 / 3, None),
        (lambda x: 1e9 * x, "reaches .*, which float16 cannot hold"),
    ],
)
def test_float16_is_refused_where_it_loses_what_tells_samples_apart(tmp_path, values, told):
    x = values(torch.randn(32, 7, generator=torch.Generator().manual_seed(0)))
    index = torch.arange(32)

    def write():
        with FeatureStore.create(tmp_path / "f.h5", {"student": Network("s")}, dtype="float16") as writer:
            writer.append(index, index, {"student": {"a": x}})

    if told is None:
        write()
    else:
        with pytest.raises(StoreError, match=told.replace(" %", "%")):
            write()


def test_a_layer_named_inside_another_is_refused(tmp_path):
    inside = {"student": {"a": torch.randn(4, 3), "a/b": torch.randn(4, 2)}}
    with (
        pytest.raises(StoreError, match="the layers 'a' and 'a/b' of the student cannot be stored in one file"),
        FeatureStore.create(tmp_path / "f.h5", {"student": Network("s")}, batch_size=4) as store,
    ):
        store.append(torch.arange(4), torch.zeros(4, dtype=torch.int64), inside)


@pytest.mark.slow
def test_a_dump_is_written_over_nothing_but_with_consent(nets, path):
    path.write_text("the user's own")
    for ask in (
        lambda: write_dump(wanted(nets), path),
        lambda: FeatureStore.create(path, NETWORKS),
    ):
        with pytest.raises(
            StoreError, match=r"features\.h5 (exists already; give another name|is not a kdprobe feature file)"
        ):
            ask()
    assert path.read_text() == "the user's own"
    with pytest.raises(StoreError, match=r"--resume continues what is there, and --overwrite discards it"):
        write_dump(wanted(nets), path, resume=True, overwrite=True)
    for _ in range(2):
        write_dump(wanted(nets), path, overwrite=True)
        with FeatureStore.open(path) as store:
            assert store.n_samples == 20
    partial = path.with_name("features.h5.partial")
    partial.write_text("the user's own")
    path.unlink()
    with pytest.raises(StoreError, match=r"features\.h5\.partial is not an unfinished kdprobe feature file"):
        write_dump(wanted(nets), path, resume=True)
    assert partial.read_text() == "the user's own"


def test_layers_may_be_chosen_for_all_networks_and_need_not_be_stages(tmp_path):
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.last = torch.nn.Linear(6, 5), torch.nn.Linear(5, 3)

        def forward(self, rows):
            return self.last(self.first(rows))

    models, batches = {"teacher": Own(), "student": Own()}, [torch.rand(8, 6), torch.rand(8, 6)]
    write_dump(Dump.over(models, batches, layers=["first"]), tmp_path / "own.h5")
    with FeatureStore.open(tmp_path / "own.h5") as store:
        assert [store.layers(role) for role in models] == [["first"], ["first"]]
        with pytest.raises(
            StoreError, match=r"no layer of the student in .*own\.h5 is known to end a stage; .*: first$"
        ):
            store.layers("student", "stages")
    by_role = {"teacher": "last", "student": ["first"]}
    write_dump(Dump.over(models, batches, layers=by_role), tmp_path / "own.h5", overwrite=True)
    with FeatureStore.open(tmp_path / "own.h5") as store:
        assert [store.layers(role) for role in models] == [["last"], ["first"]]


def test_a_dump_without_samples_or_layers_is_told(path):
    write(path)
    with FeatureStore.open(path) as store, pytest.raises(StoreError, match=r"no layer of the teacher in .* is left"):
        store.layers("teacher", ["all", "!*"])
    with h5py.File(path, "r+") as file:
        file["samples/valid"][()] = 0
    with pytest.raises(StoreError, match=r"features\.h5 holds no samples"):
        FeatureStore.open(path)
