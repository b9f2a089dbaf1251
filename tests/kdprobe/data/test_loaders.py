"""Batches: every image once, the same for the same key, whatever the workers."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from kdprobe.config import AugmentConfig
from kdprobe.data import Batch, ImageFiles, Split, evaluation_batches, load_data, loaders, n_batches, training_batches
from kdprobe.data.decode import into_memory, resize
from kdprobe.errors import ConfigError, DataError

STILL = AugmentConfig(crop="none", flip=False)


def split_of(n: int, size: int = 8) -> Split:
    images = torch.arange(n, dtype=torch.uint8)[:, None, None, None].expand(n, 3, size, size).contiguous()
    return Split(images, torch.arange(n) % 3, size)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Split:
    folder = tmp_path_factory.mktemp("images")
    pixels = torch.randint(0, 256, (23, 20, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for i, image in enumerate(pixels):
        Image.fromarray(image.numpy()).save(folder / f"{i}.png")
    return Split(ImageFiles(tuple(str(folder / f"{i}.png") for i in range(23))), torch.arange(23) % 2, 16)


def joined(batches: Iterator[Batch]) -> tuple[Tensor, Tensor, Tensor]:
    found = list(batches)
    return (
        torch.cat([batch.images for batch in found]),
        torch.cat([batch.labels for batch in found]),
        torch.cat([batch.index for batch in found]),
    )


@given(n=st.integers(2, 60), batch_size=st.integers(1, 20), seed=st.integers(0, 5))
@settings(deadline=None)
def test_an_epoch_has_every_image_once_with_its_label(n: int, batch_size: int, seed: int) -> None:
    split = split_of(n)
    batches = list(training_batches(split, batch_size=batch_size, augment=STILL, seed=seed, epoch=0))
    images, labels, index = joined(iter(batches))
    assert index.sort().values.tolist() == list(range(n))
    assert torch.equal(labels, split.labels[index])
    assert torch.equal((images[:, 0, 0, 0] * 255).round().long(), index)
    assert len(batches) == n_batches(n, batch_size)
    sizes = [len(batch.labels) for batch in batches]
    assert all(size == batch_size for size in sizes[:-1])
    assert batch_size == 1 or 2 <= sizes[-1] <= batch_size + 1


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        batches = training_batches(split_of(40), batch_size=7, augment=STILL, seed=seed, epoch=epoch)
        return joined(batches)[2].tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_images_are_fractions_and_evaluation_is_in_order() -> None:
    data = load_data("digits")
    images, labels, index = joined(evaluation_batches(data.test, batch_size=50))
    assert images.dtype == torch.float32
    assert 0 == images.min() < images.max() == 1
    assert torch.equal(index, torch.arange(len(data.test)))
    assert torch.equal(labels, data.test.labels)
    assert torch.equal((images * 255).round().to(torch.uint8), data.test.images)


ALL = AugmentConfig(padding=2, rand_augment="rand-m9-mstd0.5-inc1", erase=0.5, repeats=3)


@pytest.mark.parametrize("workers", [0, 1])
def test_workers_hear_when_nothing_is_wanted_any_more(
    files: Split, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    made: list[loaders._Prepared] = []

    class Kept(loaders._Prepared):
        def __init__(self, work: loaders._Work, *, in_workers: bool) -> None:
            super().__init__(work, in_workers=in_workers)
            made.append(self)

    monkeypatch.setattr(loaders, "_Prepared", Kept)
    batches = evaluation_batches(files, batch_size=2, workers=workers)
    next(batches)
    assert not made[0].unwanted.is_set()
    batches.close()  # type: ignore[attr-defined]
    assert made[0].unwanted.is_set()
    images, views = made[0][0]
    assert (len(images), len(views)) == (0, 0), "nothing more is decoded"


@pytest.mark.slow
def test_a_worker_that_is_told_to_stop_ends_without_an_error() -> None:
    code = (
        "import os, signal\nfrom kdprobe.data.loaders import _obey\n_obey(0)\n"
        "os.kill(os.getpid(), signal.SIGINT); os.kill(os.getpid(), signal.SIGTERM); raise SystemExit(3)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "augment",
    [AugmentConfig(padding=2), AugmentConfig(crop="resized"), STILL, ALL, ALL.model_copy(update={"crop": "resized"})],
    ids=["pad", "resized", "none", "all", "resized, all"],
)
def test_workers_and_batch_size_change_nothing(files: Split, augment: AugmentConfig) -> None:

    def epoch(workers: int, batch_size: int) -> tuple[Tensor, Tensor, Tensor]:
        return joined(training_batches(files, batch_size=batch_size, augment=augment, seed=3, epoch=1, workers=workers))

    expected = epoch(0, 5)
    for workers, batch_size in ((2, 5), (1, 4), (0, 23)):
        assert all(map(torch.equal, epoch(workers, batch_size), expected))


@pytest.mark.parametrize("augment", [AugmentConfig(padding=2), ALL])
def test_files_and_memory_give_the_same_batches(files: Split, augment: AugmentConfig) -> None:
    decoded = into_memory(files)
    for split in (files, decoded):
        assert len(split) == 23
    pairs = zip(
        training_batches(files, batch_size=6, augment=augment, seed=0, epoch=0, workers=0),
        training_batches(decoded, batch_size=6, augment=augment, seed=0, epoch=0),
        strict=True,
    )
    assert all(torch.equal(one.images, other.images) for one, other in pairs)
    assert into_memory(decoded) is decoded


@given(n=st.integers(2, 40), batch_size=st.integers(2, 9), repeats=st.integers(1, 5))
@settings(deadline=None)
def test_repeats_give_a_part_of_the_images_several_times(n: int, batch_size: int, repeats: int) -> None:
    augment = STILL.model_copy(update={"repeats": repeats})
    batches = list(training_batches(split_of(n), batch_size=batch_size, augment=augment, seed=0, epoch=0))
    images, labels, index = joined(iter(batches))
    assert len(index) == n
    assert len(batches) == n_batches(n, batch_size)
    counts = index.bincount(minlength=n)
    assert sorted(counts[counts > 0].tolist(), reverse=True)[:-1] == [repeats] * (-(-n // repeats) - 1)
    assert torch.equal((images[:, 0, 0, 0] * 255).round().long(), index)
    assert torch.equal(labels, split_of(n).labels[index])


@pytest.mark.parametrize(
    "kind", [{"rand_augment": "rand-m9"}, {"erase": 1.0}, {"flip": True}, {"crop": "pad"}, {"crop": "resized"}]
)
def test_repeated_images_are_varied_in_different_ways(files: Split, kind: dict[str, object]) -> None:
    augment = AugmentConfig.model_validate({"crop": "none", "flip": False, **kind, "repeats": 12})
    assert augment.varies
    images, _, index = joined(training_batches(files, batch_size=12, augment=augment, seed=0, epoch=0, workers=0))
    assert index[:12].unique().numel() == 1
    assert len({image.numpy().tobytes() for image in images[:12]}) >= 2


@pytest.mark.parametrize("kind", [{"crop": "resized"}, ALL.model_dump(), {"crop": "none", "flip": False}])
def test_variations_come_again_after_a_period_in_another_order(files: Split, kind: dict[str, object]) -> None:
    augment = AugmentConfig.model_validate({**kind, "period": 2, "repeats": 1})
    epochs = [
        list(training_batches(files, batch_size=6, augment=augment, seed=4, epoch=epoch, workers=0))
        for epoch in range(4)
    ]
    orders = [[int(view) for batch in epoch if batch.view is not None for view in batch.view] for epoch in epochs]
    pixels = [torch.cat([batch.images for batch in epoch]) for epoch in epochs]
    known = dict(zip(orders[0] + orders[1], [*pixels[0], *pixels[1]], strict=True))
    assert sorted(known) == list(range(46 if augment.varies else 23))
    for order, images in zip(orders[2:], pixels[2:], strict=True):
        assert all(torch.equal(known[view], image) for view, image in zip(order, images, strict=True))
    assert orders[0] != orders[2] and orders[1] != orders[3]  # noqa: PT018
    varied = [images[torch.tensor(order).argsort()] for order, images in zip(orders[:2], pixels[:2], strict=True)]
    assert torch.equal(*varied) != augment.varies


def test_without_a_period_each_epoch_has_views_of_its_own(files: Split) -> None:
    seen: set[int] = set()
    for epoch in range(3):
        for batch in training_batches(files, batch_size=6, augment=ALL, seed=0, epoch=epoch, workers=0):
            assert batch.view is not None
            assert torch.equal(batch.view % 23, batch.index)
            seen |= set(batch.view.tolist())
    assert len(seen) == 3 * 23
    assert next(evaluation_batches(files, batch_size=6, workers=0)).view is None


def test_shards_are_parts_of_the_same_batches(files: Split) -> None:
    settings = {"batch_size": 6, "augment": ALL, "seed": 0, "epoch": 2, "workers": 0}
    whole = list(training_batches(files, **settings))  # type: ignore[arg-type]
    parts = [list(training_batches(files, shard=(rank, 2), **settings)) for rank in range(2)]  # type: ignore[arg-type]
    for batch, *halves in zip(whole, *parts, strict=True):
        assert torch.equal(torch.cat([half.images for half in halves]), batch.images)


@given(n=st.integers(2, 60), batch_size=st.integers(2, 20), world=st.integers(2, 5))
@settings(deadline=None)
def test_each_process_has_as_many_batches_and_images_of_each(n: int, batch_size: int, world: int) -> None:
    split, world = split_of(n), min(n, batch_size, world)
    parts = [
        list(training_batches(split, batch_size=batch_size, augment=AugmentConfig(), seed=0, epoch=0, shard=(r, world)))
        for r in range(world)
    ]
    assert {len(part) for part in parts} == {n_batches(n, batch_size, world)}
    sizes = [[len(batch.labels) for batch in batches] for batches in zip(*parts, strict=True)]
    assert all(sum(each) == batch_size for each in sizes[:-1])
    assert min(sizes[-1]) >= min(2, min(n, batch_size) // world)
    index = torch.cat([batch.index for part in parts for batch in part])
    assert index.sort().values.tolist() == list(range(n))


def test_a_process_without_an_image_is_refused() -> None:
    options = {"augment": STILL, "seed": 0, "epoch": 0, "shard": (0, 4)}
    with pytest.raises(
        ConfigError, match=r"each of 4 processes needs an image of each batch, but the batch size is 3$"
    ):
        next(training_batches(split_of(9), batch_size=3, **options))  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"each of 4 processes needs an image, but there are 3$"):
        next(training_batches(split_of(3), batch_size=8, **options))  # type: ignore[arg-type]


def test_random_areas_differ_between_epochs(files: Split) -> None:
    augment = AugmentConfig(crop="resized", flip=False)
    first, second = (
        joined(training_batches(files, batch_size=6, augment=augment, seed=0, epoch=epoch, workers=0))
        for epoch in (0, 1)
    )
    assert not torch.equal(first[0][first[2].argsort()], second[0][second[2].argsort()])


def test_global_random_state_is_untouched(files: Split) -> None:
    before = torch.get_rng_state()
    for augment, workers in ((AugmentConfig(), 1), (ALL, 0)):
        list(training_batches(files, batch_size=6, augment=augment, seed=0, epoch=0, workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_file_that_cannot_be_decoded_is_named(files: Split, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    split = Split(ImageFiles((str(bad),) * 2), torch.zeros(2, dtype=torch.int64), 16)
    for workers in (0, 1):
        with pytest.raises(DataError, match=r"bad\.jpg cannot be decoded as an image \(UnidentifiedImageError\)$"):
            list(evaluation_batches(split, batch_size=2, workers=workers))


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:1000])
    split = Split(ImageFiles((str(path),)), torch.zeros(1, dtype=torch.int64), 16)
    with pytest.raises(DataError, match=r"half\.png cannot be decoded as an image"):
        list(evaluation_batches(split, batch_size=2, workers=0))


def test_random_areas_of_images_in_memory_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'resized' cuts from image files: it needs data.storage 'files'"):
        next(training_batches(split_of(9), batch_size=3, augment=AugmentConfig(crop="resized"), seed=0, epoch=0))


def test_one_image_cannot_be_trained_on() -> None:
    with pytest.raises(DataError, match=r"training needs at least two images, but there is only one"):
        next(training_batches(split_of(1), batch_size=3, augment=STILL, seed=0, epoch=0))


def test_images_kept_small_are_shown_at_the_asked_size() -> None:
    split = split_of(4, size=8)
    shown = Split(split.images, split.labels, 16)
    batch = next(evaluation_batches(shown, batch_size=4))
    assert batch.images.shape == (4, 3, 16, 16)
    assert isinstance(split.images, Tensor)
    assert torch.equal((batch.images * 255).round().to(torch.uint8), resize(split.images, 16))


@pytest.mark.gpu
def test_batches_on_a_gpu_equal_those_on_the_cpu(files: Split) -> None:
    for split in (split_of(30), files):
        for augment in (AugmentConfig(), STILL, ALL):
            cpu, cuda = (
                training_batches(split, batch_size=7, augment=augment, seed=0, epoch=0, device=device, workers=0)
                for device in ("cpu", "cuda")
            )
            for one, other in zip(cpu, cuda, strict=True):
                assert other.images.is_cuda
                assert other.labels.is_cuda
                assert torch.equal(one.images, other.images.cpu())


def test_batches_arrive_where_shared_memory_is_full(files: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_tensor: Tensor) -> Tensor:
        raise RuntimeError("unable to allocate shared memory(shm): No space left on device (28)")

    expected = joined(evaluation_batches(files, batch_size=6, workers=0))
    monkeypatch.setattr("torch.Tensor.share_memory_", full)
    monkeypatch.setattr("torch.UntypedStorage._share_fd_cpu_", full)
    found = joined(evaluation_batches(files, batch_size=6, workers=1))
    assert all(map(torch.equal, found, expected))
