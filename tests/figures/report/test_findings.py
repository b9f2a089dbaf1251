"""Each kind of sentence: there where the numbers bear it, and not there where they do not."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from figures.report.elements import ALIKE, CARE, DIFFER, NEXT, TOPICS, Finding, KindSection
from figures.report.findings.alike import knowledge_findings, likeness_findings, map_likeness_findings
from figures.report.findings.answers import evaluation_findings, fidelity_findings
from figures.report.findings.assembly import Chapter, by_topic
from figures.report.findings.methods import comparison_findings, tuned_findings
from figures.report.findings.networks import network_findings
from figures.report.findings.rates import rates_findings
from figures.report.findings.wording import enumerated, worded_p_values
from figures.report.page import SECTIONS
from figures.report.write import write_report
from kdprobe.results import Result, save_result
from kdprobe.runs.differences import differences
from tests.saved_results import (
    calibrated,
    cka_result,
    comparison_result,
    complexity_result,
    dropout_result,
    evaluation_result,
    fidelity_result,
    knowledge_result,
    map_result,
    similarity_result,
    tuned_result,
)


def told(find: Callable[..., Iterable[Finding]], *results: Result) -> dict[str, str]:
    """The sentences under each topic, in lines; several results are called a, b, ..."""
    found = list(find([(chr(ord("a") + place), result) for place, result in enumerate(results)]))
    return {topic: "\n".join(one.text for one in found if one.topic == topic) for topic in TOPICS}


def compared(shift: float, *, n_seeds: int = 5, cka: float = 0.0, scatter: float = 0.005) -> Result:
    """`kd` so many points above `plain`, with seeds that scatter by half a point."""
    result = comparison_result(("plain", "kd"), n_seeds)
    noise = scatter * np.cos(2.5 * np.arange(n_seeds))
    noise -= noise.mean()
    arrays = {key: np.stack([0.5 * np.ones(n_seeds), 0.5 + shift + noise]) for key in ("accuracy", "uar")}
    arrays["cka"] = np.stack([0.5 * np.ones(n_seeds), 0.5 + cka + noise])
    rows = {name: name for name in ("plain", "kd")}
    return replace(result, arrays=arrays, facts=result.facts | {"differences": differences(arrays, rows, [360] * 2)})


def test_a_difference_is_told_with_its_size_where_the_test_finds_it() -> None:
    text = told(comparison_findings, compared(0.03))
    assert re.search(r"^kd has a higher accuracy than plain \(\+3\.0 ± 0\.\d points, p < 0\.001\)\.$", text[DIFFER])
    assert "not shown" not in text[DIFFER]
    assert "kd has a lower accuracy than plain (-3.0" in told(comparison_findings, compared(-0.03))[DIFFER]
    assert not text[NEXT]


def test_no_difference_is_told_where_the_test_finds_none_but_what_could_have_been_found() -> None:
    text = told(comparison_findings, compared(0.001))
    assert "higher" not in text[DIFFER]
    assert re.search(
        r"^kd is not shown to differ from plain in accuracy \(\+0\.1 ± 0\.\d points, p = 0\.\d+\); a true difference "
        r"of 0\.\d points would have been found four times out of five\.$",
        text[DIFFER],
    )


def test_uar_is_told_where_it_says_something_else_than_accuracy() -> None:
    assert "UAR" not in told(comparison_findings, compared(0.03))[DIFFER]
    result, same = compared(0.03), compared(0.0)
    entries = [one for one in result.facts["differences"] if one["quantity"] != "uar"]
    entries += [one for one in same.facts["differences"] if one["quantity"] == "uar"]
    mixed = replace(
        result, arrays=result.arrays | {"uar": same.arrays["uar"]}, facts=result.facts | {"differences": entries}
    )
    assert "kd is not shown to differ from plain in UAR" in told(comparison_findings, mixed)[DIFFER]


def test_cka_of_methods_is_no_accuracy() -> None:
    text = told(comparison_findings, compared(0.0, cka=0.2))
    assert "kd has a higher last-stage CKA than plain (+0.20 ± 0.00, p < 0.001)." in text[ALIKE]
    assert "last-stage CKA" not in text[DIFFER]


def test_more_seeds_are_asked_for_in_numbers() -> None:
    assert re.search(
        r"as these 3 scatter.*found four times out of five with \d+ seeds",
        told(comparison_findings, compared(0.0, n_seeds=3, scatter=0.01))[NEXT],
    )
    many = told(comparison_findings, compared(0.0, n_seeds=3, scatter=0.1))[NEXT]
    assert many.endswith("found four times out of five with more than 50 seeds.")
    assert not told(comparison_findings, compared(0.0, n_seeds=12))[NEXT]  # which tell a point by now
    one = told(comparison_findings, compared(0.03, n_seeds=1))
    assert one[NEXT] == "Train more seeds of each method: one seed tells no methods apart."
    assert "Not tested is the accuracy of kd against plain: they have one seed in common." in one[CARE]
    assert not one[DIFFER]


def test_what_a_reader_has_to_know_of_a_comparison_is_told() -> None:
    remarks = [{"reason": "the teacher (17.6 %) is less accurate than plain (50.0 %)"}]
    for find, result in ((comparison_findings, compared(0.03)), (tuned_findings, tuned_result())):
        assert not told(find, result)[CARE]
        weak = replace(result, facts=result.facts | {"remarks": remarks})
        assert told(find, weak)[CARE] == "The teacher (17.6 %) is less accurate than plain (50.0 %)."


def test_results_without_tests_say_nothing_of_methods() -> None:
    result = comparison_result()
    facts = {key: value for key, value in result.facts.items() if key != "differences"}
    assert not any(told(comparison_findings, replace(result, facts=facts)).values())


def test_many_methods_are_told_by_their_range_and_tuning_apart() -> None:
    methods = ("plain", "kd", *(f"method_{place}" for place in range(12)))
    result = tuned_result(methods, 3, 4)
    entries = [{**one, "adjusted_p_value": 0.7} for one in result.facts["differences"]]
    pairs = {f"{one} as published": one for one in methods[:2]}
    entries += [
        {
            **entries[0],
            "method": one,
            "other": name,
            "adjusted_p_value": p,
            "difference": 0.01,
            "low": 0.008,
            "high": 0.012,
        }
        for (name, one), p in zip(pairs.items(), (0.01, 0.7), strict=True)
    ]
    result = replace(result, facts=result.facts | {"differences": entries})
    lines = told(tuned_findings, result)[DIFFER].splitlines()
    assert len(lines) == 4, lines
    assert re.match(
        r"plain, method_0, .* and 6 more are not shown to differ from kd in accuracy \(from .* to ", lines[0]
    )
    assert "to differ from plain" in lines[1]
    assert lines[2] == "Tuning changes the accuracy of plain (+1.0 ± 0.2 points, p = 0.01)."
    assert lines[3].startswith("Tuning is not shown to change the accuracy of kd (+1.0 ± 0.2 points, p = 0.7); a true")


@pytest.mark.parametrize("half", [0.9, 0.4])  # 0.4 takes 51 points, and 50 lie above and below plain
def test_seeds_that_could_show_no_possible_difference_say_so(half: float) -> None:
    result = compared(0.0, n_seeds=2)
    entries = [{**one, "low": -half, "high": half, "difference": 0.0} for one in result.facts["differences"]]
    text = told(comparison_findings, replace(result, facts=result.facts | {"differences": entries}))[DIFFER]
    assert "points, p = 1); seeds so few, which scatter so much, cannot be relied on to show any difference." in text
    assert "true difference" not in text


def test_methods_whose_seeds_could_show_nothing_are_named_beside_those_that_could() -> None:
    result = tuned_result(("plain", "kd", "at"), published=False)
    entries = [{**one, "adjusted_p_value": 0.7, "low": -0.01, "high": 0.01} for one in result.facts["differences"]]
    wide = [{**one, "low": -0.9, "high": 0.9} if one["method"] == "at" else one for one in entries]
    first = told(tuned_findings, replace(result, facts=result.facts | {"differences": wide}))[DIFFER].splitlines()[0]
    assert re.search(r"a true difference of \d\.\d points would have been found four times out of five; ", first)
    assert first.endswith("; for at seeds so few, which scatter so much, cannot be relied on to show any difference.")


def test_fidelity_is_told_by_its_verdicts_with_their_numbers() -> None:
    result = fidelity_result()
    result.arrays["teacher_predictions"] = (result.arrays["targets"] + 1) % 3
    text = told(fidelity_findings, result)
    assert "Beside plain (3 seeds), kd and dropkd are not shown to be closer to the teacher (" in text[ALIKE]
    kappa = [place for place, name in enumerate(result.facts["quantities"]) if name == "kappa"]
    ends = sorted(zip(result.arrays["differences"][:, kappa[0], 0], ("kd", "dropkd"), strict=True))
    shown = " to ".join(f"{value:+.3f} ± 0.070 ({name})" for value, name in ends)
    assert f"Cohen's kappa {shown}, p = 0.004" in text[ALIKE]
    assert not text[CARE]
    assert not text[NEXT]
    result.arrays["adjusted"] = np.full_like(result.arrays["adjusted"], 0.5)
    unclear = told(fidelity_findings, result)[ALIKE]
    assert "kappa" not in unclear
    assert "agreement if teacher wrong" in unclear


def test_a_teacher_that_hardly_errs_and_missing_controls_are_told() -> None:
    result = fidelity_result(tested=False)
    result.arrays["teacher_predictions"] = result.arrays["targets"].copy()
    result.arrays["teacher_predictions"][0] = (result.arrays["targets"][0] + 1) % 3
    result.facts.update(pairs=[], verdicts=[], group_roles=["student"] * 3)
    text = told(fidelity_findings, result)
    assert "vit makes 1 mistake on 60 images: too few" in text[CARE]
    assert "Give controls to `kdprobe fidelity`" in text[NEXT]
    assert not text[ALIKE]


def test_networks_are_compared_by_their_tests_on_the_same_images() -> None:
    result = evaluation_result(("plain", "kd", "at"))
    result.facts["against"] = "plain"
    result.arrays["accuracy_difference"] = np.array([[0.0, np.nan], [0.031, 0.001], [0.002, 0.6]])
    result.arrays["uar_difference"] = result.arrays["accuracy_difference"]
    text = told(evaluation_findings, result)[DIFFER]
    assert re.search(
        r"^kd is more accurate than plain on these images \(\+3\.1 \[\S+, \S+\] points, p = 0\.002\)", text, re.M
    )
    assert re.search(r"^at is not shown to differ in accuracy from plain on these images \(\+0\.2 \[", text, re.M)
    assert not told(evaluation_findings, evaluation_result())[DIFFER]


def test_guessing_networks_are_told() -> None:
    result = evaluation_result(("plain", "kd"))
    assert "most frequent class" not in told(evaluation_findings, result)[CARE]
    result.arrays["accuracy"][1] = [0.1, 0.08, 0.13]
    assert re.search(
        r"^kd is not shown to do better than giving every image the most frequent class: 10\.0 % \[8\.0, 13\.0\]",
        told(evaluation_findings, result)[CARE],
        re.M,
    )


def test_confidence_is_doubted_where_perfect_calibration_is_excluded() -> None:
    result = evaluation_result(("plain", "kd"))
    result.arrays["ece"] = np.array([[0.05, 0.02, 0.08], [0.03, 0.0, 0.06]])
    assert (
        "The confidence of 1 of 2 networks is not to be taken at its word: calibration error 5.0 %."
        in told(evaluation_findings, result)[CARE]
    )
    result.arrays["ece"][:, 1] = 0
    assert not told(evaluation_findings, result)[CARE]


def test_classes_without_images_are_told() -> None:
    result = evaluation_result()
    result.arrays["confusion"][:, 3] = 0
    assert "There is no image of 3, so recall and UAR leave it out." in told(evaluation_findings, result)[CARE]


def test_layers_are_alike_where_they_exceed_their_null() -> None:
    some = told(likeness_findings, calibrated(cka_result(4, 4), spread=0.15))
    assert re.search(r"^\d of 16 pairs of layers of vit_tiny and resnet8 are more alike than chance makes", some[ALIKE])
    assert re.search(r"Not so blocks.\d with layer\S+, .* and \d+ more\.$", some[ALIKE])
    assert not some[NEXT]
    every = told(likeness_findings, calibrated(cka_result(2, 2, lowest=0.5), spread=0.001))[ALIKE]
    assert "all 4 pairs" in every
    assert "Not so" not in every
    none = told(likeness_findings, calibrated(cka_result(2, 2), spread=3.0))[ALIKE]
    assert none == "no pair of layers of vit_tiny and resnet8 is more alike than chance makes it."


def test_without_a_null_nothing_is_said_but_what_would_give_one() -> None:
    text = told(likeness_findings, cka_result())
    assert not text[ALIKE]
    assert "Set likeness beside chance (`kdprobe cka --calibrate`)" in text[NEXT]
    assert "(`kdprobe similarity --calibrate`)" in told(likeness_findings, similarity_result())[NEXT]


def test_many_results_are_told_together() -> None:
    one = calibrated(cka_result(2, 2), spread=0.01)
    within = int((one.arrays["p_adjusted"] > one.facts["calibration"]["alpha"]).sum())
    assert 0 < within < 4
    text = told(likeness_findings, *[one] * 8)[ALIKE]
    beyond = f"{8 * (4 - within)} of 32 pairs of layers in 8 results are more alike than chance makes them"
    assert text == f"{beyond}; in 0 of these results all are."
    one.arrays["p_adjusted"][:] = 0.001
    assert "in 8 of these results all are." in told(likeness_findings, *[one] * 8)[ALIKE]
    assert len(told(likeness_findings, *[one] * 6)[ALIKE].splitlines()) == 6

    decompositions = [knowledge_result(2) for _ in range(8)]
    for place, result in enumerate(decompositions):
        result.arrays["student_general"][-1] = np.array([0.1, 0.05, 0.15]) + place / 100
        result.arrays["teacher_general"][-1] = np.nan if place else np.array([0.3, 0.2, 0.4])
    assert told(knowledge_findings, *decompositions)[ALIKE].splitlines() == [
        "Teacher and student in 8 decompositions: of the variance of the student's last layer, the teacher's explains "
        "10 % [5, 15] (a) to 17 % [12, 22] (h).",
        "Teacher and student in 1 decomposition: of the variance of the teacher's last layer, the student's explains "
        "30 % [20, 40] (a).",
    ]
    assert "at least" not in told(knowledge_findings, *decompositions)[ALIKE]
    decompositions[-1].facts["student_lower_bound"] = [False, True]
    assert "10 % [5, 15] (a) to at least 17 % [12, 22] (h)." in told(knowledge_findings, *decompositions)[ALIKE]


def test_p_values_of_several_differences_are_told_by_the_least_sure() -> None:
    assert worded_p_values([0.01, 0.034, 0.0004]) == "p = 0.034 at most"
    assert worded_p_values([0.01, 0.2, 0.7]) == "p = 0.01 at least"
    assert worded_p_values([1.0, 1.0]) == "p = 1"
    assert worded_p_values([0.0001, 0.0004]) == "p < 0.001"


def test_sentences_name_their_results_where_a_section_has_several() -> None:
    findings = [Finding(CARE, "Care.", "a"), Finding(CARE, "Care.", "c", "How."), Finding(CARE, "All.")]
    for n_results, texts in ((1, ["Care.", "All."]), (3, ["a and c: Care.", "All."])):
        section = Chapter("cka", "CKA", {"a": "chart-1"}, findings, n_results)
        ((_, sentences),) = by_topic([section])
        assert [one.text for one in sentences] == texts
        assert [one.target for one in sentences] == ["chart-1", "cka"]


def test_undefined_pairs_are_told_with_their_reason() -> None:
    text = told(likeness_findings, cka_result(undefined=((0, 1), (1, 1))))[CARE]
    assert text == "2 of 16 pairs of layers have no value: the student's features are constant."
    assert not told(likeness_findings, cka_result())[CARE]


def test_maps_tell_what_groups_networks() -> None:
    result = map_result(undefined=True)
    text = told(map_likeness_findings, result)
    assert text[ALIKE] == "Given seeds, methods lie apart on the map (40 % of the squared distances, p = 0.004)."
    assert "Whether seeds lie apart on the map is not tested: one seed." in text[CARE]
    assert "1 pair of networks has no value" in text[CARE]
    result.facts["groupings"][0]["p_value"] = 0.4
    assert "methods are not shown to lie apart" in told(map_likeness_findings, result)[ALIKE]
    assert "of 21 pairs of networks exceed their null" in told(map_likeness_findings, calibrated(map_result()))[ALIKE]


def test_general_parts_are_told_with_their_intervals() -> None:
    result = knowledge_result(3)
    result.arrays["student_general"][-1] = [0.03, 0.001, 0.06]
    text = told(knowledge_findings, result)
    assert "The teacher's blocks.2 explains 3 % [0, 6] of the variance of the student's layer3." in text[ALIKE]
    assert "The student's layer3 explains 80 % [77, 83] of the variance of the teacher's blocks.2." in text[ALIKE]
    assert not text[CARE]
    result.arrays["teacher_general"][-1] = [0.01, -0.02, 0.04]
    nothing = told(knowledge_findings, result)[ALIKE]
    unknown = (
        "The student's layer3 is not shown to explain any of the variance of the teacher's blocks.2 (1 % [-2, 4])."
    )
    assert unknown in nothing
    limited = told(knowledge_findings, knowledge_result(3, measured=True))
    assert "explains at least 80 %" in limited[ALIKE]
    assert "3 of 6 general shares are lower bounds: 360 samples are too few for all directions." in limited[CARE]
    assert "Decompose more samples" in limited[NEXT]


def test_dropout_rates_are_told_apart_where_the_intervals_do() -> None:
    result = dropout_result(answered=True)
    best: dict[str, Any] = result.facts["best"]
    best["distinguishable"] = False
    text = told(rates_findings, result)
    assert re.search(
        r"^The best feature dropout rates \(teacher .*\) are not shown to be better than all", text[DIFFER]
    )
    assert "3 of 75 trainings of the grid of feature dropout rates are missing." in text[CARE]
    best["distinguishable"] = True
    assert "stand out from their neighbours; their least certain lead is " in told(rates_findings, result)[DIFFER]
    for number, neighbour in enumerate(best["neighbours"]):  # all lower ends cut at the same limit
        neighbour.update(low=-1.0, high=1.0, difference=0.05 - number / 1000)
    smallest = 5 - (len(best["neighbours"]) - 1) / 10
    assert f"least certain lead is {smallest:+.1f} points [-100.0, 100.0]." in told(rates_findings, result)[DIFFER]
    single = told(rates_findings, dropout_result(1, answered=True))
    assert not single[DIFFER]
    assert "one seed a cell" in single[CARE]
    assert "`sweep-dropout --seeds`" in single[NEXT]
    assert not told(rates_findings, dropout_result())[DIFFER]


def test_unfinished_networks_are_told_once() -> None:
    plain = cka_result()
    remarked = replace(plain, provenance=plain.provenance | {"teacher": {"remark": "the run a is interrupted"}})
    assert not told(network_findings, plain)[CARE]
    assert told(network_findings, remarked, plain, remarked)[CARE] == (
        "The run a is interrupted: this is behind a and c."
    )


def test_sentences_stand_under_their_topics_once_with_the_place_of_their_numbers() -> None:
    findings = [
        Finding(CARE, "Care.", "a", "How."),
        Finding(CARE, "More care.", "b", "How."),
        Finding(CARE, "Care.", "b"),
    ]
    ((topic, sentences),) = by_topic([Chapter("cka", "CKA", {"a": "chart-1"}, findings)])
    assert topic == CARE
    assert [(one.text, one.target, one.how) for one in sentences] == [
        ("Care.", "chart-1", "How."),
        ("More care.", "cka", ""),
    ]


def test_more_seeds_of_one_comparison_are_asked_for_once() -> None:
    again = compared(0.0, n_seeds=4, scatter=0.1)
    group = {"model": "resnet8", "method": "plain"}
    again = replace(again, facts=again.facts | {"groups": [group, group | {"method": "kd"}]})
    tuned = tuned_result(published=False)
    for result, count in ((tuned, 1), (replace(tuned, facts=tuned.facts | {"student": "resnet18"}), 2)):
        chapters = [
            Chapter("c", "", {}, comparison_findings([("c", again)])),
            Chapter("t", "", {}, tuned_findings([("t", result)])),
        ]
        sentences = dict(by_topic(chapters))[NEXT]
        assert [one.text[:33] for one in sentences] == [f"Train more seeds: as these {n} scat" for n in (4, 3)][:count]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], ""),
        (["a"], "a"),
        (["a", "b"], "a and b"),
        (["a", "b, c", "d"], "a; b, c; and d"),
        ([f"m{place}" for place in range(10)], "m0, m1, m2, m3, m4, m5, m6 and 3 more"),
    ],
)
def test_lists_in_sentences(words: list[str], text: str) -> None:
    assert enumerated(words) == text


def test_the_page_opens_with_the_sentences_and_each_leads_to_its_numbers(tmp_path: Path) -> None:
    for name, result in {
        "comparison": compared(0.03),
        "cka/one": calibrated(cka_result()),
        "cka/<b>two": calibrated(cka_result(student="<b>x</b>")),
        "fidelity": fidelity_result(),
        "sweep": dropout_result(answered=True),
    }.items():
        save_result(result, tmp_path / f"{name}.npz", table="")
    text = write_report([tmp_path], tmp_path / "r.html", title="t").read_text()
    main = text[text.index("<main>") :]
    (first,) = re.findall(r'<section id="findings">.*?</section>', main, re.S)
    assert main.index('<section id="findings">') < main.index('<section id="overview">')
    targets = re.findall(r'<a href="#(.*?)">', first)
    assert len(targets) == first.count("<li>") > 6
    assert set(targets) <= set(re.findall(r' id="(.*?)"', text))
    assert {"comparison-0", "fidelity-0"} <= set(targets)
    assert sum(target.startswith("chart-") for target in targets) >= 2
    assert "<b>" not in first
    assert "&lt;b&gt;" in first


def test_results_without_any_test_say_so(tmp_path: Path) -> None:
    save_result(complexity_result(), tmp_path / "c.npz", table="")
    text = write_report([tmp_path], tmp_path / "r.html", title="t").read_text()
    assert "No test and no interval of these results bears a sentence" in text


def test_a_section_may_bring_sentences_of_its_own() -> None:
    section = KindSection("Rhymes", lambda results: [], lambda results: [Finding(NEXT, "Write more.")])
    assert [one.text for one in section.findings([])] == ["Write more."]
    assert not list(KindSection("Rhymes", lambda results: []).findings([]))
    assert {kind for kind, section in SECTIONS.items() if list(section.findings([])) == []} == set(SECTIONS)
