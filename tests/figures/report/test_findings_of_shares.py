"""Sentences on intervals of shares of images, of students' general parts, and on what to try in a run."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t

from figures.report.elements import ALIKE, CARE, DIFFER, NEXT
from figures.report.findings.advice import diagnosis_findings
from figures.report.findings.alike import knowledge_comparison_findings, knowledge_findings
from figures.report.findings.answers import evaluation_findings
from figures.report.findings.shares import compound_findings, reliability_findings
from figures.report.findings.wording import from_to
from figures.report.write import write_report
from kdprobe.mean_interval import wilson
from kdprobe.results import Result, save_result
from tests.figures.report.test_findings import told
from tests.saved_results import (
    compound_result,
    diagnosis_result,
    evaluation_result,
    knowledge_comparison_result,
    knowledge_result,
    reliability_result,
)


def against_plain(n_first: int, n_second: int) -> Result:
    """Two networks on 200 images: `kd` errs on so many of the first ones alone, `plain` on so many of the last ones."""
    result = evaluation_result(("plain", "kd"), 2, 200)
    targets = np.zeros(200, dtype=np.int64)
    predictions = np.zeros((2, 200), dtype=np.int64)
    predictions[1, :n_first] = predictions[0, 200 - n_second :] = 1
    difference = [[0.0, np.nan], [(n_second - n_first) / 200, 1.0]]
    arrays = {"targets": targets, "predictions": predictions, "accuracy_difference": np.array(difference)}
    return replace(result, arrays=result.arrays | arrays, facts=result.facts | {"against": "plain"})


def test_networks_on_the_same_images_differ_within_an_interval() -> None:
    text = told(evaluation_findings, against_plain(6, 16))[DIFFER]
    each = np.repeat([-1.0, 0.0, 1.0], [6, 178, 16])
    half = 100 * t.ppf(0.975, 199) * each.std(ddof=1) / np.sqrt(200)
    assert f"(+5.0 ± {half:.1f} points, p = 1)" in text
    assert half == pytest.approx(4.6, abs=0.05)


def test_networks_that_answer_alike_still_differ_within_an_interval() -> None:
    same = against_plain(0, 0)
    same.arrays["predictions"][:, :20] = 1  # both right on 90 %
    _, low, high = wilson(np.array([180, 20]))
    half = 100 * np.sqrt(2) * max(high - 0.9, 0.9 - low)
    assert f"(+0.0 ± {half:.1f} points, p = 1)" in told(evaluation_findings, same)[DIFFER]


def test_students_are_told_by_the_range_of_their_general_parts() -> None:
    text = told(knowledge_comparison_findings, knowledge_comparison_result())
    assert text[ALIKE].splitlines() == [
        "The teacher's blocks.3 explains 3 % [0, 6] (plain) to 7 % [4, 10] (dropkd) of the variance of the students' "
        "layer4.",
        "The students' layer4 explains 80 % [77, 83] (plain) to 84 % [81, 87] (dropkd) of the variance of the "
        "teacher's blocks.3.",
    ]
    assert not text[DIFFER]
    bounded = told(knowledge_comparison_findings, knowledge_comparison_result(("a", "b", "c", "d")))[ALIKE]
    assert "explains at least 80 % [77, 83] (a) to at least 86 % [83, 89] (d)" in bounded


def test_general_parts_that_are_not_defined_are_no_sentence() -> None:
    result = knowledge_result()
    result.arrays["student_general"][-1] = np.nan
    assert told(knowledge_findings, result)[ALIKE] == (
        "The student's layer3 explains 80 % [77, 83] of the variance of the teacher's blocks.2."
    )
    result.arrays["teacher_general"][-1] = np.nan
    assert not told(knowledge_findings, result)[ALIKE]


def test_ranges_leave_out_what_is_not_defined() -> None:
    nothing, some = np.full(3, np.nan), np.array([1.0, -2.0, 4.0])
    assert from_to([("a", nothing), ("b", some)]) == "1 % [-2, 4] (b)"
    assert from_to([("a", nothing)]) == ""


def test_compound_expressions_are_told_with_their_intervals() -> None:
    text = told(compound_findings, compound_result())
    assert text[CARE] == (
        "Both halves of a compound expression are the two likeliest answers on 30.0 % [27.0, 33.0] (plain) to 36.0 % "
        "[33.0, 39.0] (dropkd) of 792 images."
    )
    assert not text[DIFFER]


def test_networks_are_surer_than_they_are_right_only_beyond_the_interval() -> None:
    result = reliability_result(("plain", "kd", "at"))
    assert not any(told(reliability_findings, result).values())
    count, accuracy = (result.arrays[key] for key in ("count", "accuracy"))
    shifts = np.array([0.08, 0.02, -0.09])[:, None]
    result.arrays["confidence"] = accuracy + shifts
    n, right = int(count[0].sum()), float(np.nansum(count[0] * accuracy[0]))
    share, low, high = 100 * wilson(np.array([right, n - right]))
    assert low > share - 9
    assert share + 2 < high < share + 8
    shown = f"right on {share:.1f} % [{low:.1f}, {high:.1f}]"
    assert told(reliability_findings, result)[CARE].splitlines() == [
        f"On average plain is surer than it is right ({share + 8:.1f} % sure, {shown}).",
        f"On average at is less sure than it is right ({share - 9:.1f} % sure, {shown}).",
    ]
    result.arrays["confidence"] = accuracy + 2 * abs(shifts)
    assert (
        f"at and plain are surer than they are right, most of all at ({share + 18:.1f} % sure"
        in (told(reliability_findings, result)[CARE])
    )


def test_what_a_diagnosis_suggests_is_to_do_next_and_said_to_rest_on_rules_of_thumb(tmp_path: Path) -> None:
    result = diagnosis_result()
    assert told(diagnosis_findings, result)[NEXT] == (
        "In runs/dropkd the term 'feature' makes 96 % of the gradient; to try: less."
    )
    assert not any(told(diagnosis_findings, replace(result, facts=result.facts | {"findings": []})).values())
    save_result(result, tmp_path / "diagnosis.npz", table="")
    text = write_report([tmp_path], tmp_path / "r.html", title="t").read_text()
    (first,) = re.findall(r'<section id="findings">.*?</section>', text, re.S)
    assert "<h3>What to do next</h3>" in first
    assert "rests on a rule of thumb, not on a test" in first
    assert 'href="#diagnosis-0"' in first
