"""The report in headless Chromium: charts drawn, hover and selector alive, no error, no request."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from figures.report import write_report
from kdprobe.results import save_result
from tests.saved_results import cka_result, comparison_result, evaluation_result

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=5000",
)

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")]


def browse(page: Path, profile: Path, *flags: str) -> tuple[str, str]:
    """The DOM after scripts have run, and what the browser said."""
    assert CHROMIUM
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, "--dump-dom", page.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return run.stdout, run.stderr


def with_script(page: Path, script: str) -> Path:
    text = page.read_text(encoding="utf-8")
    changed = page.with_name("scripted.html")
    changed.write_text(text.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    return changed


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("browser")
    hostile = "<b>x</b></script><script>document.title='taken'</script>"
    save_result(cka_result(undefined=((0, 1),)), folder / "a.npz", table="")
    save_result(cka_result(61, 87, student=hostile), folder / "b.npz", table="")
    save_result(evaluation_result(), folder / "evaluation.npz", table="")
    save_result(comparison_result(), folder / "comparison.npz", table="")
    return write_report([folder], folder / "report.html", title="Digits")


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
