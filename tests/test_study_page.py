"""The study's page is made from the results beside it."""

import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from scipy.stats import spearmanr

from kdprobe.results import save_result
from tests.saved_results import compound_result, dropout_result, evaluation_result, map_result, tuned_result

STUDY = Path(__file__).parents[1] / "docs" / "study"


@pytest.fixture(scope="module")
def made():
    sys.path.insert(0, str(STUDY))
    try:
        import page
    finally:
        sys.path.remove(str(STUDY))
    return page


def test_the_page_is_that_of_today(made):
    for path in (made.PAGE, made.README):
        assert made.page(path) == path.read_text(encoding="utf-8"), "run python docs/study/page.py"


def test_every_mark_has_a_table(made):
    text = (STUDY / "index.md").read_text(encoding="utf-8")
    names = [line.split()[2] for line in text.splitlines() if line.startswith("<!-- table:")]
    assert {*names, "short"} == set(made.TABLES)
    assert len(names) == text.count("<!-- end -->")


METHODS, STAGES = ("plain", "kd", "dropkd", "dropkd-without-dropout"), ("blocks.2 layer1", "blocks.11 layer3")


@pytest.fixture
def drawn(made, monkeypatch, tmp_path):
    """The pictures' module and made-up results of one comparison."""
    monkeypatch.syspath_prepend(str(STUDY))
    import pictures

    for module in (made, pictures):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    generator, lines = np.random.default_rng(0), ["comparison,method,seed,network,quantity,stages,value,low,high,note"]
    for method in METHODS:
        for seed in range(3):
            lines.append(f"dinov2-resnet8,{method},{seed},,accuracy,,{generator.uniform(0.2, 0.4)},,,")
            for quantity in ("general share of the student", "CKA"):
                lines += [f"dinov2-resnet8,{method},{seed},,{quantity},{two},{generator.random()},,," for two in STAGES]
    (tmp_path / "networks.csv").write_text("\n".join(lines), encoding="utf-8")
    (tmp_path / "dinov2-resnet8").mkdir()
    save_result(tuned_result(METHODS), tmp_path / "dinov2-resnet8" / "comparison.npz", table="")
    found = map_result()
    for network in found.provenance["networks"]:
        network["checkpoint"] = network["name"]
    save_result(found, tmp_path / "dinov2-resnet8" / "map.npz", table="")
    for kind in ("feature", "logit"):
        result = dropout_result(rates=(0.0, 0.3, 0.6))
        result.facts["n_images"] = 400
        save_result(result, tmp_path / f"rates-dropout-{kind}.npz", table="")
    return pictures


def test_pictures_show_all_methods_and_all_seeds(drawn):
    shares = drawn.shares("dinov2-resnet8")
    assert [axes.get_xlabel() for axes in shares.axes] == ["general share\nof the student", "CKA"]
    assert [label.get_text() for label in shares.axes[0].get_yticklabels()] == list(METHODS)
    stages = drawn.by_stage("dinov2-resnet8")
    assert [axes.get_title() for axes in stages.axes] == ["general share\nof the student", "CKA"]
    assert [text.get_text() for text in stages.legends[0].get_texts()] == ["plain", "kd", *METHODS[:1:-1]]
    against = drawn.against_accuracy("dinov2-resnet8")
    dots = [line for line in against.axes[0].lines if len(line.get_xdata()) == 3]
    assert len(dots) == len(METHODS)
    rates = drawn.rates("")
    assert [axes.get_xlabel() for axes in rates.axes] == [f"rate of {kind}s, of both networks" for kind in drawn.KINDS]
    for axes, grid in zip(drawn.grids("").axes, drawn.published_grids(), strict=True):
        assert grid.range in [line.get_ydata()[0] for line in axes.lines]


def test_tables_are_made_of_results(drawn, made):
    assert "with one variance for all methods" in made.together("dinov2-resnet8").replace("The differences ", "")
    assert all(method in made.comparison("dinov2-resnet8") for method in METHODS)
    assert "blocks.11" in made.inside("dinov2-resnet8")
    _, _, *of_stages = made.stages("dinov2-resnet8").splitlines()
    assert [row.split("|")[1].strip() for row in of_stages] == ["`blocks.2`, `layer1`", "`blocks.11`, `layer3`"]
    values = made.at_stages("dinov2-resnet8")["blocks.2 layer1"]["CKA"]
    minus = np.mean([values["dropkd"][seed] - values["dropkd-without-dropout"][seed] for seed in range(3)])
    assert f"; {minus:+.3f}" in of_stages[0].split("|")[3]
    gains = made.published("").splitlines()
    assert gains[2] == "| ResNet56 to ResNet20 (Table 1) | +1.60 | +0.15 | +1.49 | +0.55 | +2.91 | +2.91 |"
    assert gains[-2].startswith("| ViT-L/14 to MobileNetV2, the teacher inferred (Table 4) |  |  |  |  |  | +4.69")
    assert made.dropout("").count("dropkd") == 0
    (made.RESULTS / "dinov2-resnet8" / "comparison.npz").rename(made.RESULTS / "away.npz")
    assert made.dropout("") == "*Not measured yet.*"
    (made.RESULTS / "away.npz").rename(made.RESULTS / "dinov2-resnet8" / "comparison.npz")
    assert made.OURS["dinov2-resnet8"] in made.dropout("")
    ours = gains[-1].split("|")
    assert ours[1].strip() == made.OURS["dinov2-resnet8"]
    assert "p\N{NO-BREAK SPACE}=" in ours[2]
    assert not ours[3].strip()
    assert made.predicts("dinov2-resnet8").count("|") > 10
    assert "minus rate 0" in made.rates("feature")
    assert "PERMANOVA" in made.apart("dinov2-resnet8")


def test_readings_and_what_is_transferred_are_compared_with_the_right_rows(drawn, made, tmp_path):
    pairs = {method: made._undropped(method) for method in made.READINGS}
    result = tuned_result(tuple(dict.fromkeys([*pairs, *pairs.values(), *made.LEARNS])))
    (tmp_path / "readings").mkdir()
    save_result(result, tmp_path / "readings" / "comparison.npz", table="")
    means = dict(zip(result.facts["methods"], 100 * result.arrays["accuracy"].mean(1), strict=True))

    def shown(table):
        return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line[:2] == "| "][2:]

    rows = dict(zip(pairs, shown(made.readings("readings")), strict=True))
    for method, without in pairs.items():
        assert rows[method][3].startswith(f"{means[method] - means[without]:+.2f}")
    plain, alone, taught = shown(made.transfer("readings"))
    assert plain[2:] == ["", ""]
    assert alone[2].startswith(f"{means['dropkd-without-transfer'] - means['plain']:+.2f}")
    assert taught[3].startswith(f"{means['dropkd-without-dropout'] - means['dropkd-without-transfer']:+.2f}")


def test_share_that_chance_gives_groups(made):
    generator = np.random.default_rng(1)
    points = generator.standard_normal((4, 3, 5)) + generator.standard_normal((1, 3, 1))  # methods, seeds, axes
    centred = points - points.mean((0, 1))
    of_seeds = 4 * (centred.mean(0) ** 2).sum() / (centred**2).sum()
    shares = []
    for _ in range(4000):
        moved = np.stack([centred[generator.permutation(4), seed] for seed in range(3)], axis=1)
        shares.append(3 * (moved.mean(1) ** 2).sum() / (centred**2).sum())
    assert made.share_by_chance(of_seeds, 4, 3) == pytest.approx(np.mean(shares), abs=0.005)


def test_answers_about_faces_are_of_methods_and_not_of_networks(drawn, made, tmp_path):
    folder = tmp_path / "ferplus-resnet18"
    folder.mkdir()
    lines = ["comparison,method,seed,network,quantity,stages,value,low,high,note"]
    runs = [f"{method}-seed{seed}" for method in ("plain", "kd", "dropkd") for seed in (1, 0)]
    lines += [
        f"ferplus-resnet18,{method},{seed},{method}-seed{seed},accuracy,,0.5,,,"
        for method in ("plain", "kd", "dropkd")
        for seed in (0, 1)
    ]
    (tmp_path / "networks.csv").write_text("\n".join(lines), encoding="utf-8")
    for result, key in ((evaluation_result(("t", *runs)), "evaluation"), (compound_result(("t", *runs)), "compound")):
        for run, model in zip(("teacher", *runs), result.provenance["models"], strict=True):
            model["checkpoint"] = f"finals/{run}"
        save_result(result, folder / f"{key}.npz", table="")
    evaluation = made.load_result(folder / "evaluation.npz")
    assert made.by_method("ferplus-resnet18", evaluation) == {"plain": [2, 1], "kd": [4, 3], "dropkd": [6, 5]}

    rows = [line.split("|") for line in made.recalls("ferplus-resnet18").splitlines()[2:]]
    assert [row[1].strip() for row in rows] == ["the teacher", "plain", "kd", "dropkd"]
    uar = 100 * evaluation.arrays["uar"][:, 0]
    assert [float(row[3].split()[0]) for row in rows] == pytest.approx(
        [uar[0], *(uar[places].mean() for places in ([1, 2], [3, 4], [5, 6]))], abs=0.006
    )
    assert float(rows[3][5].split()[0]) == pytest.approx(uar[5:].mean() - uar[1:3].mean(), abs=0.006)
    assert made.compound("ferplus-resnet18").splitlines()[0].count("%") == 3
    words = [text.get_text() for text in drawn.confusion("ferplus-resnet18").findobj(Text)]
    heads = [words[words.index(name) + 1] for name in ("teacher", "plain", "kd", "dropkd")]
    assert [head.split("UAR ")[1] for head in heads] == [f"{uar[place]:.1f} %" for place in (0, 2, 4, 6)]  # of seed 0


def test_rank_correlations_of_resamples_are_scipys(made):
    generator = np.random.default_rng(1)
    values = generator.integers(6, size=(9, 2)).astype(float)  # with ties
    times = generator.integers(3, size=(20, 9)) + (np.arange(9) < 2)
    expected = [spearmanr(*np.repeat(values, one, axis=0).T).statistic for one in times]
    np.testing.assert_allclose(made._spearman(values, times), expected)
