"""What stands out in a run: sentences, each with its number and the threshold that it passes.

The thresholds are rules of thumb. They say where to look first, not what is wrong: a term may make nearly all of the
gradient because it is the one that matters.
"""

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np

from analyses.diagnosis.course import Course
from analyses.diagnosis.terms import TermGradients
from analyses.diagnosis.views import RightAnswers

LEARNT = 0.9  # of its training views that a student is right about, so that the balance of terms is not asked for
LARGEST_SHARE = 0.9  # of the gradient that one term may make
SAME_WAY = 0.5  # cosine from which on a term that makes nearly all of the gradient is no trouble to the task
SMALLEST_SHARE = 0.01  # of the gradient that a term must make
LEAST_COSINE = -0.3  # between a term's gradient and the task's
LARGEST_GAP = 0.2  # between two accuracies that should be alike
LEAST_FALL = 0.02  # of the training loss from the first to the last epoch
LARGEST_RISE = 0.5  # of the training loss from its lowest epoch to the last
LEAST_RATE = 0.01  # of the highest learning rate, before half of the epochs are over
LEAST_CHANGE, LARGEST_CHANGE = 1e-6, 0.3  # of the weights in one step, relative to their norm
MOST_LEFT = 0.5  # of the student's parameters that may be frozen
MOST_UNUSED = 0.01  # that may be in no term
MOST_IDLE = 0.1  # whose gradient may be zero

_TAUGHT = "train without the teacher, by method.name=plain, to see whether it is the recipe"
_ALONE = (
    "another training.optimizer.lr first, ten times lower and higher; then whether images and labels belong together"
)


class Symptom(NamedTuple):
    """Something that stands out.

    Attributes:
        sentence: what it is, with its number.
        advice: what to try.
        value: the number.
        threshold: that it passes.

    Example:
        >>> from analyses.diagnosis import Symptom
        >>> Symptom("the loss falls by 1 % (less than 2 %)", "raise training.optimizer.lr", 0.01, 0.02).value
        0.01
    """

    sentence: str
    advice: str
    value: float
    threshold: float


class Balance(NamedTuple):
    """How the terms of a loss compare.

    Attributes:
        terms: their names.
        shares: of the gradient.
        cosines: with the task's gradient.
        options: the option that weights each term, as in a configuration, where it is known.
        elsewhere: whether a term has a gradient in the method's own modules.
        task: name of the task's term.
        learnt: share of its training views that the student is right about.
    """

    terms: tuple[str, ...]
    shares: Mapping[str, float]
    cosines: Mapping[str, float]
    options: Mapping[str, str]
    elsewhere: Mapping[str, bool]
    task: str | None
    learnt: float


def of_balance(balance: Balance) -> Iterator[Symptom]:
    """Terms that make nearly all of the gradient or next to none, or pull against the task.

    Where a student has learnt its training images, the task's gradient is small as it should be: nothing is said then.
    """
    if len(balance.terms) < 2 or balance.learnt > LEARNT:
        return
    largest = max(balance.shares.values())
    for term in balance.terms:
        share, cosine = balance.shares[term], balance.cosines[term]
        option = balance.options.get(term, "its weight")
        if share > LARGEST_SHARE and (term == balance.task or not cosine >= SAME_WAY):
            aside = (
                "" if math.isnan(cosine) or term == balance.task else f", and points elsewhere than {balance.task!r}"
            )
            yield Symptom(
                f"the term {term!r} makes {_percent(share)} of the gradient (more than "
                f"{_percent(LARGEST_SHARE)}){aside}",
                f"lower {option}, to a tenth of it at first"
                if term != balance.task
                else "raise the weights of the other terms, which change next to nothing",
                share,
                LARGEST_SHARE,
            )
        if share < SMALLEST_SHARE and largest <= LARGEST_SHARE and not balance.elsewhere[term]:
            yield Symptom(
                f"the term {term!r} makes {_percent(share)} of the gradient (less than {_percent(SMALLEST_SHARE)})",
                f"raise {option}, or lower the weight of the largest term",
                share,
                SMALLEST_SHARE,
            )
        if cosine < LEAST_COSINE and share > SMALLEST_SHARE:
            yield Symptom(
                f"the gradient of {term!r} points against that of {balance.task!r}: their cosine is {cosine:.2f} "
                f"(less than {LEAST_COSINE})",
                f"lower {option}, or train without this term to see whether it helps",
                cosine,
                LEAST_COSINE,
            )


def of_terms(terms: TermGradients) -> Iterator[Symptom]:
    """Terms and gradients that are not finite, and parameters that nothing reaches."""
    for place, term in enumerate(terms.terms):
        for what, values in (("term", terms.loss[:, place]), ("gradient of the term", terms.inner[:, place, place])):
            if broken := int(np.isnan(values).sum()):
                yield Symptom(
                    f"the {what} {term!r} is not finite in {broken} of {len(values)} minibatches (more than 0)",
                    "lower training.optimizer.lr, and look at the images with kdprobe data check",
                    broken,
                    0.0,
                )
                break
    counts = terms.trained
    rest = max(counts.total - counts.frozen - counts.unused, 1)
    for count, of, most, words, advice in (
        (counts.frozen, counts.total, MOST_LEFT, "are frozen",
         "nothing where a head alone is to be trained; else freeze less by training.freeze"),
        (
            counts.unused, counts.total, MOST_UNUSED, "are in no term of the loss",
            "look for detach, no_grad or a reentrant checkpoint in the network, or for a part that nothing reads",
        ),
        (
            counts.idle, rest, MOST_IDLE, f"{_idle_words(terms.idle)} have a gradient of exactly zero",
            "look for activations that are zero for all images (a lower learning rate, or no too large bias)",
        ),
    ):  # fmt: skip
        if count > most * of:
            share = count / of
            what = "parameters" if of == counts.total else "parameters that are trained"
            yield Symptom(
                f"{_percent(share)} of the student's {what} {words} (more than {_percent(most)})", advice, share, most
            )


def _idle_words(idle: tuple[str, ...]) -> str:
    return f"(all of {', '.join(idle[:3])}{', ...' if len(idle) > 3 else ''})" if idle else ""


def of_views(right: RightAnswers, n_classes: int, *, has_begun: bool) -> Iterator[Symptom]:
    """A teacher that the views confuse, and a student that knows its training images alone, or not even these."""
    share = {
        network: dict(zip(right.views, row[:, 0], strict=True))
        for network, row in zip(right.networks, right.accuracy, strict=True)
    }
    _, train, test = right.views[:3]
    if "teacher" in share:
        yield from _of_teacher(share["teacher"], right, n_classes)
    student = share["student"]
    if student[train] - student[test] > LARGEST_GAP:
        yield _gap(
            f"the student is right on {_percent(student[train])} of its training images, but on "
            f"{_percent(student[test])} of the {test}",
            "it is not the loss that does not fall: more images, stronger data.augment or weight_decay",
            student[train] - student[test],
        )
    if has_begun:
        yield from _chance("student", right, 1, train, n_classes, _ALONE if "teacher" not in share else _TAUGHT)


def _of_teacher(share: Mapping[str, float], right: RightAnswers, n_classes: int) -> Iterator[Symptom]:
    """Whether the teacher is right about what it is shown."""
    views, train, test, own = right.views
    if share[own] - share[test] > LARGEST_GAP:
        yield _gap(
            f"the teacher is right on {_percent(share[test])} of the {test} as this run shows them to it, but on "
            f"{_percent(share[own])} as its own file has it",
            "check teacher.mean, teacher.std and teacher.image_size",
            share[own] - share[test],
        )
    else:
        yield from _chance("teacher", right, 2, test, n_classes, "check teacher.classes, mean, std and image_size")
    if share[train] - share[views] > LARGEST_GAP:
        yield _gap(
            f"the teacher is right on {_percent(share[views])} of the student's views, but on {_percent(share[train])} "
            "of the same images without variations",
            "milder data.augment and training.mixing, or a teacher that was trained on such views",
            share[train] - share[views],
        )


def _gap(sentence: str, advice: str, value: float) -> Symptom:
    return Symptom(f"{sentence} (more than {100 * LARGEST_GAP:.0f} points apart)", advice, value, LARGEST_GAP)


def _chance(who: str, right: RightAnswers, view: int, what: str, n_classes: int, advice: str) -> Iterator[Symptom]:
    """A network whose interval reaches down to what guessing gives."""
    value, low, _ = right.accuracy[right.networks.index(who), view]
    if low <= 1 / n_classes:
        yield Symptom(
            f"the {who} is right on {_percent(value)} of the {what}, which cannot be told from guessing "
            f"({_percent(1 / n_classes)} for {n_classes} classes)",
            advice,
            float(value),
            1 / n_classes,
        )


def of_course(course: Course, change: float, n_epochs: int, peak: float) -> Iterator[Symptom]:
    """A loss that is not finite, flat, rising or jumping, and steps that are too small or too large.

    Args:
        course: from the log.
        change: of the weights by a step at the highest learning rate, relative to their norm.
        n_epochs: of the run.
        peak: the highest learning rate.
    """
    if course.failure:
        yield Symptom(
            f"the run failed: {course.failure}",
            "training.optimizer.lr down, training.precision=fp32, training.clip_grad_norm=1",
            len(course.loss),
            n_epochs,
        )
    if change < LEAST_CHANGE:
        yield Symptom(
            f"at its highest learning rate, {peak:.3g}, a step changes the weights by {change:.2g} of their norm (less "
            f"than {LEAST_CHANGE:g})",
            "raise training.optimizer.lr",
            change,
            LEAST_CHANGE,
        )
    if change > LARGEST_CHANGE:
        yield Symptom(
            f"at its highest learning rate, {peak:.3g}, a step changes the weights by {change:.2g} of their norm (more "
            f"than {LARGEST_CHANGE:g})",
            "lower training.optimizer.lr, or set training.clip_grad_norm=1",
            change,
            LARGEST_CHANGE,
        )
    if course.change < LEAST_FALL:
        how = "is flat" if course.change > -LEAST_FALL else "rises"
        moved = "fallen" if course.change >= 0 else "risen"
        yield Symptom(
            f"the training loss {how}: {course.loss[0]:.4g} in epoch {course.epoch[0]}, {course.loss[-1]:.4g} in "
            f"epoch {course.epoch[-1]} ({moved} by {_percent(abs(course.change))}; a fall of {_percent(LEAST_FALL)} is "
            "the least)",
            "look at the terms one by one; a term that rises by its warm-up hides one that falls",
            course.change,
            LEAST_FALL,
        )
    yield from _later(course, n_epochs)


def _later(course: Course, n_epochs: int) -> Iterator[Symptom]:
    """What shows in later epochs alone."""
    if len(course.loss) < 2:
        return
    best = int(course.loss.argmin())
    rise = float(course.loss[-1] / course.loss[best] - 1) if course.loss[best] > 0 else 0.0
    if rise > LARGEST_RISE:
        yield Symptom(
            f"the training loss was {course.loss[best]:.4g} in epoch {course.epoch[best]} and is "
            f"{course.loss[-1]:.4g} in the last ({_percent(rise)} more; above {_percent(LARGEST_RISE)})",
            "a lower training.optimizer.lr, or training.schedule.warmup_epochs",
            rise,
            LARGEST_RISE,
        )
    low = course.rate < LEAST_RATE * course.rate.max()
    after = np.argmax(course.rate)
    if (fallen := np.flatnonzero(low[after:])).size and (early := int(course.epoch[after + fallen[0]])) <= n_epochs / 2:
        yield Symptom(
            f"the learning rate is below {_percent(LEAST_RATE)} of its highest from epoch {early} of {n_epochs} on "
            "(before half of the epochs)",
            "a longer schedule: training.schedule",
            early / n_epochs,
            0.5,
        )


def _percent(share: float) -> str:
    """`96 %`, `0.4 %`."""
    text = f"{100 * share:.2g}" if abs(share) < 0.1 else f"{100 * share:.0f}"
    return f"{text} %"
