"""The report's page: all in one file, users' texts as text, every number also in a table."""

import html
import io
import json
import re
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from figures.pictures import FIGURES
from figures.report.examples import image_address
from figures.report.map import map_panels
from figures.report.overview import tiles
from figures.report.page import SECTIONS, differing_parts
from figures.report.traces import hover, numbers, scale, themed
from figures.report.write import result_files, write_report
from kdprobe.cli import main
from kdprobe.errors import ResultError
from kdprobe.mean_interval import worded_p_value
from kdprobe.results import save_result
from tests.saved_results import (
    calibrated,
    cka_result,
    comparison_result,
    complexity_result,
    compound_result,
    diagnosis_result,
    dropout_result,
    evaluation_result,
    examples_result,
    fidelity_result,
    images_result,
    inherited_errors_result,
    knowledge_comparison_result,
    knowledge_result,
    map_result,
    over_time_result,
    reliability_result,
    similarity_result,
    training_result,
    tuned_result,
    write_bare,
)

HOSTILE = "<b>x</b></script><script>alert(1)</script> & \"quoted\" 'too' $title"


class Page(HTMLParser):
    """Elements, their attributes and the text inside scripts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def charts(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', text, re.S)
    assert found
    loaded: dict[str, Any] = json.loads(found[1])
    return loaded


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    for name, result in {
        "comparison": comparison_result(),
        "cka/kd": cka_result(3, 4, undefined=((0, 1),)),
        "cka/hostile": cka_result(teacher=HOSTILE, student=HOSTILE),
        "evaluation": evaluation_result(("plain", HOSTILE)),
        "examples": examples_result(name=HOSTILE),
        "fidelity": fidelity_result((HOSTILE, "plain")),
        "images": images_result(("vit", HOSTILE)),
        "inherited-errors": inherited_errors_result(name=HOSTILE),
        "methods": knowledge_comparison_result(("plain", HOSTILE)),
        "similarity": similarity_result(),
        "complexity": complexity_result(),
        "compound": compound_result(),
        "dropout": dropout_result(),
        "knowledge": knowledge_result(),
        "map": map_result(name=HOSTILE),
        "over-time": over_time_result(),
        "reliability": reliability_result((HOSTILE,)),
        "training": training_result((HOSTILE, "kd")),
        "tuned": tuned_result((HOSTILE, "plain", "kd")),
        "diagnosis": diagnosis_result(("ce", HOSTILE)),
    }.items():
        save_result(result, folder / f"{name}.npz", table="")
    return folder


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    return write_report([folder], folder / "report.html", title=HOSTILE).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_nothing_is_loaded_from_elsewhere(page: Page) -> None:
    for _, attributes in page.elements:
        assert (attributes.get("src") or "data:").startswith("data:")
        assert (attributes.get("href") or "#").startswith("#")
    assert not page.all("link")
    (policy,) = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_scripts_are_the_data_plotly_and_ours(page: Page, text: str) -> None:
    assert [script.get("type") for script in page.all("script")] == [*["application/json"] * 2, None, None]
    assert text.count("</script>") == 4
    assert text.count("plotly.js v") == 1
    assert len(text.encode()) < 8e6


def test_names_are_text(page: Page, text: str) -> None:
    assert not page.all("b")
    assert "<b>x" not in text
    assert HOSTILE in "".join(page.texts)
    (title,) = re.findall("<h1>(.*?)</h1>", text)
    assert html.unescape(title) == HOSTILE
    assert not set("<>'\"") & set(title)


def test_hover_texts_are_escaped_for_plotly(text: str) -> None:
    for chart in charts(text).values():
        for trace in chart["data"]:
            told = json.dumps([trace.get("text"), trace.get("customdata")])
            assert not re.search(r"<(?!br>)", told)


@pytest.mark.parametrize("hostile", ["</script>", "<!-- <script>", "\u2028 \u2029", "& ' \" \\"])
def test_charts_survive_any_text(hostile: str, tmp_path: Path) -> None:
    save_result(cka_result(teacher=hostile), tmp_path / "cka.npz", table="")
    text = write_report([tmp_path], tmp_path / "r.html", title="t").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="charts">(.*?)</script>', text, re.S)
    assert found
    assert not set("<>&'\u2028\u2029") & set(found[1])
    assert json.loads(found[1])["chart-0"]["titles"]["yaxis"] == f"teacher: {hostile}, layer"


def test_each_chart_has_words_and_numbers(page: Page, text: str) -> None:
    drawn = [a for a in page.all("div") if a.get("class") == "chart"]
    assert len(drawn) == len(charts(text)) == 3 + 5 + 2 + 3 + 7 + 3 + 2 + 2 + 1 + 3
    assert all(a["role"] == "img" and len(a["aria-label"] or "") > 20 for a in drawn)
    assert {a["id"] for a in page.all("figure")} > set(charts(text))
    assert len(page.all("figure")) == len(drawn) + 3
    assert len(page.all("table")) == len(drawn) - 2 + 3 + 7 + 1 + 4 + 3  # places of images have none
    assert all(a["tabindex"] == "0" for a in page.all("div") if "scroll" in (a.get("class") or "").split())


def test_one_pair_is_shown_at_a_time(page: Page) -> None:
    assert len(page.all("select")) == 4 + 2  # and sets of images
    assert len(page.all("option")) == 4 + 5 + 2 + 2
    assert sum("hidden" in a for a in page.all("figure")) == 2 + 4 + 1


def test_sections_and_links_agree(page: Page) -> None:
    sections = [a["id"] for a in page.all("section")]
    assert sections == ["findings", "overview", *SECTIONS, "reproduce"]
    assert [a["href"] for a in page.all("a")][1:][: len(sections)] == [f"#{name}" for name in sections]


def test_overview_and_commands(text: str, folder: Path) -> None:
    assert "kdprobe cka --teacher runs/vit --student runs/resnet8" in text
    assert str(folder / "cka" / "kd.npz") in text
    assert "<dt>Seeds</dt><dd>0, 1, 2</dd>" in text
    assert "<dt>Epochs</dt><dd>6, 12</dd>" in text
    assert "torch 2.15.0" in text


def test_method_table_has_mean_and_interval(text: str) -> None:
    assert re.search(r'<th scope="row">kd</th><td>\d\d\.\d ± \d\.\d</td>', text)
    assert '<th scope="row">teacher: vit_<wbr>tiny</th><td>96.4</td><td>-</td>' in text


def test_cka_heatmap_keeps_rows_and_reasons(text: str) -> None:
    result = cka_result(3, 4, undefined=((0, 1),))
    chart, _ = [c for c in charts(text).values() if c["titles"].get("xaxis") == "student: resnet8, layer"]
    heat, undefined = chart["data"]
    assert heat["z"][0][1] is None
    assert heat["z"][2][3] == pytest.approx(result.arrays["matrix"][2, 3], abs=1e-4)
    assert chart["ticks"]["yaxis"] == result.facts["teacher_layers"]
    assert chart["ticks"]["xaxis"] == result.facts["student_layers"]
    assert (undefined["x"], undefined["y"]) == ([1], [0])
    assert "undefined: the student&#x27;s features are constant" in undefined["text"][0]


def test_pairs_of_networks_within_their_null_are_grey_in_the_report_too() -> None:
    result = calibrated(map_result(2, 2), spread=0.6)
    (panel,) = map_panels([("map.npz", result)])
    heat, grey = panel.charts[0].traces
    chance = result.arrays["p_adjusted"] > 0.05
    empty = [sum(value is None for row in trace["z"] for value in row) for trace in (heat, grey)]
    assert empty == [chance.sum(), chance.size - chance.sum()]
    assert grey["name"] == "within its null, p > 0.05"
    assert "for all pairs" in heat["customdata"][0][1]
    assert "from 39 random orders of the images" in panel.charts[0].caption


def test_same_results_same_page(folder: Path, text: str, tmp_path: Path) -> None:
    assert write_report([folder], tmp_path / "again.html", title=HOSTILE).read_text(encoding="utf-8") == text


def test_one_seed_has_no_interval(tmp_path: Path) -> None:
    save_result(comparison_result(n_seeds=1), tmp_path / "c.npz", table="")
    text = write_report([tmp_path], tmp_path / "r.html", title="t").read_text(encoding="utf-8")
    assert "one seed gives no interval" in text
    assert "±" not in text.split("<script")[0]


def test_remarks_and_what_is_left_out_are_listed_once_and_escaped(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script> & more"
    cells = [{"teacher_layer": "a", "student_layer": "b", "reason": f"few samples {hostile}"}] * 2
    left_out = [{"teacher_layer": hostile, "student_layer": "fc", "reason": "it is constant"}]
    plain = cka_result()
    origin = plain.provenance | {"teacher": {"remark": "the run <b>x</b> is unfinished"}}
    facts = plain.facts | {"remarks": cells, "left_out": left_out, "n_left_out": 3, "no_interval": "too few"}
    for name, result in (("one", replace(plain, facts=facts, provenance=origin)), ("two", plain)):
        save_result(result, tmp_path / name / "cka.npz", table="")
    text = write_report([tmp_path], tmp_path / "r.html", title="t").read_text()
    (listed,) = re.findall(r'<ul class="remarks".*?</ul>', text, re.S)
    assert [html.unescape(re.sub("<.*?>", "", line)) for line in re.findall("<li>(.*?)</li>", listed)] == [
        f"one: few samples {hostile} (2 times)",
        f"one: left out: {hostile} and fc: it is constant",
        "one: 3 images are left out, in minibatches too small to be counted",
        plain.facts["weighting"],  # of both
        "one: no interval where none is shown: too few",
        "one: the run <b>x</b> is unfinished",
    ]


def test_folders_are_searched_in_order(tmp_path: Path) -> None:
    for name in ("b/z.npz", "b/a/y.npz", "a.npz"):
        save_result(cka_result(), tmp_path / name, table="")
    names = [str(path.relative_to(tmp_path)) for path in result_files([tmp_path / "b", tmp_path / "a.npz", tmp_path])]
    assert names == ["b/a/y.npz", "b/z.npz", "a.npz"]


def test_archives_that_are_no_results_are_passed_over_in_folders(tmp_path: Path) -> None:
    save_result(cka_result(), tmp_path / "mine.npz", table="")
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    assert result_files([tmp_path]) == [tmp_path / "mine.npz"]
    with pytest.raises(ResultError, match=r"foreign\.npz cannot be read as a kdprobe result"):
        write_report([tmp_path / "foreign.npz"], tmp_path / "r.html", title="t")
    (tmp_path / "damaged.npz").write_bytes(b"no archive")
    with pytest.raises(ResultError, match=r"damaged\.npz cannot be read as a kdprobe result"):
        write_report([tmp_path], tmp_path / "r.html", title="t")


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["out/cka/kd-s0/cka", "out/cka/kd-s1/cka"], ["kd-s0", "kd-s1"]),
        (["a/one", "a/two"], ["one", "two"]),
        (["a/one", "a/b/one"], ["one", "b"]),
        (["out/cka"], ["cka"]),
    ],
)
def test_names_leave_out_what_all_share(paths: list[str], names: list[str]) -> None:
    assert differing_parts([Path(f"{path}.npz") for path in paths]) == names


def test_numbers_and_scales_are_json() -> None:
    assert numbers(np.array([[0.123456789, np.nan]])) == [[0.12346, None]]
    colours = scale(-0.2, 1.0)
    assert set(colours) == set(themed(0, 0))
    assert [colours["light"][index][0] for index in (0, -1)] == [0.0, 1.0]
    assert hover("<a>", "b") == "&lt;a&gt;<br>b"


def test_of_mixed_results_it_is_said_which_belong_to_which_data() -> None:
    one, other = evaluation_result(), comparison_result()
    assert dict(tiles([("e", one), ("c", other)]))["Data"] == "digits"
    other.facts["data"] = "folder:tin5"
    few = cka_result(2, 2)
    few.facts["n_samples"] = 250
    told = dict(tiles([("e", one), *((name, other) for name in "abcd"), ("k", few)]))
    assert told["Data"] == "digits (e, k); folder:tin5 (a, b, c and 1 more)"
    assert told["Images"] == "360 (e), 250 (k)"


def test_students_are_those_of_every_analysis() -> None:
    one, other, several = cka_result(student="a"), knowledge_result(), knowledge_comparison_result()
    other.facts["student"], several.facts["students"] = "b", ["b", "c", "c"]
    assert dict(tiles([("one", one), ("other", other), ("several", several)]))["Students"] == "a, b, c"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.npz"], "there is no result"),
        (["empty"], "; of runs, `kdprobe runs compare empty --out comparison.npz` and `kdprobe runs curves` make"),
        (["bare.npz"], "bare.npz: in this 'cka' result: the array 'matrix' is missing"),
        (["foreign.npz"], "cannot be read as a kdprobe result"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("foreign.npz").write_bytes(b"PK")
    write_bare("bare.npz")
    with pytest.raises(SystemExit) as stop:
        main(["report", *arguments])
    told = capsys.readouterr().err
    assert stop.value.code == 2
    assert message in told
    assert told.count("\n") == 1
    assert not Path("report.html").exists()


def test_command_says_where_the_page_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_result(cka_result(), tmp_path / "cka.npz", table="")
    main_arguments = ["report", str(tmp_path), "--out", str(tmp_path / "new" / "r.html"), "--title", "A & B"]
    main(main_arguments)
    assert capsys.readouterr().out == f"{tmp_path / 'new' / 'r.html'}\n"
    assert "<title>A &amp; B</title>" in (tmp_path / "new" / "r.html").read_text(encoding="utf-8")
    main([*main_arguments, "--quiet"])
    assert capsys.readouterr().out == ""


def test_complexity_is_a_table_with_its_conventions(text: str) -> None:
    assert '<th scope="row">resnet18</th><td>11.180</td>' in text
    assert "how macs are counted" in text
    assert "batch of" not in text


def test_latencies_stand_beside_the_counts(tmp_path: Path) -> None:
    save_result(complexity_result(latency=True), tmp_path / "complexity.npz", table="")
    text = write_report([tmp_path], tmp_path / "r.html", title="t").read_text(encoding="utf-8")
    assert '<th scope="col" class="words">ms, batch of 32</th>' in text
    assert "<td>12.30 [12.00, 13.10]</td><td>310.00 [300.00, 330.00]</td>" in text
    assert "ms: median and quartiles in ms, on cpu (some processor) with 2 threads." in text


def test_several_evaluations_are_chosen_from(tmp_path: Path) -> None:
    for name in ("seed0", "seed1"):
        save_result(evaluation_result(), tmp_path / name / "evaluation.npz", table="")
    text = write_report([tmp_path], tmp_path / "r.html", title="t").read_text(encoding="utf-8")
    assert ">seed0</option>" in text
    assert ">kd (seed1)</option>" in text


def test_what_has_a_picture_has_a_section() -> None:
    assert set(SECTIONS) == {*FIGURES, "complexity"}


def test_images_stand_with_words_and_both_shares(page: Page, text: str) -> None:
    result = examples_result(name=HOSTILE)
    learnt, images = page.all("img")[:11], page.all("img")[11:]
    assert all("taken for 1 by the teacher and by students" in (image["alt"] or "") for image in learnt)
    assert len(images) == 16
    specific, other = (result.arrays[key][1, 0] for key in ("specific", "other"))
    told = f"specific part {specific:.2f} in the student, {other:.2f} in the other network."
    assert (images[8]["alt"] or "").endswith(told)
    assert f"<span>{specific:.2f} | {other:.2f}</span>" in text
    shown = decoded(images[8]["src"] or "").astype(int)
    assert np.abs(shown - result.arrays["images"][1, 0]).mean() < 3
    assert np.abs(shown - result.arrays["images"][0, 0]).mean() > 30


def decoded(address: str) -> np.ndarray:
    """The pixels of an embedded picture."""
    return np.asarray(Image.open(io.BytesIO(b64decode(address.partition("base64,")[2]))))


@pytest.mark.parametrize("side", [8, 64, 112])
def test_pictures_are_exact_where_that_takes_no_more_room(side: int) -> None:
    flat = np.zeros((side, side, 3), np.uint8)
    flat[side // 2 :] = 200
    assert image_address(flat).startswith("data:image/png;base64,")
    np.testing.assert_array_equal(decoded(image_address(flat)), flat)
    ramp = np.linspace(0, 6, side)
    photo = np.stack([127 + 100 * np.sin(np.add.outer(ramp * k, ramp)) for k in (1, 2, 3)], 2)
    photo = (photo + np.random.default_rng(0).normal(0, 8, photo.shape)).clip(0, 255).astype(np.uint8)
    address, exact = image_address(photo), io.BytesIO()
    Image.fromarray(photo).save(exact, format="PNG")
    assert len(address) <= 4 * exact.tell() / 3 + 40
    assert np.abs(decoded(address).astype(int) - photo).mean() < 6
    if side > 8:
        assert len(address) < 0.7 * exact.tell()


def test_large_images_are_shrunk(tmp_path: Path) -> None:
    result = examples_result()
    photos = np.random.default_rng(0).integers(0, 256, (2, 8, 300, 200, 3), dtype=np.uint8)
    save_result(replace(result, arrays={**result.arrays, "images": photos}), tmp_path / "e.npz", table="")
    page = Page(write_report([tmp_path], tmp_path / "r.html", title="t").read_text(encoding="utf-8"))
    assert decoded(page.all("img")[0]["src"] or "").shape == (112, 75, 3)


def test_other_measures_have_a_heatmap_without_intervals(text: str) -> None:
    (heat,) = [c["data"][0] for c in charts(text).values() if "Procrustes" in json.dumps(c["data"][0].get("colorbar"))]
    assert "Procrustes similarity 0." in heat["customdata"][0][0]
    assert "[" not in heat["customdata"][0][0]


def test_calibrated_values_stand_beside_plain_ones_and_over_depth(tmp_path: Path) -> None:
    result = calibrated(cka_result(4, 4, undefined=((3, 0), (0, 1))), spread=0.15)
    save_result(result, tmp_path / "cka.npz", table="")
    text = write_report([tmp_path], tmp_path / "r.html", title="t").read_text(encoding="utf-8")
    first, plain, depth = charts(text).values()
    assert ["hidden" in figure for figure in Page(text).all("figure")] == [False, True, False]
    chance = result.arrays["p_adjusted"] > 0.05
    heat, grey, undefined = first["data"]
    np.testing.assert_array_equal(
        np.array(heat["z"], float), np.where(chance, np.nan, np.round(result.arrays["calibrated"], 4))
    )
    np.testing.assert_array_equal(np.array(grey["z"], float) == 0, chance)
    assert (grey["name"], undefined["name"], len(undefined["x"])) == ("within its null, p > 0.05", "undefined", 2)
    mean, p_value = (float(result.arrays[key][1, 1]) for key in ("null_mean", "p_adjusted"))
    assert f"null: mean {mean:.3f}" in heat["customdata"][1][1]
    assert f"p = {p_value:.3f} for all pairs" in heat["customdata"][1][1]
    assert plain["data"][0]["z"][1][1] == round(result.arrays["matrix"][1, 1], 4)
    best, by_chance = depth["data"]
    assert best["y"] == pytest.approx(np.nanmax(result.arrays["matrix"], 0).tolist(), abs=1e-5)
    assert by_chance["y"] == pytest.approx(result.arrays["student_threshold"].tolist(), abs=1e-5)
    assert ">within its null</td>" in text
    assert "0 up to the 95 % quantile of a pair&#39;s null, from 39 random orders of the samples" in text


def test_general_shares_of_methods_stand_side_by_side(text: str) -> None:
    result = knowledge_comparison_result(("plain", HOSTILE))
    teacher, student = [c for c in charts(text).values() if "general in" in c["titles"].get("xaxis", "")]
    for chart, who in ((teacher, "teacher"), (student, "student")):
        assert [trace["name"] for trace in chart["data"]] == [hover("plain"), hover(HOSTILE)]
        for trace, values in zip(chart["data"], result.arrays[f"{who}_general"], strict=True):
            assert trace["x"] == pytest.approx((100 * values[:, 0]).tolist(), abs=1e-3)


def test_the_teacher_is_called_by_its_model(tmp_path: Path) -> None:
    sweep = dropout_result()
    sweep = replace(sweep, facts={**sweep.facts, "teacher": "/home/me/runs/big-vit"})
    for name, result in (("sweep", sweep), ("comparison", comparison_result())):
        save_result(result, tmp_path / f"{name}.npz", table="")
    tiles = [
        re.findall("<dt>Teacher</dt><dd>(.*?)</dd>", write_report(given, tmp_path / "r.html", title="t").read_text())
        for given in ([tmp_path / "sweep.npz"], [tmp_path])
    ]
    assert tiles == [["big-vit"], ["vit_<wbr>tiny"]]


def test_epochs_are_told_of_each_experiment_where_they_differ(tmp_path: Path) -> None:
    def epochs(*given: int) -> str:
        for name, count in zip(("short", "long"), given, strict=False):
            result = training_result(("plain", "kd"), count)
            save_result(result, tmp_path / name / "training.npz", table="", overwrite=True)
        text = write_report([tmp_path], tmp_path / "r.html", title="t").read_text(encoding="utf-8")
        (told,) = re.findall("<dt>Epochs</dt><dd>(.*?)</dd>", text)
        return str(told)

    assert epochs(4) == "2, 4"  # the first run is unfinished
    assert epochs(4, 4) == "2, 4"
    assert epochs(4, 12) == "6, 12 (long); 2, 4 (short)"


def test_fidelity_is_told_in_sentences_and_in_the_overview(tmp_path: Path) -> None:
    result = fidelity_result()
    names = list(result.facts["quantities"])
    result.arrays["means"][0, names.index("kappa")] = [-1e-9, -0.2, 0.1]
    result.provenance["teacher"] = {"sha256": None, "model": "vit_tiny"}
    save_result(result, tmp_path / "f.npz", table="")
    text = write_report([tmp_path / "f.npz"], tmp_path / "r.html", title="t").read_text()
    assert text.count("Beside plain (3 seeds), kd and dropkd are not shown to be closer to the teacher (") == 1
    assert '<th scope="row">plain (control)</th>' in text
    assert "<td>0.000 [-0.200, 0.100]</td>" in text
    assert "-0.000" not in text
    tiles = dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", text))
    assert [tiles[name] for name in ("Teacher", "Methods", "Controls")] == ["vit_<wbr>tiny", "kd, dropkd", "plain"]
    assert re.search(
        r"<td class=.words.>dropkd - plain</td><td>3 seeds</td><td>\+\d+\.\d \[.*?\]</td><td>p = 0.004</td>", text
    )


def test_methods_are_compared_by_a_test_not_by_their_intervals(tmp_path: Path) -> None:
    result = comparison_result()
    save_result(result, tmp_path / "c.npz", table="")
    text = write_report([tmp_path], tmp_path / "r.html", title="t").read_text()
    entry = result.facts["differences"][0]
    assert "whether the intervals above overlap is no test of a difference" in text
    assert "kd - plain" in text
    assert f"{100 * entry['difference']:+.1f} ± " in text
    assert worded_p_value(entry["adjusted_p_value"]) in text
    assert "cannot be told apart" in text
    save_result(comparison_result(n_seeds=1), tmp_path / "c.npz", table="", overwrite=True)
    assert "How methods differ" not in write_report([tmp_path], tmp_path / "r.html", title="t").read_text()


def test_seeds_that_differ_between_methods_are_told(tmp_path: Path) -> None:
    result = comparison_result()
    for array in result.arrays.values():
        array[1, 2] = np.nan
    result.facts["budget_differences"] = "budgets differ in epochs (8, 40)"
    save_result(result, tmp_path / "c.npz", table="")
    text = write_report([tmp_path], tmp_path / "r.html", title="t").read_text()
    assert "The budgets differ in epochs (8, 40)." in text
    assert "2 to 3 seeds per method" in text


def test_tables_are_whole_unless_they_are_really_long(tmp_path: Path) -> None:
    save_result(tuned_result(tuple(f"method_{n}" for n in range(14)), 2), tmp_path / "t.npz", table="")
    page = Page(write_report([tmp_path], tmp_path / "r.html", title="t").read_text())
    rows = {n_rows: kind for kind, n_rows in _tables((tmp_path / "r.html").read_text())}
    assert rows[14 + 1] == "scroll"  # methods and the teacher
    assert rows[14 * 3] == "scroll long"  # each with its held-out accuracy and two options
    style = re.sub(r"\s+", " ", "".join(page.texts))
    assert re.findall(r"\.(\w+) { max-height: \d+px", style) == ["long"]
    assert ".scroll { max-height: none; overflow: visible" in style.split("@media print")[1]


def _tables(text: str) -> list[tuple[str, int]]:
    """The class and the number of rows of each table."""
    found = re.findall(r'<div class="(scroll.*?)".*?(<tbody>.*?</table>)', text, re.S)
    return [(kind, table.count("<tr>")) for kind, table in found]


def test_long_names_in_tables_go_on_in_the_next_line_and_numbers_do_not(tmp_path: Path) -> None:
    save_result(
        fidelity_result(("kd with lr=0.05 and weight=0.9", "plain_from_vit_small_patch16_224")),
        tmp_path / "f.npz",
        table="",
    )
    text = write_report([tmp_path], tmp_path / "r.html", title="t").read_text()
    pair = "kd with lr=0.05 and weight=0.9 - plain_<wbr>from_<wbr>vit_<wbr>small_<wbr>patch16_<wbr>224"
    assert f'<td class="words">{pair}</td>' in text
    assert '<th scope="row">kd with lr=0.05 and weight=0.9</th>' in text
    assert '<th scope="col" class="words">agreement if teacher wrong in %</th>' in text
    assert re.search(r"<td>\d+\.\d \[\d+\.\d, \d+\.\d\]</td>", text)


def test_one_trial_of_one_epoch_is_written_as_one_and_axes_of_whole_numbers_have_no_halves(tmp_path: Path) -> None:
    result = tuned_result(("plain", "kd"), 2, 2)
    result.facts.update(trial_epochs=1, epochs=1)
    save_result(result, tmp_path / "t.npz", table="")
    text = write_report([tmp_path], tmp_path / "r.html", title="t").read_text()
    assert "each of 2 methods had 2 trials of 1 epoch, judged" in text
    assert "trained anew for 1 epoch, with nothing held out" in text
    assert "over the 1 difference of this table" in text
    assert [chart["layout"].get("xaxis", {}).get("dtick") for chart in charts(text).values()] == [None, 1]
    save_result(tuned_result(("plain", "kd"), 16, 2), tmp_path / "t.npz", table="", overwrite=True)
    text = write_report([tmp_path], tmp_path / "r.html", title="t").read_text()
    assert charts(text)["chart-1"]["layout"]["xaxis"] == {}
    save_result(tuned_result(("plain", "kd"), 1, 2), tmp_path / "t.npz", table="", overwrite=True)
    text = write_report([tmp_path], tmp_path / "r.html", title="t").read_text()
    assert len(charts(text)) == 1  # of one trial there is no best
    assert "the published setting, as nothing is tuned, was trained anew" in text


def test_tables_of_numbers_have_the_intervals_of_the_charts(tmp_path: Path) -> None:
    result = cka_result(2, 2)
    for name, one in {"c": result, "m": map_result(2, 1), "o": over_time_result(), "x": comparison_result()}.items():
        save_result(one, tmp_path / f"{name}.npz", table="")
    text = write_report([tmp_path], tmp_path / "r.html", title="t").read_text()
    ends = [float(result.arrays[key][0, 0]) for key in ("matrix", "low", "high")]
    assert "<td>{:.3f} [{:.3f}, {:.3f}]</td>".format(*ends) in text
    first = map_result(2, 1).arrays
    assert f"<td>{first['similarity'][0, 1]:.3f} [{first['low'][0, 1]:.3f}, {first['high'][0, 1]:.3f}]</td>" in text
    over = over_time_result().arrays["cka"][1, 0]
    assert f"<td>{over:.3f}</td>" in text  # which has none
    assert len(re.findall(r"<td>\d\d\.\d ± \d\.\d</td><td>\d\d\.\d</td><td>\d\d\.\d</td>", text)) == 2 * 3


def test_names_with_commas_are_kept_apart(tmp_path: Path) -> None:
    names = ("kd, lr=0.1", "plain", "at")
    save_result(comparison_result(names), tmp_path / "c.npz", table="")
    save_result(training_result(names), tmp_path / "t.npz", table="")
    save_result(tuned_result(names), tmp_path / "u.npz", table="")
    alts = [
        a["aria-label"] or ""
        for a in Page(write_report([tmp_path], tmp_path / "r.html", title="t").read_text()).all("div")
        if a.get("role") == "img"
    ]
    assert len(alts) == 3 + 2 + 2
    assert all(re.search(r"kd, lr=0\.1 [^;,]+; plain ", alt) for alt in alts)


def test_classes_of_few_images_say_so_where_their_share_is_shown(tmp_path: Path) -> None:
    result = evaluation_result(("kd",), 3, 60)
    result.arrays["confusion"][0, 1] = [0, 4, 0]
    save_result(result, tmp_path / "e.npz", table="")
    (chart,) = [
        one
        for one in charts(write_report([tmp_path], tmp_path / "r.html", title="t").read_text()).values()
        if one["titles"].get("xaxis") == "predicted class"
    ]
    assert chart["ticks"] == {"xaxis": ["0", "1", "2"], "yaxis": ["0", "1 (n = 4)", "2"]}


def test_commands_in_sentences_are_code(tmp_path: Path) -> None:
    save_result(cka_result(), tmp_path / "c.npz", table="")
    text = write_report([tmp_path], tmp_path / "r.html", title="t").read_text()
    assert "(<code>kdprobe cka --calibrate</code>)" in text
