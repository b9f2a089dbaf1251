"""RAF-DB's layout, written small: what is read, and what is said of broken copies."""

import shutil
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from kdprobe.cli.data import check_data
from kdprobe.data import ImageFiles, check, load_data
from kdprobe.data.sources.rafdb import ALIGNED, BASIC, COMPOUND, LIST
from kdprobe.errors import DataError


def write_part(root: Path, n_classes: int) -> None:
    """Two training images and one test image per class, listed without a newline at the end."""
    (root / LIST).parent.mkdir(parents=True)
    (root / ALIGNED).mkdir(parents=True)
    lines = [f"train_{i:05d}.jpg {i % n_classes + 1}" for i in range(1, 2 * n_classes + 1)]
    lines += [f"test_{i:04d}.jpg {i}" for i in range(1, n_classes + 1)]
    (root / LIST).write_text("\n".join(lines))
    for line in lines:
        stem, label = line.split()[0].removesuffix(".jpg"), int(line.split()[1])
        Image.new("RGB", (100, 100), (20 * label, 0, 0)).save(root / ALIGNED / f"{stem}_aligned.jpg")


@pytest.fixture
def rafdb(tmp_path: Path) -> Path:
    write_part(tmp_path / "basic", 7)
    write_part(tmp_path / "compound", 11)
    return tmp_path


@pytest.mark.parametrize(("spec", "part", "n_classes"), [("rafdb", "basic", 7), ("rafdb-compound", "compound", 11)])
def test_both_parts_are_read(rafdb: Path, spec: str, part: str, n_classes: int) -> None:
    data = load_data(f"{spec}:{rafdb}", image_size=20)
    assert (len(data.train), len(data.test), data.n_classes) == (2 * n_classes, n_classes, n_classes)
    assert isinstance(data.test.images, torch.Tensor)
    red = data.test.images[:, 0, 10, 10].long()
    assert (red - 20 * (data.test.labels + 1)).abs().max() <= 3
    inside = load_data(f"{spec}:{rafdb / part}", image_size=20)
    assert torch.equal(inside.train.labels, data.train.labels)
    (rafdb / part).rename(rafdb / f"raf-{part}")
    assert len(load_data(f"{spec}:{rafdb}").train) == 2 * n_classes


def test_classes_are_those_of_the_authors() -> None:
    assert BASIC[3] == "happiness"
    names = {"happily": 3, "sadly": 4, "fearfully": 1, "angrily": 5, "disgustedly": 2}
    seconds = {"surprised": 0, "disgusted": 2, "fearful": 1, "angry": 5}
    for name, pair in COMPOUND.items():
        first, second = name.split()
        assert pair == (names[first], seconds[second])
    assert len({frozenset(pair) for pair in COMPOUND.values()}) == 11


def test_the_size_is_224_if_not_told(rafdb: Path) -> None:
    data = load_data(f"rafdb:{rafdb}", storage="files")
    assert data.image_size == 224
    assert isinstance(data.train.images, ImageFiles)


def error(spec: str) -> str:
    with pytest.raises(DataError) as caught:
        load_data(spec)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("train_00020.jpg 8", "labels run from 1 to 7, but train_00020.jpg has 8"),
        ("test_0020.jpg 0", "labels run from 1 to 7, but test_0020.jpg has 0"),
        ("train_00020.jpg", "a line must read `train_00001.jpg 5` or `test_0001.jpg 5`, but is 'train_00020.jpg'"),
        ("valid_00020.jpg 5", "a line must read `train_00001.jpg 5` or `test_0001.jpg 5`, but is 'valid_00020.jpg 5'"),
        ("train_00020.png 5", "a line must read `train_00001.jpg 5` or `test_0001.jpg 5`, but is 'train_00020.png 5'"),
        ("train_00003.jpg 5", "train_00003_aligned.jpg is listed twice"),
    ],
)
def test_a_bad_line_is_named_by_its_number(rafdb: Path, line: str, said: str) -> None:
    path = rafdb / "basic" / LIST
    path.write_text(path.read_text() + f"\n\n{line}\n")
    assert error(f"rafdb:{rafdb}") == f"{path}, line 23: {said}"


def test_a_compound_label_outside_is_named(rafdb: Path) -> None:
    path = rafdb / "compound" / LIST
    path.write_text("train_00001.jpg 12\n")
    assert error(f"rafdb-compound:{rafdb}") == f"{path}, line 1: labels run from 1 to 11, but train_00001.jpg has 12"


def test_missing_things_are_named(rafdb: Path) -> None:
    images = rafdb / "basic" / ALIGNED
    (images / "train_00002_aligned.jpg").unlink()
    assert error(f"rafdb:{rafdb}") == f"{images / 'train_00002_aligned.jpg'} is named in the list but missing"
    shutil.rmtree(images)
    assert error(f"rafdb:{rafdb}").endswith("train_00001_aligned.jpg is named in the list but missing, and 20 more")
    (rafdb / "basic" / LIST).write_text("train_00001.jpg 1")
    images.mkdir()
    (images / "train_00001_aligned.jpg").touch()
    assert error(f"rafdb:{rafdb}").startswith(f"rafdb:{rafdb} has no test images; add some")
    (rafdb / "basic" / LIST).write_text("test_0001.jpg 1")
    (images / "test_0001_aligned.jpg").touch()
    assert error(f"rafdb:{rafdb}") == f"{rafdb / 'basic' / LIST} names no train images"
    (rafdb / "basic" / LIST).unlink()
    assert error(f"rafdb:{rafdb}").startswith(f"there is no {LIST} in {rafdb / 'basic'}, {rafdb / 'raf-basic'} or")
    assert error("rafdb").endswith("or DIR")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_lists_as_editors_save_them(rafdb: Path, encoding: str) -> None:
    path = rafdb / "basic" / LIST
    labels = load_data(f"rafdb:{rafdb}").train.labels
    path.write_bytes(path.read_text().replace(" ", "\t").replace("\n", "\r\n").encode(encoding))
    assert torch.equal(load_data(f"rafdb:{rafdb}").train.labels, labels)


def test_a_list_that_is_no_text(rafdb: Path) -> None:
    (rafdb / "basic" / LIST).write_bytes(b"train_00001.jpg 1\n\xff\xfe\xfa")
    assert "cannot be read as a text in UTF-8 or UTF-16 (UnicodeDecodeError" in error(f"rafdb:{rafdb}")


def test_the_home_folder_may_be_abbreviated(rafdb: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(rafdb.parent))
    assert load_data(f"rafdb:~/{rafdb.name}").n_classes == len(BASIC)
    assert not check.check(f"rafdb:~/{rafdb.name}").missing


def test_check_counts_and_complains(rafdb: Path) -> None:
    images = rafdb / "basic" / ALIGNED
    (images / "train_00001_aligned.jpg").write_bytes(b"not an image")
    (images / "stray.jpg").touch()
    found = check.check(f"rafdb:{rafdb}")
    assert found.counts["class"].tolist() == list(BASIC)
    assert found.counts.train.tolist() == [2] * 7
    assert found.counts.test.tolist() == [1] * 7
    damaged, surplus, first, *others = found.complaints
    assert damaged == f"{images / 'train_00001_aligned.jpg'} cannot be decoded as an image (UnidentifiedImageError)"
    assert surplus == f"{images / 'stray.jpg'} is not in the list"
    assert first == "2 train images of surprise where 1290 are published"
    assert len(others) == 13


def test_check_names_all_that_is_missing(rafdb: Path) -> None:
    images = rafdb / "basic" / ALIGNED
    gone = [images / f"train_0000{number}_aligned.jpg" for number in (1, 2)]
    for path in gone:
        path.unlink()
    found = check.check(f"rafdb:{rafdb}")
    assert found.complaints[:2] == [f"{path} is named in the list but missing" for path in gone]
    assert found.counts.train.sum() == 12
    shutil.rmtree(images)
    with pytest.raises(DataError, match=r"train_00001_aligned\.jpg is named in the list but missing, and 20 more"):
        check.check(f"rafdb:{rafdb}")


def test_check_compares_totals_where_only_they_are_known(rafdb: Path) -> None:
    assert check.check(f"rafdb-compound:{rafdb}").complaints == [
        "22 train images where 3162 are published",
        "11 test images where 792 are published",
    ]


def test_the_published_counts_add_up() -> None:
    for name, totals in {"rafdb": (12271, 3068), "rafdb-compound": (3162, 792), "cifar100": (50_000, 10_000)}.items():
        assert tuple(map(sum, check.PUBLISHED[name])) == totals


def test_the_check_command(rafdb: Path) -> None:
    whole = CliRunner().invoke(check_data, ["digits"], catch_exceptions=False, standalone_mode=False)
    assert "digits: 1438 training and 359 test images, nothing is wrong" in whole.stdout
    runner = CliRunner()
    with pytest.raises(DataError, match=r"rafdb-compound:.* is not as it should be: 2 problems"):
        runner.invoke(check_data, [f"rafdb-compound:{rafdb}"], catch_exceptions=False, standalone_mode=False)


def test_a_label_of_thousands_of_digits(rafdb: Path) -> None:
    path = rafdb / "basic" / LIST
    path.write_text(f"train_00001.jpg {'9' * 5000}\n")
    assert error(f"rafdb:{rafdb}") == (
        f"{path}, line 1: labels run from 1 to 7, but train_00001.jpg has one of 5,000 digits"
    )
