"""The built documentation in headless Chromium: no page is wider than a narrow screen, every picture is there."""

import json
from pathlib import Path

import pytest

from tests.browser.chromium import CHROMIUM, browse

BUILT = Path(__file__).parents[2] / "docs" / "_build" / "html"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
    pytest.mark.skipif(not BUILT.is_dir(), reason="needs the documentation, as `make docs` builds it"),
]

LOOK = """
<body style="margin: 0"><iframe id="frame" style="border: 0; width: %dpx; height: 900px"></iframe><script>
const pages = %s, found = [], frame = document.getElementById("frame");
let place = -1;
frame.onload = () => {
  if (place >= 0) {
    const page = frame.contentDocument;
    const wide = page.scrollingElement.scrollWidth > page.defaultView.innerWidth;
    const lost = [...page.images].filter(image => image.loading !== "lazy" && !image.naturalWidth);
    if (wide || lost.length) found.push([pages[place], wide, lost.map(image => image.src)]);
  }
  if (++place < pages.length) frame.src = pages[place];
  else document.body.append(`looked at ${place}: ${JSON.stringify(found)};`);
};
frame.src = "about:blank";
</script>
"""


@pytest.mark.parametrize("width", [390, 1280])
def test_pages_fit_the_screen_and_have_their_pictures(tmp_path: Path, width: int) -> None:
    pages = sorted(page.as_uri() for page in BUILT.rglob("*.html") if "_modules" not in page.parts)
    look = tmp_path / "look.html"
    look.write_text(LOOK % (width, json.dumps(pages)), encoding="utf-8")
    flags = ("--window-size=1400,900", "--allow-file-access-from-files", "--virtual-time-budget=600000")
    dom, _ = browse(look, tmp_path / "profile", *flags)
    assert f"looked at {len(pages)}: [];" in dom, dom[-2000:]
