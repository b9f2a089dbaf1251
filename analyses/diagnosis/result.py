"""The diagnosis of a run as a result, as a table and in words."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from analyses.diagnosis.course import Course, course_of
from analyses.diagnosis.findings import Balance, Symptom, of_balance, of_course, of_terms, of_views
from analyses.diagnosis.kept_run import KeptRun, open_run
from analyses.diagnosis.terms import TermGradients, measure_terms, shares_and_cosines, weighting_options
from analyses.diagnosis.views import RightAnswers, measure_views
from kdprobe.config import TrainingConfig
from kdprobe.devices import exact_float32, pick_device
from kdprobe.distillers import option_types
from kdprobe.files import sha256
from kdprobe.formats.counts import counted
from kdprobe.models import model_info
from kdprobe.provenance import provenance
from kdprobe.results import Result
from kdprobe.runs.folder import RunFolder
from kdprobe.runtime.precision import repeatable
from kdprobe.training.optimizer import rate_factor

if TYPE_CHECKING:
    import pandas as pd

#: terms that are the cross entropy with the labels; the first that a loss has is its task's
_TASK = ("ce", "classification")


@exact_float32
def diagnose(
    run: str | Path,
    *,
    n_minibatches: int = 8,
    device: str = "cpu",
    teacher: str | None = None,
    data: str | None = None,
    trust: Iterable[str] = (),
) -> Result:
    """Find out what a run's loss is made of and what its gradient comes from, and what of that stands out.

    The run is built again, with the weights that it kept, and shown minibatches of the epoch that comes next, or of the
    last one if it is finished. It is computed in float32, whatever the run computed in. Nothing in its folder changes.

    Args:
        run: the run folder; the run may be finished, stopped or failed.
        n_minibatches: k; of the run's own size.
        device: where to compute.
        teacher: where its teacher is now, if it has moved.
        data: where its images are now, likewise.
        trust: modules whose code the run may name.

    Returns:
        a result of kind "diagnosis" for T terms, P parts of student and method, and E logged epochs: `loss` [k, T] and
        `unweighted` [T] the terms with and without their weights, `inner` [k, T, T] inner products of their gradients
        with respect to the student's parameters, `norms` [k, T, P] of their gradients by part, `share` [T] and
        `cosine` [T] of gradients, `accuracy` [networks, views, 3], and the log.

    Raises:
        RunError: if it is no run, or if what it learnt from is gone or has changed.
        KdprobeError: for anything in its configuration that cannot be used.

    Example:
        >>> import kdprobe
        >>> few = ["--set", "data.per_class=4", "--set", "training.epochs=1"]
        >>> kdprobe.main(["train", "digits/resnet8", "--out", "run", "--quiet", *few])  # doctest: +ELLIPSIS
        run: accuracy ... on test after 1 epoch in ... s
        0
        >>> from analyses.diagnosis import diagnose
        >>> result = diagnose("run", n_minibatches=2)
        >>> result.facts["terms"], result.arrays["share"].tolist()
        (['ce'], [1.0])
    """
    folder, place = RunFolder(Path(run)), pick_device(device)
    with repeatable(folder.config(option_types()).seed, place):
        opened = open_run(run, place, teacher=teacher, data=data, trust=trust)
        terms = measure_terms(opened, n_minibatches)
        weights = weighting_options(opened, n_minibatches)
        right = measure_views(opened, n_minibatches)
    failure = folder.failure_path
    text = failure.read_text(encoding="utf-8", errors="replace") if failure.is_file() else ""
    return _result(opened, terms, weights, right, course_of(folder.metrics(), text))


def _result(
    run: KeptRun, terms: TermGradients, weights: dict[str, tuple[str, float]], right: RightAnswers, course: Course
) -> Result:
    config, data = run.config, run.job.data
    task = next((name for name in _TASK if name in terms.terms), None)
    shares, cosines = shares_and_cosines(terms.inner, None if task is None else terms.terms.index(task))
    learnt = float(right.accuracy[right.networks.index("student"), 0, 0])
    peak = _highest_rate(config.training, run.trainer.n_steps)
    change = _change(config.training, terms, peak)
    found = [
        *of_course(course, change, config.training.epochs, peak),
        *of_terms(terms),
        *(of_views(right, data.n_classes, has_begun=run.has_begun) if data.classes else ()),
        *of_balance(_balance(terms, shares, cosines, weights, task, learnt)),
    ]
    arrays = {
        "loss": terms.loss,
        "unweighted": terms.loss.mean(0) / np.array([weights.get(name, ("", math.nan))[1] for name in terms.terms]),
        "inner": terms.inner,
        "norms": terms.norms,
        "share": shares,
        "cosine": cosines,
        "accuracy": right.accuracy,
        **_logged(course),
    }
    facts = {
        "run": str(run.folder.path),
        "method": config.method["name"],
        "student": config.model.name,
        "teacher": config.teacher,
        "data": data.spec,
        "weights": run.weights,
        "terms": list(terms.terms),
        "task": task,
        "options": [weights[name][0] if name in weights else None for name in terms.terms],
        "parts": list(terms.parts),
        "networks": list(right.networks),
        "views": list(right.views),
        "n_images": list(right.n_images),
        "undefined": [dict(zip(("network", "view", "reason"), one, strict=True)) for one in right.reasons],
        "parameters": terms.trained._asdict(),
        "idle": list(terms.idle),
        "batch_size": config.training.batch_size,
        "highest_rate": peak,
        "step_change": None if math.isnan(change) else change,
        "course": course.words(),
        "findings": [one._asdict() for one in found],
    }
    origin = {"model": model_info(run.job.student).name, "run": str(run.folder.path), "state_sha256": _state(run)}
    return Result("diagnosis", arrays, facts, provenance(data=data.spec, **origin, inputs=vars(run.job.inputs)))


def _state(run: KeptRun) -> str | None:
    path = run.folder.state_path
    return sha256(path) if path.is_file() else None


def _logged(course: Course) -> dict[str, np.ndarray]:
    """The log, where there is any."""
    if not len(course.epoch):
        return {}
    return {"epoch": course.epoch, "train_loss": course.loss, "rate": course.rate}


def _balance(
    terms: TermGradients,
    shares: np.ndarray,
    cosines: np.ndarray,
    weights: dict[str, tuple[str, float]],
    task: str | None,
    learnt: float,
) -> Balance:
    names = terms.terms
    in_method = [part.startswith("method.") for part in terms.parts]
    elsewhere = np.any(terms.norms[:, :, in_method] > 0, axis=(0, 2))
    return Balance(
        names,
        dict(zip(names, map(float, shares), strict=True)),
        dict(zip(names, map(float, cosines), strict=True)),
        {name: option for name, (option, _) in weights.items()},
        dict(zip(names, map(bool, np.atleast_1d(elsewhere)), strict=True)),
        task,
        learnt,
    )


def _highest_rate(training: TrainingConfig, n_steps: int) -> float:
    """The highest learning rate of the whole run."""
    steps = (
        rate_factor(training.schedule, step / n_steps, training.epochs) for step in range(n_steps * training.epochs)
    )
    return training.optimizer.lr * max(steps)


def _change(training: TrainingConfig, terms: TermGradients, rate: float) -> float:
    """How much a step changes the student's weights, relative to their norm, by the rule of the optimizer.

    Momentum adds up steps to 1 / (1 - momentum) of them; Adam's are of about the learning rate in each number.
    """
    optimizer = training.optimizer
    if optimizer.name == "sgd":
        gradient = float(np.sqrt(np.maximum(terms.inner.sum((1, 2)), 0)).mean())
        gradient = min(gradient, training.clip_grad_norm or math.inf)
        size = gradient / (1 - optimizer.momentum)
    else:
        size = math.sqrt(terms.trained.total - terms.trained.frozen - terms.trained.unused)
    return rate * size / terms.weight_norm if terms.weight_norm else math.nan


# Tables and words


def diagnosis_table(result: Result) -> "pd.DataFrame":
    """One row per number: quantities of terms, of terms in parts, and of networks on views."""
    import pandas as pd

    facts, arrays = result.facts, result.arrays
    of_terms = {
        "loss": arrays["loss"].mean(0),
        "unweighted": arrays["unweighted"],
        "gradient": _norms(result).mean(0),
        "share": arrays["share"],
        "cosine": arrays["cosine"],
    }
    rows: list[dict[str, Any]] = [
        {"quantity": quantity, "term": term, "value": value}
        for quantity, values in of_terms.items()
        for term, value in zip(facts["terms"], values, strict=True)
    ]
    rows += [
        {"quantity": "gradient", "term": term, "part": part, "value": value}
        for term, norms in zip(facts["terms"], arrays["norms"].mean(0), strict=True)
        for part, value in zip(facts["parts"], norms, strict=True)
    ]
    rows += [
        {"quantity": "accuracy", "network": network, "view": view, "value": value, "low": low, "high": high}
        for network, each in zip(facts["networks"], arrays["accuracy"], strict=True)
        for view, (value, low, high) in zip(facts["views"], each, strict=True)
    ]
    columns = ["quantity", "term", "part", "network", "view", "value", "low", "high"]
    return pd.DataFrame(rows).reindex(columns=columns)


def _norms(result: Result) -> np.ndarray:
    """Norms of the terms' gradients with respect to the student's parameters [k, T]."""
    norms: np.ndarray = np.sqrt(np.einsum("ktt->kt", result.arrays["inner"]))
    return norms


def diagnosis_summary(result: Result) -> str:
    """Tables for reading, and what stands out."""
    facts = result.facts
    count = len(result.arrays["loss"])
    shown = f"{counted(count, 'minibatch')} of {facts['batch_size']} images"
    of = f"{facts['student']} by {facts['method']}" + (f" from {facts['teacher']}" if facts["teacher"] else "")
    lines = [f"{facts['run']}: {of}, on {shown}; weights: {facts['weights']}", facts["course"], "", _term_table(result)]
    if part_table := _part_table(result):
        lines += ["", part_table]
    lines += ["", _view_table(result), *_reasons(result), "", *_parameters(facts), "", *_found(facts["findings"])]
    return "\n".join(lines)


def _term_table(result: Result) -> str:
    import pandas as pd

    arrays, facts = result.arrays, result.facts
    table = {
        "term": facts["terms"],
        "mean": arrays["loss"].mean(0),
        "unweighted": arrays["unweighted"],
        "weighted by": [option or "-" for option in facts["options"]],
        "gradient": _norms(result).mean(0),
        "share %": 100 * arrays["share"],
        f"cosine with {facts['task'] or 'the task'}": arrays["cosine"],
    }
    return _text(pd.DataFrame(table))


def _part_table(result: Result) -> str:
    """Where the terms' gradients go, as shares of their squares; empty where there is one term alone."""
    import pandas as pd

    facts = result.facts
    if len(facts["terms"]) < 2:
        return ""
    squares = np.square(result.arrays["norms"]).mean(0)
    with np.errstate(invalid="ignore"):
        shares = 100 * squares / squares.sum(1, keepdims=True)
    table = pd.DataFrame(shares.T, columns=facts["terms"]).round(1)
    table.insert(0, "% of the squared gradient in", facts["parts"])
    return table.to_string(index=False, na_rep="-")


def _view_table(result: Result) -> str:
    import pandas as pd

    facts, rows = result.facts, {}
    for network, each in zip(facts["networks"], 100 * result.arrays["accuracy"], strict=True):
        rows[network] = ["-" if np.isnan(v) else f"{v:.1f} % [{low:.1f}, {high:.1f}]" for v, low, high in each]
    table = pd.DataFrame({"right about": facts["views"], "images": facts["n_images"], **rows})
    return table.to_string(index=False)


def _text(table: "pd.DataFrame") -> str:
    return table.to_string(index=False, na_rep="-", float_format=lambda value: f"{value:.4g}")


def _reasons(result: Result) -> list[str]:
    """Why accuracies are missing, each reason once."""
    return list(dict.fromkeys(f"{one['network']}: {one['reason']}" for one in result.facts["undefined"]))


def _parameters(facts: dict[str, Any]) -> Iterator[str]:
    total, frozen, unused, idle = (f"{facts['parameters'][key]:,}" for key in ("total", "frozen", "unused", "idle"))
    yield (
        f"of {total} parameters of the student {frozen} are frozen, {unused} are in no term, and {idle} have a "
        "gradient of zero"
    )
    if facts["step_change"] is not None:
        yield (
            f"a step at the highest learning rate, {facts['highest_rate']:.3g}, changes the weights by "
            f"{facts['step_change']:.2g} of their norm"
        )


def _found(findings: list[dict[str, Any]]) -> Iterator[str]:
    if not findings:
        yield "nothing stands out"
    for number, one in enumerate((Symptom(**one) for one in findings), start=1):
        yield f"{number}. {one.sentence}"
        yield f"   try: {one.advice}"
