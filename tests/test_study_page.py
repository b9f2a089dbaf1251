"""The study's page is made from the results beside it."""

import sys
from pathlib import Path

import pytest

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
    assert made.page() == (STUDY / "index.md").read_text(encoding="utf-8"), "run python docs/study/page.py"


def test_every_mark_has_a_table(made):
    text = (STUDY / "index.md").read_text(encoding="utf-8")
    names = [line.split()[2] for line in text.splitlines() if line.startswith("<!-- table:")]
    assert set(names) == set(made.TABLES)
    assert len(names) == text.count("<!-- end -->")
