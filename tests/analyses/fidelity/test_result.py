"""Fidelity of planted students: who copies its teacher, who is only as accurate, and what cannot be asked."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from analyses.evaluation.predictions import Judged
from analyses.fidelity import measure_fidelity
from analyses.fidelity.comparisons import Comparisons
from analyses.fidelity.inherited import inherited_errors, inherited_table
from analyses.fidelity.lineage import Lineage, lineages
from analyses.fidelity.measured import measure_answers
from analyses.fidelity.quantities import FIDELITIES, Answers
from analyses.fidelity.words import fidelity_summary, fidelity_table, verdicts
from kdprobe.data import load_data
from kdprobe.errors import AnalysisError
from kdprobe.models.creation import ModelInfo
from kdprobe.results import check_result
from kdprobe.runs.inputs import Inputs
from tests.analyses.fidelity.planted import judged, logits
from tests.analyses.map.networks import write_run

PLACE = {name: place for place, name in enumerate(FIDELITIES)}


def networks() -> dict[str, Judged]:
    """A teacher of 80 %, a student that makes half of its mistakes, and two as accurate that make none on purpose."""
    rng = np.random.default_rng(0)
    true = load_data("digits", image_size=8).test.labels.numpy()

    def guess(wrong: np.ndarray) -> np.ndarray:
        return np.where(wrong, (true + rng.integers(1, 10, len(true))) % 10, true)

    taught = guess(rng.random(len(true)) < 0.2)
    copied = np.where((taught != true) & (rng.random(len(true)) < 0.5), taught, true)
    found = {"teacher": taught, "copier": copied, "plain": guess(rng.random(len(true)) < 0.1), "other": guess(true < 1)}
    return {name: judged(name, logits(rng, one)) for name, one in found.items()}


NETWORKS = networks()


@pytest.fixture(scope="module")
def result():
    return measure_fidelity(NETWORKS["teacher"], [NETWORKS["copier"]], [NETWORKS["plain"], NETWORKS["other"]])


def test_copied_mistakes_are_told_from_accuracy(result):
    check_result(result)
    copier, plain, _ = result.arrays["values"]
    assert abs(copier[PLACE["accuracy"], 0] - plain[PLACE["accuracy"], 0]) < 0.03
    value, low, high = copier[PLACE["agreement_wrong"]]
    assert 0.35 < low < value < high < 0.65
    assert plain[PLACE["agreement_wrong"], 0] < 0.1
    assert result.facts["pairs"][0] == {"one": "copier", "other": "plain", "by": "image", "n": 359}
    adjusted = result.arrays["adjusted"][0]
    assert adjusted[PLACE["agreement_wrong"]] < 0.01
    assert adjusted[PLACE["accuracy"]] > 0.1
    for name, words in zip(("plain", "other"), result.facts["verdicts"], strict=True):
        assert words.startswith(f"Beside {name} (359 images), copier makes more of the teacher's mistakes")


@pytest.mark.parametrize(
    ("accuracy", "same_error_p", "words"),
    [
        (0.0, 1.0, "it has learnt its function, not only its accuracy"),
        (-0.44, 0.01, "it has learnt its function, not only its accuracy"),
        (-0.44, 1.0, "but gets 44.0 points fewer images right, .* not shown to have learnt its function"),
    ],
)
def test_a_network_that_errs_more_is_not_said_to_have_learnt_mistakes(accuracy, same_error_p, words):
    differences, adjusted = np.zeros((1, len(FIDELITIES), 3)), np.ones((1, len(FIDELITIES)))
    differences[0, PLACE["accuracy"]] = accuracy
    for name, p_value in (("agreement_wrong", 0.001), ("same_error", same_error_p)):
        differences[0, PLACE[name]], adjusted[0, PLACE[name]] = 0.2, p_value
    pair = {"one": "student", "other": "control", "by": "image", "n": 359}
    (said,) = verdicts(Comparisons([pair], differences, adjusted, adjusted, []), ["control"])
    assert re.search(words, said)


@pytest.mark.parametrize(
    ("differ", "words"),
    [
        (
            {"agreement": -0.1, "jensen_shannon": 0.2},
            "is further from the teacher (agreement, Jensen-Shannon divergence)",
        ),
        (
            {"agreement": 0.1, "accuracy": -0.1},
            "is closer to the teacher (agreement), but is not shown to make more of",
        ),
        (
            {"kappa": 0.1, "error_consistency": -0.1},
            "is closer to the teacher in one way (Cohen's kappa) and further from it in another (error consistency)",
        ),
        ({"accuracy": 0.1}, "is more accurate, but is not shown to be closer to the teacher"),
        ({"accuracy": -0.1}, "is not shown to be closer to the teacher"),
    ],
)
def test_verdicts_say_both_directions(differ, words):
    differences, adjusted = np.zeros((1, len(FIDELITIES), 3)), np.ones((1, len(FIDELITIES)))
    for name, value in differ.items():
        differences[0, PLACE[name]], adjusted[0, PLACE[name]] = value, 0.01
    pair = {"one": "kd", "other": "plain", "by": "seed", "n": 4}
    (said,) = verdicts(Comparisons([pair], differences, adjusted, adjusted, []), ["plain"])
    assert said.startswith(f"Beside plain (4 seeds), kd {words}")


def test_the_interval_of_a_divergence_stays_in_its_range():
    given = torch.zeros(3, 2)
    own = Answers(torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]), given, torch.tensor([0, 1, 0]), temperature=1.0)
    value, low, high = measure_answers([own])[PLACE["jensen_shannon"]]
    assert low == 0 < value < high < np.log(2)


def test_table_and_words_hold_every_number(result):
    table = fidelity_table(result)
    assert table.groupby("of").size().to_dict() == {"difference": 16, "method": 24, "network": 24}
    assert table.loc[table.of == "difference", "holm"].notna().all()
    words = fidelity_summary(result)
    assert "copier" in words
    assert "plain [control]" in words
    assert "agreement if teacher wrong" in words
    assert "it has learnt its function, not only its accuracy" in words


def test_the_mistakes_that_were_learnt_are_shown(result):
    found = inherited_errors(result, NETWORKS["teacher"], [NETWORKS["copier"]], n_images=5)
    assert found is not None
    check_result(found)
    arrays = found.arrays
    taught = result.arrays["teacher_predictions"][arrays["index"]]
    assert (arrays["answers"] == taught).all()
    assert (arrays["answers"] != arrays["labels"]).all()
    assert (arrays["students"] == 1).all()
    assert (arrays["controls"] == 0).all()
    assert (np.diff(arrays["confidence"]) <= 0).all()
    assert arrays["images"].shape == (5, 8, 8, 3)
    assert len(inherited_table(found)) == 5
    of_students, of_controls = arrays["counts"][0]
    wrong = result.arrays["teacher_predictions"] != result.arrays["targets"]
    assert of_students == ((result.arrays["predictions"][0] == result.arrays["teacher_predictions"]) & wrong).sum()
    assert of_controls < of_students / 3


def test_a_student_that_is_always_right_has_learnt_no_mistakes():
    true = load_data("digits", image_size=8).test.labels
    perfect = judged("perfect", torch.nn.functional.one_hot(true, 10).float() * 9)
    result = measure_fidelity(NETWORKS["teacher"], [perfect])
    assert inherited_errors(result, NETWORKS["teacher"], [perfect]) is None
    assert "differences" not in result.arrays
    reasons = {entry["quantity"]: entry["reason"] for entry in result.facts["undefined"]}
    assert reasons == {"same_error": "there is no image that both get wrong"}
    taught = measure_fidelity(perfect, [NETWORKS["copier"]])
    reasons = {entry["quantity"]: entry["reason"] for entry in taught.facts["undefined"]}
    assert reasons["agreement_wrong"] == "the teacher is right on every image"
    assert "agreement if teacher wrong, copier: the teacher is right on every image" in fidelity_summary(taught)
    check_result(taught)


def test_seeds_of_a_method_are_one_method(monkeypatch):
    rng, teacher = np.random.default_rng(1), NETWORKS["teacher"]
    true, taught = teacher.data.test.labels.numpy(), teacher.logits.argmax(1).numpy()
    shares = {"kd": 0.6, "plain": 0.05}
    members = {
        f"{name}{seed}": np.where((taught != true) & (rng.random(len(true)) < share), taught, true)
        for name, share in shares.items()
        for seed in range(4)
    }
    found = {name: judged(name, logits(rng, one)) for name, one in members.items()}
    students, controls = ([one for name, one in found.items() if name[:-1] == which] for which in shares)

    def known(*_):
        return [Lineage("student" if name < "p" else "control", name[:-1], int(name[-1])) for name in found]

    monkeypatch.setattr("analyses.fidelity.result.lineages", known)
    result = measure_fidelity(teacher, students, controls)
    assert result.facts["groups"] == ["kd", "plain"]
    assert result.facts["pairs"] == [{"one": "kd", "other": "plain", "by": "seed", "n": 4}]
    each = result.arrays["values"][:4, PLACE["agreement_wrong"], 0]
    mean, low, high = result.arrays["means"][0, PLACE["agreement_wrong"]]
    assert mean == pytest.approx(each.mean())
    assert low < each.mean() < high
    assert result.arrays["adjusted"][0, PLACE["agreement_wrong"]] < 0.05
    without = [replace(one, seed=None) if one.role == "control" else one for one in known()]
    monkeypatch.setattr("analyses.fidelity.result.lineages", lambda *_: without)
    apart = measure_fidelity(teacher, students, controls)
    assert apart.facts["untested"][0]["reason"].startswith("kd and plain have no seed in common")


def test_three_images_give_wide_intervals_and_no_error():
    data = NETWORKS["teacher"].data
    few = replace(data, test=data.test.take(torch.arange(3)))
    teacher, *others = (
        replace(one, data=few, logits=one.logits[:3])
        for one in (NETWORKS[name] for name in ("teacher", "copier", "plain"))
    )
    result = measure_fidelity(teacher, others[:1], others[1:])
    check_result(result)
    value, low, high = result.arrays["values"][0, PLACE["agreement"]]
    assert 0 <= low <= value <= high <= 1
    assert high - low > 0.5
    p_values = result.arrays["p_values"][~np.isnan(result.arrays["p_values"])]
    assert (p_values >= 0.2).all()
    assert "teacher makes only 1 mistake here: hardly enough to tell" in fidelity_summary(result)


def test_networks_that_are_no_runs_are_methods_of_their_own():
    found = lineages([NETWORKS["copier"]], [NETWORKS["plain"]])
    assert found == [Lineage("student", "copier"), Lineage("control", "plain")]


def test_what_cannot_be_asked_is_refused():
    teacher = NETWORKS["teacher"]
    copy = replace(teacher, name="copy")
    with pytest.raises(AnalysisError, match="copy is the same network as the teacher: both files have the sha256"):
        measure_fidelity(teacher, [copy])
    data = teacher.data
    parts = {name: replace(part, labels=0 * part.labels) for name, part in (("train", data.train), ("test", data.test))}
    one = replace(teacher, data=replace(data, classes=("0",), **parts))
    with pytest.raises(AnalysisError, match="fidelity needs at least two classes, but digits has 1"):
        measure_fidelity(one, [NETWORKS["copier"]])


def taught_result(monkeypatch, *students):
    """Fidelity to a teacher of these students, of which only the lineage is planted, beside two controls."""
    controls = [Lineage("control", "plain"), Lineage("control", "other")]
    monkeypatch.setattr("analyses.fidelity.result.lineages", lambda *_: [*students, *controls])
    copiers = [replace(NETWORKS["copier"], name=f"copier{place}") for place in range(len(students))]
    copiers = [replace(one, info=replace(one.info, sha256=one.name)) for one in copiers]
    return measure_fidelity(NETWORKS["teacher"], copiers, [NETWORKS["plain"], NETWORKS["other"]])


def test_who_did_not_learn_from_this_teacher_is_named_and_said_to_have_learnt_nothing_of_it(monkeypatch):
    students = [
        Lineage("student", "alone", alone=True),
        Lineage("student", "elsewhere", teacher="of another"),
        Lineage("student", "shuffled", teacher="teacher", shuffled=True),
        Lineage("student", "taught", teacher="teacher"),
        Lineage("student", "unknown"),
    ]
    facts = taught_result(monkeypatch, *students).facts
    assert [entry["reason"] for entry in facts["remarks"]] == [
        "copier0 learnt without a teacher; it is rather a control",
        "copier1 did not learn from teacher (sha256 teacher), but from another teacher (sha256 of another)",
        "copier2 learnt from a teacher whose answers were shuffled; it is rather a control",
    ]
    said = [words for words in facts["verdicts"] if words.startswith("Beside plain")]
    learnt = ["it has learnt its function" in words for words in said]
    assert learnt == [False, False, False, True, True]
    assert "makes more of the teacher's mistakes, although it did not learn its answers" in said[0]


def test_a_teacher_without_a_hash_is_not_said_to_be_another_one():
    assert Lineage("student", "kd", teacher="of a file").learnt_from(None) is None
    assert Lineage("student", "kd", teacher="of a file").learnt_from("of a file") is True


@pytest.mark.parametrize("name", ["", "last.safetensors", "best.safetensors", "snapshots/epoch-0002.safetensors"])
def test_the_teacher_of_a_run_is_known_whichever_of_its_networks_is_given(name, tmp_path):
    for method, teacher in (("kd", "t/teacher"), ("plain", None)):
        run = write_run(tmp_path / method, f"method.name={method}", f"teacher={teacher or 'null'}")
        Inputs("taught" if teacher else None, "data").write(run / "inputs.json")
    kd, plain = (
        replace(
            NETWORKS["copier"],
            checkpoint=str(tmp_path / method / name),
            info=ModelInfo("resnet8", 10, 8, method=method),
        )
        for method in ("kd", "plain")
    )
    found = lineages([kd], [plain])
    assert [(one.teacher, one.alone) for one in found] == [("taught", False), (None, True)]


@pytest.mark.parametrize(("method", "alone"), [("plain", True), ("eac", True), ("kd", False), ("", False)])
def test_a_network_that_is_in_no_run_was_alone_if_its_method_has_no_teacher(method, alone):
    network = replace(NETWORKS["copier"], info=ModelInfo("resnet8", 10, 8, method=method))
    assert lineages([network], [])[0].alone is alone
