"""FER+'s layout, written small: what is read, what counts as an emotion, and what is said of broken copies."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from analyses.evaluation.compound import compound_result
from analyses.evaluation.predictions import Judged
from kdprobe.data import check, load_data
from kdprobe.data.sources.ferplus import EMOTIONS, FAMILIES, FOLDERS, NAMES, VOTES, compounds, majority, pair_of
from kdprobe.errors import AnalysisError, DataError
from kdprobe.models.creation import ModelInfo

HAPPY = (0, 9, 0, 1, 0, 0, 0, 0, 0, 0)
MIXED = (4, 0, 0, 4, 1, 1, 0, 0, 0, 0)
UNKNOWN = (3, 0, 0, 0, 0, 0, 0, 0, 7, 0)
SCORN = (0, 1, 0, 0, 2, 0, 0, 7, 0, 0)
HEAD = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"


def write_faces(root: Path, **parts: Sequence[Sequence[int]]) -> None:
    """A small copy: each face has the grey of its number."""
    lines, number = [HEAD], 0
    for part, faces in parts.items():
        folder = root / "data" / FOLDERS[part]
        folder.mkdir(parents=True)
        for votes in faces:
            name = f"fer{number:07d}.png"
            Image.fromarray(np.full((48, 48), 10 * number, dtype=np.uint8)).save(folder / name)
            lines.append(f"{part},{name},{','.join(map(str, votes))}")
            number += 1
    (root / VOTES).write_text("\n".join(lines) + "\n")


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    root = tmp_path / "fer"
    write_faces(
        root,
        Training=[HAPPY, MIXED, UNKNOWN, SCORN, MIXED],
        PublicTest=[HAPPY, HAPPY, SCORN],
        PrivateTest=[MIXED, HAPPY, SCORN, UNKNOWN],
    )
    return root


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("ferplus", ["happiness", "contempt"], ["happiness", "contempt"]),
        ("ferplus-valid", ["happiness", "contempt"], ["happiness", "happiness", "contempt"]),
        ("ferplus7", ["happiness"], ["happiness"]),
        ("ferplus7-valid", ["happiness"], ["happiness", "happiness"]),
        ("ferplus-compound", ["neutral and sadness"] * 2, ["neutral and sadness"]),
        ("ferplus7-compound", ["neutral and sadness"] * 2, ["neutral and sadness"]),
    ],
)
def test_every_family_is_read(faces: Path, name: str, train: list[str], test: list[str]) -> None:
    data = load_data(f"{name}:{faces}")
    assert data.image_size == 48
    assert [data.classes[label] for label in data.train.labels] == train
    assert [data.classes[label] for label in data.test.labels] == test
    assert isinstance(data.train.images, torch.Tensor)
    assert data.train.images.shape == (len(train), 3, 48, 48)


def test_the_images_are_those_of_their_lines(faces: Path) -> None:
    data = load_data(f"ferplus:{faces}")
    assert isinstance(data.train.images, torch.Tensor)
    assert data.train.images[:, 0, 5, 5].tolist() == [0, 30]


def test_what_counts_as_an_emotion() -> None:
    assert {majority(votes, 8) for votes in (MIXED, UNKNOWN)} == {None}
    assert majority((5, 5, 0, 0, 0, 0, 0, 0, 0, 0), 8) is None, "half is not most"
    assert majority((5, 1, 1, 1, 1, 1, 0, 0, 0, 0), 8) == 0, "votes that stand alone do not count"
    assert majority((4, 3, 3, 0, 0, 0, 0, 0, 0, 0), 8) is None
    assert majority((1,) * 10, 8) is None
    assert (majority(SCORN, 8), majority(SCORN, 7)) == (7, None)


def test_what_counts_as_two() -> None:
    pairs = compounds(EMOTIONS)
    assert len(pairs) == 28
    names = list(pairs)
    assert names[pair_of((0, 0, 3, 0, 3, 0, 4, 0, 0, 0), pairs) or 0] == "surprise and fear"
    assert names[pair_of((0, 0, 0, 0, 4, 0, 0, 6, 0, 0), pairs) or 0] == "anger and contempt"
    assert pair_of((0, 0, 0, 0, 4, 0, 0, 6, 0, 0), compounds(EMOTIONS[:-1])) is None
    assert pair_of((2, 2, 2, 2, 2, 0, 0, 0, 0, 0), pairs) is None
    assert pair_of((3, 0, 0, 0, 0, 0, 0, 0, 7, 0), pairs) is None, "unknown is no emotion"


def test_what_is_left_out_is_said(faces: Path) -> None:
    found = check.check(f"ferplus:{faces}")
    assert not [line for line in found.complaints if "class" not in line]
    assert found.n_left_out == 5
    assert "no emotion has most votes" in found.left_out[0]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("Training", r"line 14: a line must hold a part .* but is 'Training'"),
        ("", None),
        ("Training,,1,2,3,4,5,6,7,8,9,0", None),
        ("Training,fer0000020.png,1,2,3", r"10 numbers of votes, but is"),
        ("Training,fer0000020.png,1,2,3,4,5,6,7,8,9,x", r"10 numbers of votes"),
        ("Training,fer0000020.png,1,2,3,4,5,6,7,8,9,-1", r"10 numbers of votes"),
        ("Training,../fer0000020.png,1,2,3,4,5,6,7,8,9,1", r"a file and 10 numbers of votes"),
        ("Test,fer0000020.png,1,2,3,4,5,6,7,8,9,1", r"a part \(Training, PublicTest, PrivateTest\)"),
        ("Training,fer0000020.png,1,2,3,4,5,6,7,8,9,1", r"fer0000020\.png is named in the list but missing$"),
        ('Training,"fer', r"line 14: unexpected end of data"),
    ],
)
def test_lines_that_cannot_be_read(faces: Path, line: str, said: str | None) -> None:
    with (faces / VOTES).open("a") as file:
        file.write(line)
    if said is None:
        assert len(load_data(f"ferplus:{faces}").train) == 2
    else:
        with pytest.raises(DataError, match=said):
            load_data(f"ferplus:{faces}")


def test_a_file_that_is_named_again_has_the_later_votes(faces: Path) -> None:
    with (faces / VOTES).open("a") as file:
        file.write(f"Training,fer0000000.png,{','.join(map(str, UNKNOWN))}")
    data = load_data(f"ferplus:{faces}")
    assert [data.classes[label] for label in data.train.labels] == ["contempt"]


def test_what_is_not_there(faces: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"ferplus needs a folder: ferplus:DIR"):
        load_data("ferplus:")
    with pytest.raises(DataError, match=r"there is no fer2013new\.csv in"):
        load_data(f"ferplus:{faces / 'data'}")
    (faces / VOTES).write_text("name,votes\n")
    with pytest.raises(DataError, match=r"must have the columns Usage, Image name, .* but has name, votes"):
        load_data(f"ferplus:{faces}")
    write_faces(tmp_path / "other", Training=[UNKNOWN], PrivateTest=[])
    for name, what in (("ferplus", "one emotion"), ("ferplus-compound", "two emotions")):
        with pytest.raises(DataError, match=rf"fer2013new\.csv names no face of {what} for Training"):
            load_data(f"{name}:{tmp_path / 'other'}")


def test_compound_accuracy_of_both_families(faces: Path) -> None:
    for family, emotions in FAMILIES.items():
        data = load_data(f"{family}-compound:{faces}")
        logits = torch.zeros(1, len(emotions))
        logits[0, [0, 3]] = torch.tensor([1.0, 2.0])
        network = Judged("net", "net.safetensors", ModelInfo("net", len(emotions), 48, classes=emotions), data, logits)
        arrays = compound_result([network]).arrays
        assert [arrays[name][0, 0] for name in ("both", "single", "single_top2")] == [1, 1, 1]
        with pytest.raises(AnalysisError, match=r"neutral is part of compounds of .*, so it cannot be excluded"):
            compound_result([network], exclude_neutral=True)


def test_names_are_known_as_data_sets() -> None:
    assert set(NAMES) == {f"{family}{ending}" for family in FAMILIES for ending in ("", "-valid", "-compound")}
