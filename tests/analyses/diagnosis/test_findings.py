"""What stands out is said with its number and the threshold that it passes, and nothing is said of what does not."""

import math
from dataclasses import replace

import numpy as np
import pytest

from analyses.diagnosis.course import course_of
from analyses.diagnosis.findings import LEAST_CHANGE, Balance, of_balance, of_course, of_terms, of_views
from analyses.diagnosis.terms import TermGradients, Trained, shares_and_cosines
from analyses.diagnosis.views import OWN_WAY, RightAnswers

SOUND = Balance(
    ("ce", "kd"), {"ce": 0.4, "kd": 0.6}, {"ce": 1.0, "kd": 0.2},
    {"kd": "method.kd_weight"}, {"ce": False, "kd": False}, "ce", 0.5,
)  # fmt: skip
TERMS = TermGradients(
    ("ce", "kd"),
    ("student.fc",),
    np.ones((3, 2)),
    np.ones((3, 2, 2)),
    np.ones((3, 2, 1)),
    Trained(100, 0, 0, 0),
    (),
    1.0,
)
VIEWS = ("training views", "training images", "test images", "test images" + OWN_WAY)


def said(findings):
    return [one.sentence for one in findings]


def with_shares(ce, kd, cosine=0.2, **changes):
    balance = SOUND._replace(shares={"ce": ce, "kd": kd}, cosines={"ce": 1.0, "kd": cosine}, **changes)
    return list(of_balance(balance))


def log(*losses, rates=None):
    rates = rates or [0.1] * len(losses)
    return [
        {"epoch": epoch, "lr": rate, "loss": loss, "terms": {"ce": loss}}
        for epoch, (loss, rate) in enumerate(zip(losses, rates, strict=True), start=1)
    ]


def right(teacher, student, n_images=500):
    share = np.array([teacher, student], dtype=float)
    half = 0.02
    accuracy = np.stack([share, share - half, share + half], axis=2)
    return RightAnswers(("teacher", "student"), VIEWS, accuracy, (n_images,) * 4, ())


def of_log(records, change=0.01, failure=""):
    return list(of_course(course_of(records, failure), change, n_epochs=10, peak=0.1))


def test_a_sound_run_gives_no_reason_to_speak():
    assert not [*of_balance(SOUND), *of_terms(TERMS), *of_log(log(2.3, 1.5, 1.0))]
    assert not [*of_views(right([0.8, 0.85, 0.8, 0.81], [0.6, 0.7, 0.6, math.nan]), 10, has_begun=True)]


def test_a_term_that_makes_nearly_all_of_the_gradient_is_named_with_its_option():
    (found,) = with_shares(0.04, 0.96)
    assert found.sentence == "the term 'kd' makes 96 % of the gradient (more than 90 %), and points elsewhere than 'ce'"
    assert found.advice == "lower method.kd_weight, to a tenth of it at first"
    assert (found.value, found.threshold) == (0.96, 0.9)
    assert not with_shares(0.04, 0.96, cosine=0.8), "it goes where the task goes"
    assert not with_shares(0.04, 0.96, learnt=0.95), "the task is learnt, so its gradient is small"
    (found,) = with_shares(0.96, 0.04)
    assert found.advice == "raise the weights of the other terms, which change next to nothing"


def test_a_term_that_makes_next_to_nothing_is_named_unless_it_trains_the_methods_own_modules():
    terms = {"terms": ("ce", "kd", "a"), "elsewhere": dict.fromkeys(("ce", "kd", "a"), False)}
    balance = SOUND._replace(
        shares={"ce": 0.5, "kd": 0.495, "a": 0.005}, cosines=dict.fromkeys(("ce", "kd", "a"), 0.1), **terms
    )
    assert said(of_balance(balance)) == ["the term 'a' makes 0.5 % of the gradient (less than 1 %)"]
    assert not said(of_balance(balance._replace(elsewhere={**terms["elsewhere"], "a": True})))


def test_a_term_that_pulls_against_the_task_is_named():
    (found,) = with_shares(0.5, 0.5, cosine=-0.5)
    assert "the gradient of 'kd' points against that of 'ce': their cosine is -0.50" in found.sentence


def test_what_is_not_finite_is_counted():
    loss, inner = np.ones((3, 2)), np.ones((3, 2, 2))
    loss[1, 1], inner[:2, 0, 0] = np.nan, np.nan
    assert said(of_terms(replace(TERMS, loss=loss, inner=inner))) == [
        "the gradient of the term 'ce' is not finite in 2 of 3 minibatches (more than 0)",
        "the term 'kd' is not finite in 1 of 3 minibatches (more than 0)",
    ]


def test_parameters_that_nothing_reaches_are_counted():
    def of(*counts, idle=()):
        return said(of_terms(replace(TERMS, trained=Trained(100, *counts), idle=idle)))

    assert of(60, 0, 0) == ["60 % of the student's parameters are frozen (more than 50 %)"]
    assert of(0, 2, 0) == ["2 % of the student's parameters are in no term of the loss (more than 1 %)"]
    assert of(50, 0, 25, idle=("conv1.weight",)) == [
        "50 % of the student's parameters that are trained (all of conv1.weight) have a gradient of exactly zero (more "
        "than 10 %)"
    ]
    assert not of(50, 1, 4)


def test_a_teacher_that_is_shown_images_in_another_way_than_its_own_is_told():
    (found,) = of_views(right([0.03, 0.03, 0.03, 0.67], [0.4, 0.4, 0.4, math.nan]), 10, has_begun=True)
    assert found.sentence.startswith(
        "the teacher is right on 3 % of the test images as this run shows them to it, but on 67 % as its own file has "
    )
    assert found.advice == "check teacher.mean, teacher.std and teacher.image_size"


def test_a_teacher_that_the_variations_confuse_is_told():
    (found,) = of_views(right([0.3, 0.8, 0.8, 0.8], [0.4, 0.4, 0.4, math.nan]), 10, has_begun=True)
    assert (
        "the teacher is right on 30 % of the student's views, but on 80 % of the same images without" in found.sentence
    )


def test_networks_that_guess_and_students_that_learn_by_heart_are_told():
    guessing = right([0.1] * 4, [0.1, 0.1, 0.1, math.nan])
    assert [text[:11] for text in said(of_views(guessing, 10, has_begun=True))] == ["the teacher", "the student"]
    assert [text[:11] for text in said(of_views(guessing, 10, has_begun=False))] == ["the teacher"]
    *_, of_student = of_views(guessing, 10, has_begun=True)
    assert of_student.advice == "train without the teacher, by method.name=plain, to see whether it is the recipe"
    (text,) = said(of_views(right([0.8] * 4, [0.9, 1.0, 0.5, math.nan]), 10, has_begun=True))
    assert "100 % of its training images, but on 50 % of the test images (more than 20 points apart)" in text


def test_a_student_without_a_teacher_that_guesses_is_not_told_to_leave_it():
    both = right([0.1] * 4, [0.1] * 4)
    alone = RightAnswers(("student",), VIEWS[:3], both.accuracy[1:, :3], both.n_images[:3], ())
    (found,) = of_views(alone, 10, has_begun=True)
    assert found.sentence.startswith("the student is right on 10 % of the training images, which cannot be told from")
    assert found.advice.startswith("another training.optimizer.lr first")
    assert "images and labels" in found.advice
    assert "teacher" not in found.advice


def test_the_course_of_the_loss_is_told():
    assert (
        "the training loss is flat: 2.3 in epoch 1, 2.29 in epoch 2 (fallen by 0.43 %"
        in of_log(log(2.3, 2.29))[0].sentence
    )
    assert "the training loss rises" in of_log(log(2.3, 2.5))[0].sentence
    (found,) = of_log(log(2.3, 0.5, 1.5))
    assert found.sentence.startswith("the training loss was 0.5 in epoch 2 and is 1.5 in the last")
    (found,) = of_log(log(2.3, 2.0, 1.5, rates=[0.1, 0.1, 1e-6]))
    assert "below 1 % of its highest from epoch 3 of 10 on" in found.sentence
    (found,) = of_log([], failure="the loss is nan in step 3; the images of this step are 1, 2")
    assert found.sentence == "the run failed: the loss is nan in step 3"
    assert not of_log(log(2.3)), "of one epoch nothing can be said"


@pytest.mark.parametrize(("change", "word"), [(LEAST_CHANGE / 2, "less"), (0.5, "more")])
def test_steps_that_are_too_small_or_too_large_are_told(change, word):
    (found,) = of_log([], change=change)
    assert f"a step changes the weights by {change:.2g} of their norm ({word} than" in found.sentence


def test_shares_of_a_gradient_that_is_nowhere_are_missing():
    shares, cosines = shares_and_cosines(np.zeros((2, 2, 2)), None)
    assert np.isnan(shares).all()
    assert np.isnan(cosines).all()
