"""Compound accuracies against plain loops, stored values and a small RAF-DB."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from analyses.commands.compound import compound as command
from analyses.evaluation.compound import compound_accuracy, compound_hits, compound_result
from analyses.evaluation.predictions import Judged
from kdprobe.data import DataSet, Split, load_data
from kdprobe.data.sources.rafdb import BASIC, COMPOUND
from kdprobe.errors import AnalysisError
from kdprobe.models import create
from kdprobe.models.checkpoint import save
from kdprobe.models.creation import ModelInfo
from kdprobe.results import load_result
from tests import goldens
from tests.kdprobe.data.sources.test_rafdb import write_part

GOLDEN = np.load(goldens.FOLDER / "metrics.npz")
PAIRS = torch.tensor(list(COMPOUND.values()))


def slow_accuracy(scores: Tensor, pairs: Tensor) -> tuple[float, ...]:
    counts = [0, 0, 0]
    for row, pair in zip(scores.tolist(), pairs.tolist(), strict=True):
        first, second = sorted(range(len(row)), key=lambda c: -row[c])[:2]
        counts[0] += {first, second} == set(pair)
        counts[1] += first in pair
        counts[2] += first in pair or second in pair
    return tuple(count / len(scores) for count in counts)


def judged(logits: Tensor, labels: Tensor, classes: tuple[str, ...] = ()) -> Judged:
    images = Split(torch.zeros(len(labels), 3, 8, 8, dtype=torch.uint8), labels, 8)
    data = DataSet("rafdb-compound:x", images, images, tuple(COMPOUND), (0.0,) * 3, (1.0,) * 3, 8)
    return Judged("net", "net.safetensors", ModelInfo("net", logits.shape[1], 8, classes=classes), data, logits)


def test_stored_values() -> None:
    scores = torch.from_numpy(GOLDEN["c0_scores"])
    pairs = torch.from_numpy(GOLDEN["c0_pairs"][GOLDEN["c0_compound_id"] - 1])
    assert PAIRS.tolist() == GOLDEN["c0_pairs"].tolist()
    found = compound_accuracy(scores, pairs)
    assert found == pytest.approx([float(GOLDEN[f"c0_acc_{name}"]) for name in found._fields], rel=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_the_loop_agrees_and_the_readings_are_ordered(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(80, 7, generator=generator)
    pairs = PAIRS[torch.randint(11, (80,), generator=generator)]
    found = compound_accuracy(scores, pairs)
    assert found == pytest.approx(slow_accuracy(scores, pairs))
    assert found.both <= found.single <= found.single_top2
    assert compound_accuracy(scores, pairs.flip(1)) == found
    assert compound_accuracy(3 * scores - 1, pairs) == found


def test_every_ranking_of_a_pair() -> None:
    orders = torch.tensor(list(itertools.permutations(range(4))))
    scores = (4 - orders.argsort(1)).float()
    hits = compound_hits(scores, torch.tensor([[0, 2]]).expand(len(orders), 2))
    assert hits.sum(0).tolist() == [4, 12, 20]


def test_neutral_can_be_left_out() -> None:
    logits = torch.tensor([[2.0, 0, 0, 1, 0, 0, 3]])
    one = judged(logits, torch.tensor([0]))
    for exclude, expected in ((False, [0, 0, 1]), (True, [1, 1, 1])):
        arrays = compound_result([one], exclude_neutral=exclude).arrays
        assert [arrays[name][0, 0] for name in ("both", "single", "single_top2")] == expected
    assert one.logits[0, 6] == 3


def test_classes_in_another_order_are_put_right() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(60, 7, generator=generator), torch.randint(11, (60,), generator=generator)
    shuffled = torch.randperm(7, generator=generator)
    names = tuple(BASIC[i] for i in shuffled.tolist())
    plain, moved = (
        compound_result([one]).arrays for one in (judged(logits, labels), judged(logits[:, shuffled], labels, names))
    )
    for name, values in plain.items():
        np.testing.assert_array_equal(values, moved[name])


def test_values_by_class_average_to_the_whole() -> None:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(10, (50,), generator=generator)  # the last class has no images
    arrays = compound_result([judged(torch.randn(50, 7, generator=generator), labels)]).arrays
    weights = labels.bincount(minlength=11) / 50
    assert np.isnan(arrays["by_class"][0, 10]).all()
    assert np.nansum(arrays["by_class"][0, :, 1] * weights.numpy()) == pytest.approx(arrays["single"][0, 0])
    value, low, high = arrays["single"][0]
    assert low < value < high


def test_what_has_no_compound_accuracy_is_refused() -> None:
    scores, pairs = torch.randn(3, 7), PAIRS[:3]
    with pytest.raises(AnalysisError, match=r"needs at least one image, but there is none"):
        compound_accuracy(scores[:0], pairs[:0])
    with pytest.raises(AnalysisError, match=r"scores must be numbers, but 3 images have NaN"):
        compound_accuracy(scores * torch.nan, pairs)
    for wrong in (pairs + 5, pairs - 4, pairs * 0):
        with pytest.raises(AnalysisError, match=r"a pair must be two different classes of 0 to 6"):
            compound_accuracy(scores, wrong)
    labels = torch.tensor([0, 1, 2])
    with pytest.raises(AnalysisError, match=r"net\.safetensors must know the basic classes surprise, .* knows 5 cl"):
        compound_result([judged(scores[:, :5], labels)])
    with pytest.raises(AnalysisError, match=r"but knows a, b, c, d, e, f, g$"):
        compound_result([judged(scores, labels, tuple("abcdefg"))])
    digits = load_data("digits")
    other = Judged("net", "net", ModelInfo("net", 7, 32), digits, scores)
    with pytest.raises(AnalysisError, match=r"needs rafdb-compound:DIR or ferplus-compound:DIR, but digits has"):
        compound_result([other])


def test_the_command(tmp_path: Path) -> None:
    write_part(tmp_path / "compound", 11)
    save(create("resnet8", n_classes=7, image_size=16), tmp_path / "net.safetensors")
    arguments = ["--checkpoint", str(tmp_path / "net.safetensors"), "--data", f"rafdb-compound:{tmp_path}"]
    arguments += ["--out", str(tmp_path / "out"), "--device", "cpu", "--quiet", "--exclude-neutral"]
    outcome = CliRunner().invoke(command, arguments, catch_exceptions=False, standalone_mode=False)
    assert outcome.stdout.split()[:5] == ["model", "both", "single", "single_top2", "net"]
    result = load_result(tmp_path / "out" / "compound.npz", kind="compound")
    assert result.facts["exclude_neutral"] is True
    table = pd.read_csv(tmp_path / "out" / "compound.csv")
    assert len(table) == 3 * 12
    assert (tmp_path / "out" / "compound.png").is_file()
