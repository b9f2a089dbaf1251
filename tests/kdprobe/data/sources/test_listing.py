"""Which files are images of a class: hidden ones, links, pipes and accents, and what is said of the rest."""

import os
import re
import shutil
import sys
import unicodedata
import zlib
from pathlib import Path

import pytest
from PIL import Image

from analyses.evaluation.predictions import judge
from kdprobe.cli.group import run
from kdprobe.data import ImageFiles, load_data
from kdprobe.data.check import check
from kdprobe.data.sources.listing import list_classes
from kdprobe.errors import DataError
from kdprobe.models import create
from kdprobe.models.checkpoint import save


def images(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (8, 8), tuple(zlib.crc32(str(folder / name).encode()).to_bytes(4)[:3])).save(
            folder / name, "PNG"
        )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            images(tmp_path / "set" / split / name, "0.png", "1.png")
    return tmp_path / "set"


def names(root: Path, split: str = "train") -> dict[str, list[str]]:
    return {name: [Path(path).name for path in paths] for name, paths in list_classes(root / split).classes.items()}


def test_hidden_files_and_folders_are_no_images_at_any_depth(root: Path) -> None:
    for hidden in (".ipynb_checkpoints", "__MACOSX", "deep/.git", "deep/@eaDir"):
        images(root / "train" / "cat" / hidden, "0.png")
    images(root / "train" / "cat", "._0.png")
    for hidden in (".ipynb_checkpoints", "__MACOSX"):
        images(root / "train" / hidden, "0.png")
    images(root / "train", "beside.png")
    images(root / "train" / "cat" / "deep", "2.png")
    assert names(root) == {"cat": ["0.png", "1.png", "2.png"], "dog": ["0.png", "1.png"]}
    found = check(f"folder:{root}")
    assert found.counts.train.tolist() == [3, 2]
    first, second = found.left_out
    assert first.startswith("7 files or folders are left out, the first ")
    assert first.endswith(": hidden")
    assert second == f"{root / 'train' / 'beside.png'} is left out: not in a class's folder"
    assert not found.complaints


def test_what_is_no_image_is_counted_by_its_ending(root: Path) -> None:
    images(root / "train" / "cat", "2.JPG", "3.jfif", "4.webp", "5.heic", "6.heic", "README")
    os.mkfifo(root / "train" / "cat" / "pipe.png")
    assert names(root)["cat"] == ["0.png", "1.png", "2.JPG", "3.jfif", "4.webp"]
    said = check(f"folder:{root}").left_out
    assert any("2 files or folders" in line and ".heic is not an image file extension" in line for line in said)
    assert any("README is left out: no image file extension" in line for line in said)
    assert f"{root / 'train' / 'cat' / 'pipe.png'} is left out: not a regular file" in said


def test_class_folders_that_hold_each_other(root: Path) -> None:
    train = root / "train"
    (train / "cat" / "dogs").symlink_to(train / "dog")
    (train / "dog" / "cats").symlink_to(train / "cat")
    (train / "dog" / "again").symlink_to(train / "dog")
    assert names(root) == {"cat": ["0.png", "1.png"], "dog": ["0.png", "1.png"]}
    left_out = list_classes(train).left_out
    assert {Path(one.path).name for one in left_out} == {"dogs", "cats", "again"}
    dogs = next(one for one in left_out if one.path.endswith("dogs"))
    assert dogs.reason == f"the same folder as {train / 'dog'}, whose images are counted there"


def test_links_to_elsewhere_are_followed_once(root: Path, tmp_path: Path) -> None:
    images(tmp_path / "pool", "p.png")
    images(tmp_path / "emus", "e.png")
    (tmp_path / "pool" / "up").symlink_to(tmp_path)  # leads to all there is, and to itself
    (root / "train" / "cat" / "more").symlink_to(tmp_path / "pool")
    (root / "train" / "dog" / "more").symlink_to(tmp_path / "pool")
    (root / "train" / "emu").symlink_to(tmp_path / "emus")
    (root / "train" / "dog" / "loop").symlink_to("loop")
    found = names(root)
    assert found["emu"] == ["e.png"]
    assert (found["cat"], found["dog"]) == (["0.png", "1.png", "p.png"], ["0.png", "1.png"])
    reasons = {Path(one.path).name: one.reason for one in list_classes(root / "train").left_out}
    assert reasons["up"] == "a link to a folder that contains it"


def test_a_broken_link_to_an_image_is_reported_when_it_is_decoded(root: Path) -> None:
    (root / "train" / "cat" / "2.png").symlink_to(root / "gone.png")
    (complaint,) = check(f"folder:{root}").complaints
    assert complaint == f"{root / 'train' / 'cat' / '2.png'} cannot be decoded as an image (FileNotFoundError)"


def test_accents_composed_and_decomposed_are_one_class(root: Path) -> None:
    for split, form in (("train", "NFC"), ("test", "NFD"), ("train", "NFD")):
        images(root / split / unicodedata.normalize(form, "caf\u00e9"), f"{form}.png")
    data = load_data(f"folder:{root}", storage="files")
    assert data.classes == ("caf\u00e9", "cat", "dog")
    assert isinstance(data.train.images, ImageFiles)
    assert data.train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert {Path(path).name for path in data.train.images.paths[:2]} == {"NFC.png", "NFD.png"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_class_whose_name_is_no_utf8_has_its_bytes_as_escapes(root: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        shutil.copytree(root / split / "cat", os.fsdecode(os.fsencode(root / split) + b"/\xe9t\xe9"))
    data = load_data(f"folder:{root}", image_size=32)
    assert data.classes == (r"\xe9t\xe9", "cat", "dog")
    network = create("resnet8", n_classes=3, image_size=32, classes=data.classes, data=data.spec)
    save(network, tmp_path / "network.safetensors")
    run("evaluate", "--checkpoint", tmp_path / "network.safetensors", "--device", "cpu", "--out", tmp_path, "--quiet")
    assert r"\xe9t\xe9" in (tmp_path / "evaluation.csv").read_text(encoding="utf-8")


def test_training_images_alone_are_enough_where_some_are_held_out(root: Path) -> None:
    shutil.rmtree(root / "test")
    data = load_data(f"folder:{root}", holdout=0.5)
    assert (data.evaluated_on, len(data.train), len(data.test)) == ("holdout", 2, 2)
    found = check(f"folder:{root}")
    assert found.counts.test.tolist() == [0, 0]
    assert found.complaints == ["there are no test images: training needs data.holdout"]
    with pytest.raises(DataError, match=r"has no test images; add some .*with data\.holdout"):
        load_data(f"folder:{root}")


def test_a_class_may_have_no_test_images(root: Path) -> None:
    shutil.rmtree(root / "test" / "cat")
    data = load_data(f"folder:{root}")
    assert (data.classes, data.test.labels.tolist()) == (("cat", "dog"), [1, 1])
    assert check(f"folder:{root}").complaints == ["class 'cat' has no test images"]


def test_a_class_of_left_out_files_says_why(root: Path) -> None:
    images(root / "train" / "emu", "0.heic")
    with pytest.raises(DataError, match=r"class 'emu' has no images in .*0\.heic is left out: \.heic is not an image"):
        load_data(f"folder:{root}")


def test_a_folder_that_cannot_be_listed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("kdprobe.data.sources.listing.os.scandir", refuse)
    with pytest.raises(DataError, match=r"train cannot be read as a folder of images \(PermissionError"):
        load_data(f"folder:{root}")


def test_folders_beside_the_splits_are_named(root: Path) -> None:
    images(root / "val" / "cat", "0.png")
    images(root / "validation" / "cat", "0.png")
    images(root / ".cache", "0.png")
    found = check(f"folder:{root}")
    assert found.n_left_out == 2
    (line,) = found.left_out
    assert line == (f"2 files or folders are left out, the first {root / 'val'}: images are read from train/ and test/")
    (note,) = load_data(f"folder:{root}").notes
    assert note == (
        f"2 files or folders of folder:{root} are left out (images are read from train/ and test/); see kdprobe data "
        f"check folder:{root}"
    )
    assert check(f"imagenet:{root}").left_out == [
        f"2 files or folders are left out, the first {root / 'test'}: images are read from train/ and val/"
    ]


@pytest.mark.parametrize("how", ["split", "class", "file", "hard"])
def test_test_images_that_are_training_images_are_a_complaint(root: Path, how: str) -> None:
    train, test = root / "train", root / "test"
    if how == "split":
        shutil.rmtree(test)
        test.symlink_to("train")
    elif how == "class":
        shutil.rmtree(test / "dog")
        (test / "dog").symlink_to(train / "dog")
    elif how == "file":
        (test / "dog" / "2.png").symlink_to(train / "cat" / "0.png")
    else:
        (test / "dog" / "2.png").hardlink_to(train / "cat" / "0.png")
    count, first = {"split": (4, "cat/0.png"), "class": (2, "dog/0.png")}.get(how, (1, "dog/2.png"))
    said = f"{count} test images are also training images, the first {test / first}, so they test nothing"
    alone = f"{test / first} is also a training image, so it tests nothing"
    assert check(f"folder:{root}").complaints == [alone if count == 1 else said]
    (note,) = load_data(f"folder:{root}", identified=True).notes
    assert (
        f"evaluation images are also training images (the first is {test / first}), so the accuracy is overstated"
        in note
    )
    held_out = load_data(f"folder:{root}", identified=True, holdout=0.5)
    assert held_out.notes == []


def test_a_first_image_that_is_damaged_does_not_end_the_check(root: Path) -> None:
    (root / "train" / "cat" / "0.png").write_bytes(b"no image")
    found = check(f"folder:{root}")
    assert found.counts.train.tolist() == [2, 2]
    (complaint,) = found.complaints
    assert complaint.startswith(f"{root / 'train' / 'cat' / '0.png'} cannot be decoded as an image")


def test_training_and_evaluation_say_what_is_left_out(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images(root / "train" / "cat", "2.tga")
    images(root / "train" / "dog", "2.tga", "3.tga", "4.psd")
    words = ["train", "digits/resnet8", "--data", f"folder:{root}", "--out", tmp_path / "run", "--device", "cpu"]
    settings = ("training.epochs=1", "data.image_size=8", "data.workers=0")
    said = (
        r"4 files or folders of .* are left out \(3 as '.tga is not an image file extension', "
        r"the others for other reasons\)"
    )
    run(*words, *(word for one in settings for word in ("--set", one)))
    assert len(re.findall(said, capsys.readouterr().err)) == 1
    judge(tmp_path / "run", workers=0, quiet=False)
    assert len(re.findall(said, capsys.readouterr().err)) == 1
    judge(tmp_path / "run", workers=0)
    assert capsys.readouterr().err == ""


def test_copies_of_training_images_test_nothing(root: Path) -> None:
    train, test = root / "train", root / "test"
    shutil.copy(train / "cat" / "0.png", test / "dog" / "2.png")
    alone = f"{test / 'dog' / '2.png'} of {train / 'cat' / '0.png'} is a copy, so it tests nothing"
    assert check(f"folder:{root}").complaints == [alone]
    shutil.copy(train / "dog" / "1.png", test / "cat" / "5.png")
    (complaint,) = check(f"folder:{root}").complaints
    first = f"{test / 'cat' / '5.png'} of {train / 'dog' / '1.png'}"
    assert complaint == f"2 test images are copies of training images, the first {first}, so they test nothing"
