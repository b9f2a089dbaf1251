"""The study's page is made from the results beside it."""

import sys
from pathlib import Path

import numpy as np
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


def test_one_variance_for_all_methods_is_that_of_the_noise(made):
    generator = np.random.default_rng(0)
    effects, shifts = generator.normal(0, 3, (8, 1)), generator.normal(0, 3, (1, 5))
    found = [made.residual_variance(effects + shifts + generator.normal(0, 0.5, (8, 5))) for _ in range(400)]
    assert {freedom for _, freedom in found} == {28}
    assert np.mean([variance for variance, _ in found]) == pytest.approx(0.25, rel=0.05)
