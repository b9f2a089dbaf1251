"""The report in headless Chromium: charts drawn, hover and selector alive, no error, no request."""

import re
from importlib.resources import files
from pathlib import Path

import pytest

from figures.labels import shorten_all
from figures.report import write_report
from kdprobe.results import save_result
from tests.browser.chromium import CHROMIUM, browse, with_script
from tests.saved_results import (
    cka_result,
    comparison_result,
    compound_result,
    evaluation_result,
    images_result,
    of_the_same_images,
)

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    hostile = "<b>x</b></script><script>document.title='taken'</script>"
    save_result(cka_result(undefined=((0, 1),)), folder / "a.npz", table="")
    save_result(cka_result(61, 87, student=hostile), folder / "b.npz", table="")
    save_result(evaluation_result(), folder / "evaluation.npz", table="")
    save_result(comparison_result(), folder / "comparison.npz", table="")
    return write_report([folder], folder / "report.html", title="Digits")


@pytest.fixture(scope="module")
def with_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, images = tmp_path_factory.mktemp("images"), images_result(n_shown=50)
    save_result(images, folder / "images.npz", table="")
    save_result(of_the_same_images(evaluation_result(("kd",), 3, 60), images), folder / "evaluation.npz", table="")
    return write_report([folder], folder / "report.html", title="Images")


@pytest.mark.parametrize("size", ["1280,900", "500,844"])
def test_charts_are_drawn_without_errors(report: Path, tmp_path: Path, size: str) -> None:
    dom, said = browse(report, tmp_path, f"--window-size={size}")
    assert "CONSOLE" not in said
    shown = dom.count("<figure") - len(re.findall(r"<figure[^>]*hidden", dom))
    assert shown == 3 + 1 + 1 + 1
    assert len(re.findall(r'<svg class="main-svg"[^>]*>', dom)) >= shown
    assert "<title>Digits</title>" in dom


def test_no_request_leaves_the_page(report: Path, tmp_path: Path) -> None:
    script = """
        const asked = performance.getEntriesByType("resource").map(entry => entry.name);
        document.body.append(`asked for ${JSON.stringify(asked)} done`);
    """
    dom, said = browse(with_script(report, script), tmp_path)
    assert "asked for [] done" in dom.split("</main>")[1].split("</script>")[-1]
    assert "Content Security Policy" not in said


def test_the_page_would_tell_of_a_request(report: Path, tmp_path: Path) -> None:
    script = "const image = new Image(); image.src = 'x.png';"
    assert "Content Security Policy" in browse(with_script(report, script), tmp_path)[1]


def test_hover_shows_the_value(report: Path, tmp_path: Path) -> None:
    script = """
        const box = document.querySelector("#cka figure:not([hidden]) .chart");
        Plotly.Fx.hover(box, {xval: 3, yval: 2});
    """
    dom, said = browse(with_script(report, script), tmp_path)
    assert "CONSOLE" not in said
    (told,) = re.findall(r'<g class="hovertext".*?</g>', dom, re.S)
    value = cka_result(undefined=((0, 1),)).arrays["matrix"][2, 3]
    assert f"CKA {value:.3f}" in told
    assert "teacher blocks.2" in told


def test_selector_shows_another_pair(report: Path, tmp_path: Path) -> None:
    script = """
        const select = document.querySelector("#cka select");
        select.selectedIndex = 1;
        select.dispatchEvent(new Event("change"));
    """
    dom, said = browse(with_script(report, script), tmp_path)
    assert "CONSOLE" not in said
    section = dom[dom.index('<section id="cka"') : dom.index('<section id="evaluation"')]
    first, second = re.findall(r"<figure.*?</figure>", section, re.S)
    assert "hidden" in first.split(">")[0]
    assert "hidden" not in second.split(">")[0]
    assert "main-svg" in second
    assert "blocks.60" in second


@pytest.mark.parametrize(("size", "limit"), [("1280,900", 32), ("500,844", 20)])
def test_names_that_shorten_to_the_same_text_are_numbered(tmp_path: Path, size: str, limit: int) -> None:
    names = [f"dropkd, feature_weight={weight}, temperature=4.0, logit_weight=1.0" for weight in (0.5, 1.0, 2.0)]
    save_result(compound_result((*names, "plain")), tmp_path / "compound.npz", table="")
    page = write_report([tmp_path], tmp_path / "r.html", title="t")
    dom, said = browse(page, tmp_path / "profile", f"--window-size={size}")
    assert "CONSOLE" not in said
    texts = re.findall(r'<g class="ytick">.*?<text[^>]*>(.*?)</text>', dom, re.S)
    assert texts == [*shorten_all(names, limit), "plain"]
    assert [text[-4:] for text in texts[:3]] == [" (1)", " (2)", " (3)"]


def test_nothing_is_wider_than_a_phone(report: Path, tmp_path: Path) -> None:
    frame = tmp_path / "phone.html"
    frame.write_text(
        f'<iframe src="{report.as_uri()}" style="width:390px;height:4000px"></iframe><script>'
        'document.querySelector("iframe").onload = event => document.body.append('
        '"width " + event.target.contentDocument.documentElement.scrollWidth);</script>',
        encoding="utf-8",
    )
    dom, _ = browse(frame, tmp_path / "profile", "--allow-file-access-from-files")
    assert "width 390" in dom


def test_dark_look_draws_light_ink(report: Path, tmp_path: Path) -> None:
    dom, said = browse(report, tmp_path, "--blink-settings=preferredColorScheme=0")
    assert "CONSOLE" not in said
    assert "fill: rgb(231, 236, 241)" in dom


def shown_in(dom: str, section: str) -> tuple[str, list[str]]:
    """What is said of the images behind a section's first chart, and the words for each that is shown."""
    part = dom[dom.index(f'<section id="{section}"') :]
    (behind, *_) = re.findall(r'<div class="behind">.*?</ul>', part[: part.index("</section>")], re.S)
    (status,) = re.findall(r'<p role="status">(.*?)</p>', behind, re.S)
    return status, re.findall(r'<img src="data:image/(?:png|jpeg);base64,[^"]+" alt="(.*?)"', behind)


def test_a_set_of_images_is_chosen_without_a_pointer(with_images: Path, tmp_path: Path) -> None:
    script = """
        const select = document.querySelector("#evaluation .behind select");
        select.value = "0";
        select.dispatchEvent(new Event("change"));
    """
    dom, said = browse(with_script(with_images, script), tmp_path)
    assert "CONSOLE" not in said
    status, words = shown_in(dom, "evaluation")
    label, total, shown = re.findall(r"(\d taken for \d): (\d+) images?(?:, of which (\d+) are in this page)?", status)[
        0
    ]
    assert len(words) == int(shown or total) > 0
    assert all(f"of class {label[0]}; vit: " in text for text in words)
    assert "choose, or click into the chart" in dom


@pytest.mark.parametrize("cell", [(1, 1), (0, 2)])
def test_a_click_on_a_cell_shows_its_images(with_images: Path, tmp_path: Path, cell: tuple[int, int]) -> None:
    row, column = cell
    script = f"""
        const box = document.querySelector("#evaluation .behind").closest("figure").querySelector(".chart");
        box.emit("plotly_click", {{points: [{{data: box.data[0], pointNumber: [{row}, {column}]}}]}});
    """
    dom, said = browse(with_script(with_images, script), tmp_path)
    assert "CONSOLE" not in said
    status, words = shown_in(dom, "evaluation")
    images = images_result(n_shown=50)
    confusion = of_the_same_images(evaluation_result(("kd",), 3, 60), images).arrays["predictions"][0]
    targets = images.arrays["targets"]
    total = int(((targets == row) & (confusion == column)).sum())
    assert f": {total} image" in status
    assert words


def test_a_point_is_ringed_in_every_network_and_its_image_shown(with_images: Path, tmp_path: Path) -> None:
    script = """
        const boxes = [...document.querySelectorAll("#images .chart")].slice(1);
        boxes[1].emit("plotly_click", {points: [{data: boxes[1].data[0], pointNumber: 2}]});
        const image = boxes[1].data[0].meta.images[2];
        const rings = boxes.map(box => box.data.at(-1)).filter(trace => trace.marker.symbol === "circle-open");
        const told = boxes[1].closest("figure").querySelector(".behind").textContent.includes(`image ${image}`);
        document.body.append(`rings ${rings.length} told ${told} `);
        boxes[1].closest("figure").querySelector(".behind button[data-image]").click();
        const left = boxes.filter(box => box.data.at(-1).marker.symbol === "circle-open");
        document.body.append(`left ${left.length} done`);
    """
    dom, said = browse(with_script(with_images, script), tmp_path)
    assert "CONSOLE" not in said
    assert "rings 3 told true left 0 done" in dom.split("</main>")[1].split("</script>")[-1]


def test_images_are_no_wider_than_a_phone_and_do_not_leave_the_page(with_images: Path, tmp_path: Path) -> None:
    script = """
        for (const select of document.querySelectorAll(".behind select")) {
            select.value = "0";
            select.dispatchEvent(new Event("change"));
        }
        const asked = performance.getEntriesByType("resource").filter(entry => !entry.name.startsWith("data:"));
        document.body.append(`asked for ${asked.length} done`);
    """
    page, frame = with_script(with_images, script), tmp_path / "phone.html"
    frame.write_text(
        f'<iframe src="{page.as_uri()}" style="width:390px;height:4000px"></iframe><script>'
        'document.querySelector("iframe").onload = event => document.body.append('
        '"width " + event.target.contentDocument.documentElement.scrollWidth + " " +'
        "event.target.contentDocument.body.lastChild.textContent);</script>",
        encoding="utf-8",
    )
    dom, said = browse(frame, tmp_path / "profile", "--allow-file-access-from-files")
    assert "width 390 asked for 0 done" in dom
    assert "Content Security Policy" not in said


@pytest.mark.parametrize("scheme", ["1", "0"])
def test_axe_finds_nothing(report: Path, with_images: Path, tmp_path: Path, scheme: str) -> None:
    opened = """
        for (const select of document.querySelectorAll(".behind select")) {
            select.value = "0";
            select.dispatchEvent(new Event("change"));
        }
        for (const one of document.querySelectorAll("details")) one.open = true;
        axe.run().then(found => document.body.append("axe " + JSON.stringify(found.violations.map(
            one => [one.id, one.nodes.slice(0, 3).map(node => node.html.slice(0, 200))])) + " done"));
    """
    axe = files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    for page in (report, with_images):
        changed = with_script(page, f"{axe}</script><script>{opened}")
        dom, _ = browse(changed, tmp_path, f"--blink-settings=preferredColorScheme={scheme}")
        assert dom.split("</script>")[-1].split("axe ")[1].split(" done")[0] == "[]"
