"""The images behind charts: the right ones, each once, as many as there is room for."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from figures.report import thumbnails
from figures.report.behind import AGREEMENT, agreement_sets, confusion_sets, images_key
from figures.report.evaluation import evaluation_panels
from figures.report.images import images_panels
from figures.report.reliability import reliability_panels
from figures.report.thumbnails import albums, behind_spec, even_order
from figures.report.write import write_report
from kdprobe.results import Result, save_result
from tests.saved_results import evaluation_result, images_result, of_the_same_images, reliability_result


def test_every_image_is_in_one_cell_and_one_class() -> None:
    targets, predictions = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 1, 0, 0, 2])
    sets, places = confusion_sets(targets, predictions, ["a", "b", "c", "d"])
    assert [(one.group, one.label, one.images.tolist()) for one in sets] == [
        ("mistakes", "b taken for a", [3, 4]),
        ("mistakes", "a taken for b", [1]),
        ("right answers", "a, rightly", [0]),
        ("right answers", "b, rightly", [2]),
        ("right answers", "c, rightly", [5]),
        ("classes", "all of class a", [0, 1]),
        ("classes", "all of class b", [2, 3, 4]),
        ("classes", "all of class c", [5]),
    ]
    assert places == [[2, 1, -1, -1], [0, 3, -1, -1], [-1, -1, 4, -1], [-1, -1, -1, -1]]


def test_sets_of_agreement_share_out_the_images() -> None:
    targets, teacher = np.array([0, 0, 0, 0, 0]), np.array([0, 0, 1, 1, 1])
    found = agreement_sets(targets, teacher, np.array([[0, 1, 0, 1, 2]]))
    assert {label: row[0].tolist() for label, row in zip(AGREEMENT, found, strict=True)} == {
        "both right": [0],
        "only the teacher right": [1],
        "only the student right": [2],
        "both wrong, with the same answer": [3],
        "both wrong, with different answers": [4],
    }


def test_images_are_told_apart_by_data_and_classes_in_order() -> None:
    one = images_result()
    assert images_key(one) == images_key(of_the_same_images(evaluation_result(("kd",), 3, 60), one))
    assert images_key(one) != images_key(replace(one, facts=one.facts | {"data": "other"}))
    assert images_key(one) != images_key(images_result(n_images=61))


def charts(*panels: Any) -> list[Any]:
    return [chart for panel in panels for chart in panel.charts]


def test_cells_bars_and_points_stand_for_their_images() -> None:
    result = images_result()
    bars, *scatters = charts(*images_panels([("images", result)]))
    arrays = result.arrays
    for row, trace in enumerate(bars.traces):
        for place, number in enumerate(trace["meta"]["sets"]):
            expected = agreement_sets(arrays["targets"], arrays["predictions"][0], arrays["predictions"][1:])[row][
                place
            ]
            found = bars.behind.sets[number].images if number >= 0 else []
            assert list(found) == expected.tolist()
            assert trace["x"][place] == pytest.approx(100 * len(expected) / 60, abs=1e-3)
    for number, chart in enumerate(scatters):
        points = {
            image: at
            for trace in chart.traces
            for image, *at in zip(trace["meta"]["images"], trace["x"], trace["y"], strict=True)
        }
        assert sorted(points) == arrays["shown"].tolist()
        for image, at in points.items():
            assert at == pytest.approx(arrays["coordinates"][number, image].tolist(), abs=1e-3)


def test_bins_stand_for_their_images_where_the_result_says_which() -> None:
    result = reliability_result(("kd",))
    (chart,) = charts(*reliability_panels([("r", result)]))
    counts = [len(chart.behind.sets[n].images) if n >= 0 else 0 for n in chart.traces[0]["meta"]["sets"]]
    assert counts == result.arrays["count"][0].tolist()
    for key in ("targets", "bins"):
        del result.arrays[key]
    (earlier,) = charts(*reliability_panels([("r", result)]))
    assert earlier.behind is None
    assert "meta" not in earlier.traces[0]


def evaluated(images: Result) -> Result:
    return of_the_same_images(evaluation_result(("kd",), 3, len(images.arrays["targets"])), images)


def test_an_album_holds_what_fits_drawn_at_random() -> None:
    images = images_result(n_images=60, n_shown=60)
    every = charts(*evaluation_panels([("e", evaluated(images))]))
    ((key, whole),) = albums([images], every, 10**6).items()
    assert whole.words.startswith("All 60 images are in this page: choose a part of a chart")
    size = sum(len(source) for source in whole.content["sources"])
    some = albums([images], every, size // 2)[key]
    again = albums([images], every, size // 2)[key]
    assert 10 < len(some.numbers) < 31
    assert some == again
    assert len(np.diff(some.content["index"])[np.diff(some.content["index"]) > 1]) > 3  # not the first ones
    assert some.words == (
        f"{len(some.numbers)} of 60 images are in this page, drawn at random and evenly from the sets that its charts "
        f"stand for: choose a part of a chart, or a set below it. {60 - len(some.numbers)} more would have made it "
        "larger than 10 MB."
    )
    for number, image in enumerate(some.content["index"]):
        assert some.numbers[image] == number
        assert some.content["sources"][number] == whole.content["sources"][whole.numbers[image]]
    behind = every[-1].behind
    for (_, _, total, numbers), one in zip(behind_spec(behind, some)["sets"], behind.sets, strict=True):
        assert total == len(one.images)
        assert [some.content["index"][number] for number in numbers] == [i for i in one.images if i in some.numbers]
    assert not albums([images], every, 10)
    assert not albums([images], [], 10**6)


@pytest.mark.parametrize("seed", range(20))
def test_the_first_images_are_some_of_every_set(seed: int) -> None:
    drawn = np.random.default_rng(seed)
    images = np.sort(drawn.choice(1000, 300, replace=False))
    sets = [np.flatnonzero(drawn.random(1000) < share) for share in (0.004, 0.01, 0.05, 0.3, 0.9)] + [np.arange(0)]
    order = even_order(images, sets, seed)
    assert sorted(order.tolist()) == list(range(300))
    for each in (1, 2, 5, 20):
        first = images[order[: each * len(sets)]]
        for one in sets:
            there = np.isin(one, images).sum()
            assert np.isin(one, first).sum() >= min(each, there)
    assert order.tolist() == even_order(images, sets, seed).tolist() != even_order(images, sets, seed + 1).tolist()


def test_without_sets_the_order_is_random() -> None:
    first = [even_order(np.arange(50), [], seed)[0] for seed in range(400)]
    assert len(set(map(int, first))) > 40
    assert even_order(np.arange(0), [], 0).tolist() == []


def test_of_ten_thousand_images_every_mistake_can_be_seen_and_the_scatter_is_a_draw() -> None:
    drawn = np.random.default_rng(0)
    images = images_result(("vit", "kd"), n_images=10_000, n_shown=10_000)
    targets = np.repeat(np.arange(3), 10_000)[:10_000]
    rare = drawn.choice(10_000, 3, replace=False)
    predictions = np.stack([targets, targets])
    predictions[1, rare] = (targets[rare] + 1) % 3
    images = replace(images, arrays=images.arrays | {"targets": targets, "predictions": predictions})
    sets, *scatters = charts(*images_panels([("i", images)]))
    ((_, album),) = albums([images], [sets, *scatters], 400_000).items()
    assert 100 < len(album.numbers) < 5000
    assert set(rare.tolist()) <= set(album.numbers)
    for chart in scatters:
        assert sum(len(trace["x"]) for trace in chart.traces) == 2000
        assert "2,000 drawn at random of 10,000 images" in chart.caption


def test_images_that_were_not_kept_are_told() -> None:
    images = images_result(n_images=60, n_shown=20)
    ((_, album),) = albums([images], charts(*images_panels([("i", images)])), 10**6).items()
    assert album.words.startswith("20 of 60 images are in this page, drawn at random: choose a part of a chart")


def page_of(tmp_path: Path, **results: Result) -> str:
    for name, result in results.items():
        save_result(result, tmp_path / f"{name}.npz", table="", overwrite=True)
    return write_report([tmp_path], tmp_path / "r.html", title="t").read_text(encoding="utf-8")


def test_each_image_is_in_the_page_once_and_charts_name_it_by_its_number(tmp_path: Path) -> None:
    images = images_result(n_images=60, n_shown=60)
    text = page_of(tmp_path, images=images, evaluation=evaluated(images), more=evaluated(images))
    (found,) = re.findall(r'<script type="application/json" id="albums">(.*?)</script>', text, re.S)
    (album,) = json.loads(found).values()
    assert len(album["sources"]) == 60
    assert all(text.count(source) == 1 for source in album["sources"])
    assert text.count('<div class="behind">') == 1 + 3 + 2
    assert "All 60 images are in this page: " in text
    assert "are not in this page" not in text


def test_without_pictures_the_page_says_so_and_is_as_it_was(tmp_path: Path) -> None:
    images = images_result()
    text = page_of(tmp_path, evaluation=evaluated(images))
    assert (
        "The images behind these numbers are not in this page: <code>kdprobe images</code> keeps them for it." in text
    )
    assert 'id="albums"' not in text
    assert '<div class="behind">' not in text
    assert '"meta":' not in text.split('id="charts">')[1].split("</script>")[0]
    text = page_of(tmp_path, other=evaluation_result(), images=images)
    assert "The images behind some these numbers".replace("some", "some of") in text


def test_a_page_stays_below_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = images_result(n_images=60, n_shown=60)
    arrays = images.arrays | {"thumbnails": np.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), dtype=np.uint8)}
    images = replace(images, arrays=arrays)
    whole = len(page_of(tmp_path, images=images).encode())
    monkeypatch.setattr("figures.report.page.PAGE_BYTES", whole - 300_000)
    text = page_of(tmp_path, images=images)
    assert whole - 600_000 < len(text.encode()) <= whole - 300_000 + 500  # and its seal
    assert re.search(r"\d+ of 60 images are in this page, drawn at random and evenly .*\. \d+ more would have", text)
    monkeypatch.setattr("figures.report.page.PAGE_BYTES", 1000)
    text = page_of(tmp_path, images=images)
    assert "are not in this page: it would be larger than 10 MB with them." in text
    assert "keeps them for it" not in text
    assert thumbnails.PAGE_BYTES == 10_000_000


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    hostile = "</script><script>alert(1)</script>"
    images = images_result((hostile, hostile + "b"))
    images.facts["classes"] = [hostile, "b", "c"]
    text = page_of(tmp_path, images=images)
    assert text.count("</script>") == 4
    assert "<script>alert" not in text


def test_empty_cells_of_large_confusion_matrices_take_no_room() -> None:
    result = evaluation_result(("kd",), 30, 200)
    chart = charts(*evaluation_panels([("e", result)]))[-1]
    cells = [
        (z, told)
        for row, words in zip(chart.traces[0]["z"], chart.traces[0]["customdata"], strict=True)
        for z, told in zip(row, words, strict=True)
    ]
    assert sum(z is not None for z, _ in cells) == (result.arrays["confusion"] > 0).sum()
    assert all(bool(told) == (z is not None) for z, told in cells)


def test_networks_are_told_apart_by_their_files_only_where_their_names_are_one():
    one, two = (evaluation_result(names) for names in (("plain-seed0", "kd"), ("plain-seed1", "kd")))
    titles = [chart.name for chart in evaluation_panels([("seed0", one), ("seed1", two)])[1].charts]
    assert titles == ["plain-seed0", "kd (seed0)", "plain-seed1", "kd (seed1)"]


def test_the_rarer_answers_lie_on_top():
    result = images_result(n_classes=40)
    for share, above in ((0.9, "wrong"), (0.1, "right")):
        right = np.random.default_rng(0).random(len(result.arrays["targets"])) < share
        result.arrays["predictions"][0] = np.where(right, result.arrays["targets"], (result.arrays["targets"] + 1) % 40)
        chart = images_panels([("i", result)])[-1].charts[0]
        assert chart.traces[-1]["name"] == above
