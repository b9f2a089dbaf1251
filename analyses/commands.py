"""The commands of the analyses; torch and the rest are imported when a command runs."""

from math import inf
from pathlib import Path
from typing import Any

import click

from kdprobe.errors import ConfigError
from kdprobe.options import facts_of_both_options, facts_options, flags, overwrite_option, trust_option, view_options
from kdprobe.terminal import echo


@click.command()
@click.option("--checkpoint", "checkpoints", multiple=True, required=True, metavar="CKPT", help="Repeat to compare.")
@click.option("--data", metavar="SPEC", help="The data set that the first checkpoint names, if not given.")
@click.option("--against", metavar="CKPT", help="Test each for a difference from this one, paired by image.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="evaluation", show_default=True)
@view_options
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N, mps.")
@overwrite_option
@click.option("--quiet", is_flag=True, help="No progress and no list of files.")
@facts_options
@trust_option
def evaluate(
    checkpoints: tuple[str, ...],
    data: str | None,
    against: str | None,
    out: Path,
    device: str,
    view: dict[str, Any],
    told: dict[str, Any],
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Accuracy, UAR, calibration (ECE) and confusion matrix on the test images, with 95 % intervals.

    \b
    Example:
      kdprobe evaluate --checkpoint runs/resnet8-kd --against runs/resnet8 --out evaluation
    """
    from analyses.calibration import reliability_result, reliability_table
    from analyses.evaluation import evaluate as run_evaluation
    from analyses.evaluation import summary, tidy
    from analyses.predictions import judge
    from kdprobe.cli import run
    from kdprobe.data import View
    from kdprobe.devices import pick_device
    from kdprobe.results import permit_result, save_result

    paths = [out / "evaluation.npz", out / "reliability.npz"]
    for path in paths:
        permit_result(path, path.stem, pictures=out, overwrite=overwrite)
    shown = [*checkpoints, *([against] if against is not None and against not in checkpoints else [])]
    judged = judge(shown, data, device=pick_device(device), quiet=quiet, view=View(**view), told=told)
    result = run_evaluation(judged, against=None if against is None else shown.index(against))
    bins = reliability_result(result)
    save_result(result, paths[0], table=tidy(result).to_csv(index=False), overwrite=overwrite)
    save_result(bins, paths[1], table=reliability_table(bins).to_csv(index=False), overwrite=overwrite)
    echo(summary(result))
    run("figures", *paths, "--out", out, *flags(overwrite=overwrite, quiet=quiet))


@click.command()
@click.option("--teacher", metavar="CKPT", help="Gives the rows.")
@click.option("--student", metavar="CKPT", help="Gives the columns.")
@click.option("--data", metavar="SPEC", help="The data set that the student's checkpoint names, if not given.")
@click.option(
    "--features",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE.h5",
    help="A dump instead of networks; two for teacher and student dumped separately.",
)
@click.option(
    "--run",
    type=click.Path(path_type=Path),
    help="Compare each snapshot of this run with its teacher (or --teacher): CKA over epochs.",
)
@click.option("--every", type=click.IntRange(min=1), metavar="K", help="With --run: only every K epochs.")
@click.option("--teacher-layers", multiple=True, default=("stages",), show_default=True, metavar="GLOB")
@click.option("--student-layers", multiple=True, default=("stages",), show_default=True, metavar="GLOB")
@click.option(
    "--reduce", type=click.Choice(["flatten", "gap", "cls", "mean", "tokens"]), default="flatten", show_default=True
)
@click.option("--kernel", type=click.Choice(["linear", "rbf"]), default="linear", show_default=True)
@click.option("--estimator", type=click.Choice(["unbiased", "biased"]), default="unbiased", show_default=True)
@click.option("--batch-size", type=click.IntRange(min=4), help="Samples compared at a time.  [default: 64]")
@click.option("--until", type=float, metavar="WIDTH", help="Stop as soon as every interval is at most so wide.")
@click.option(
    "--passes", type=click.IntRange(min=1), default=1, show_default=True, help="Further ones reshuffle: less noise."
)
@click.option("--permutations", type=click.IntRange(min=0), default=0, show_default=True, help="For p values.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder.  [default: cka, or the run]")
@view_options
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N, mps.")
@overwrite_option
@click.option("--quiet", is_flag=True, help="No progress and no list of files.")
@facts_of_both_options
@trust_option
def cka(
    teacher: str | None,
    student: str | None,
    data: str | None,
    features: tuple[Path, ...],
    run: Path | None,
    every: int | None,
    teacher_layers: tuple[str, ...],
    student_layers: tuple[str, ...],
    reduce: str,
    kernel: str,
    estimator: str,
    batch_size: int | None,
    until: float | None,
    passes: int,
    permutations: int,
    out: Path | None,
    device: str,
    view: dict[str, Any],
    told: dict[str, Any],
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Similarity (CKA) of every teacher layer to every student layer, with 95 % intervals.

    \b
    Example:
      kdprobe cka --teacher runs/vit --student runs/resnet8 --out cka
      kdprobe cka --run runs/resnet8 --every 5
    """
    from analyses.cka_over_time import cka_over_time, save_over_time, summary
    from analyses.stored_cka import files_cka
    from analyses.views_cka import views_cka
    from kdprobe import cli
    from kdprobe.data import View
    from kdprobe.results import permit_result
    from kdprobe.training.distributed import ranks
    from kdprobe.views import open_views

    if until is not None and not 0 < until < inf:
        raise ConfigError(f"--until needs the width of an interval, above 0, but is {until}")
    further: dict[str, Any] = {"until": until, "permutations": permutations}
    if run and (student or features or reduce != "flatten" or passes > 1 or any(further.values())):
        raise ConfigError("--run takes no --student, --features, --reduce, --passes, --until or --permutations")
    if every and not run:
        raise ConfigError("--every chooses snapshots of a run; give the run with --run")
    out = out or run or Path("cka")
    path = out / ("cka-over-time.npz" if run else "cka.npz")
    permit_result(path, path.stem, pictures=out, overwrite=overwrite)

    chosen: dict[str, Any] = {
        "teacher_layers": teacher_layers,
        "student_layers": student_layers,
        "batch_size": batch_size,
        "kernel": kernel,
        "estimator": estimator,
    }
    with ranks(device) as processes:
        part, where = processes.shard, processes.device
        if run:
            over_time = cka_over_time(
                run,
                teacher=teacher,
                data=data,
                every=every,
                part=part,
                device=where,
                quiet=quiet,
                view=View(**view),
                told=told,
                **chosen,
            )
        elif features and not (
            teacher or student or data or any(view.values()) or told or reduce != "flatten" or passes > 1
        ):
            result = files_cka(features, part=part, **chosen, **further)
        elif teacher and student and not features:
            views = open_views({"teacher": teacher, "student": student}, data=data, view=View(**view), told=told)
            shown: dict[str, Any] = {"reduce": reduce, "passes": passes, "device": where, "quiet": quiet}
            result = views_cka(views, part=part, **shown, **chosen, **further)
        else:
            raise ConfigError("give --teacher and --student with --data, --reduce, --passes, or --features alone")
    if not processes.main:
        return
    if run:
        save_over_time(over_time, path, overwrite=overwrite)
    else:
        result.save(path, overwrite=overwrite)
    echo(summary(over_time) if run else result.summary())
    cli.run("figures", path, "--out", out, *flags(overwrite=overwrite, quiet=quiet))


@click.command()
@click.option("--checkpoint", "checkpoints", multiple=True, required=True, metavar="CKPT", help="Repeat to compare.")
@click.option("--data", required=True, metavar="SPEC", help="rafdb-compound:DIR")
@click.option("--exclude-neutral", is_flag=True, help="Neutral does not count among the best classes.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="compound", show_default=True)
@view_options
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N, mps.")
@overwrite_option
@click.option("--quiet", is_flag=True, help="No progress and no list of files.")
@facts_options
@trust_option
def compound(
    checkpoints: tuple[str, ...],
    data: str,
    out: Path,
    device: str,
    view: dict[str, Any],
    told: dict[str, Any],
    *,
    exclude_neutral: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """How well networks of the seven basic emotions see both halves of compound ones.

    \b
    Example:
      kdprobe compound --checkpoint runs/mobilenet --data rafdb-compound:/data/RAF-DB
    """
    import pandas as pd

    from analyses.compound import READINGS, compound_result, compound_table
    from analyses.evaluation import percent
    from analyses.predictions import judge
    from kdprobe.cli import run
    from kdprobe.data import View
    from kdprobe.devices import pick_device
    from kdprobe.results import permit_result, save_result

    permit_result(out / "compound.npz", "compound", pictures=out, overwrite=overwrite)
    judged = judge(
        checkpoints, data, device=pick_device(device), quiet=quiet, same_classes=False, view=View(**view), told=told
    )
    result = compound_result(judged, exclude_neutral=exclude_neutral)
    table = compound_table(result).to_csv(index=False)
    save_result(result, out / "compound.npz", table=table, overwrite=overwrite)
    columns = {reading: [percent(interval) for interval in result.arrays[reading]] for reading in READINGS}
    echo(pd.DataFrame({"model": result.facts["names"]} | columns).to_string(index=False))
    run("figures", out / "compound.npz", "--out", out, *flags(overwrite=overwrite, quiet=quiet))


@click.command()
@click.argument("sweep", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="The sweep's folder, if not given.")
@overwrite_option
@click.option("--quiet", is_flag=True, help="No list of files.")
def dropout(sweep: Path, out: Path | None, *, overwrite: bool, quiet: bool) -> None:
    """What the rates of a dropout sweep do, as far as it has come: a table, a picture and two answers.

    Does the equal rate win in each row and column? Can the best cell be told from its neighbours?

    \b
    Example:
      kdprobe dropout sweeps/dropout
    """
    from analyses.dropout import answers_table, dropout_results, dropout_table, summary
    from kdprobe.cli import run
    from kdprobe.results import permit_result, save_result

    folder = out or sweep
    results = {folder / f"dropout-{result.facts['kind']}.npz": result for result in dropout_results(sweep)}
    for path, result in results.items():
        permit_result(path, result.kind, tables=(".csv", "-answers.csv"), pictures=folder, overwrite=overwrite)
    for path, result in results.items():
        answers = {"-answers.csv": answers_table(result).to_csv(index=False)}
        table = dropout_table(result).to_csv(index=False)
        save_result(result, path, table=table, tables=answers, overwrite=overwrite)
        echo(summary(result))
    run("figures", *results, "--out", folder, *flags(overwrite=overwrite, quiet=quiet))


@click.command()
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
@click.option("--stages", is_flag=True, help="Also show the parts of each network.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="complexity", show_default=True)
@overwrite_option
@click.option("--quiet", is_flag=True, help="Do not explain the columns.")
@facts_options
@trust_option
def complexity(
    models: tuple[str, ...],
    out: Path,
    told: dict[str, Any],
    *,
    stages: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Parameters, MACs and FLOPs of networks, each by a convention that is named.

    MODEL is a run folder, a checkpoint, timm:NAME, or a network's name.

    \b
    Example:
      kdprobe complexity resnet18 mobilenetv2_100 runs/resnet8 --classes 7
    """
    from analyses.complexity import CONVENTIONS, complexity_result, complexity_table, models_of, summary
    from analyses.complexity import complexity as count
    from kdprobe.results import permit_result, save_result

    permit_result(out / "complexity.npz", "complexity", overwrite=overwrite)
    counted = [count(model) for model in models_of(models, told)]
    result = complexity_result(models, counted)
    table = complexity_table(result).to_csv(index=False)
    save_result(result, out / "complexity.npz", table=table, overwrite=overwrite)
    echo(summary(result))
    if stages:
        echo("\n" + complexity_table(result, parts=True).to_string(index=False))
    if not quiet:
        for key, meaning in CONVENTIONS.items():
            echo(f"{key}: {meaning}", err=True)


@click.command()
@click.option("--teacher", metavar="CKPT", help="Shown above.")
@click.option("--student", "students", multiple=True, metavar="CKPT", help="Repeat to compare at equal layers.")
@click.option("--data", metavar="SPEC", help="The data set that the student's checkpoint names, if not given.")
@click.option(
    "--features",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE.h5",
    help="A dump instead of networks; two for teacher and student dumped separately.",
)
@click.option("--method", type=click.Choice(["ridge", "subspace", "dropkd"]), default="ridge", show_default=True)
@click.option("--layers", multiple=True, metavar="T=S", help="Pairs of layers.  [default: matched by relative depth]")
@click.option("--teacher-layers", multiple=True, default=("stages",), show_default=True, metavar="GLOB")
@click.option("--student-layers", multiple=True, default=("stages",), show_default=True, metavar="GLOB")
@click.option("--reduce", type=click.Choice(["gap", "flatten", "cls", "tokens"]), default="gap", show_default=True)
@click.option("--folds", type=click.IntRange(min=2), default=5, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the folds.")
@click.option("--images", type=click.IntRange(min=1), help="Show so many images per network: the most specific ones.")
@click.option("--probes/--no-probes", default=True, show_default=True, help="Linear classifiers on each part.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="knowledge", show_default=True)
@view_options
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:N, mps.")
@overwrite_option
@click.option("--quiet", is_flag=True, help="No progress and no list of files.")
@facts_of_both_options
@trust_option
def decompose(
    teacher: str | None,
    students: tuple[str, ...],
    data: str | None,
    features: tuple[Path, ...],
    method: str,
    layers: tuple[str, ...],
    teacher_layers: tuple[str, ...],
    student_layers: tuple[str, ...],
    reduce: str,
    folds: int,
    seed: int,
    images: int | None,
    out: Path,
    device: str,
    view: dict[str, Any],
    told: dict[str, Any],
    *,
    probes: bool,
    overwrite: bool,
    quiet: bool,
) -> None:
    """General knowledge, which both networks have, and specific knowledge, which one alone has.

    \b
    ridge     general is what the other network's feature predicts out of fold
    subspace  general lies along the canonical directions that both share
    dropkd    general is what a DropKD run's encoder, dropout and decoder keep of its stages' maps

    \b
    Example:
      kdprobe decompose --teacher runs/vit --student runs/kd --student runs/dropkd --images 8 --out knowledge
    """
    from analyses.examples import examples_table
    from analyses.knowledge_result import compare, comparison_table, summary, tidy
    from analyses.knowledge_run import decompose_layers, inputs_of
    from analyses.predictions import short_names
    from kdprobe.cli import run
    from kdprobe.data import View
    from kdprobe.devices import pick_device
    from kdprobe.results import Result, permit_result, save_result

    if bool(features) == bool(teacher and students) or (
        features and (teacher or students or data or any(view.values()) or told)
    ):
        raise ConfigError("give --teacher and --student with --data if wanted, or --features alone")
    chosen: dict[str, Any] = {"teacher_layers": teacher_layers, "student_layers": student_layers, "reduce": reduce}
    names, where = short_names(students), pick_device(device)
    folders = [out / name if len(students) > 1 else out for name in names or [""]]
    of_each = {folder: {"students": (student,)} for student, folder in zip(students or (None,), folders, strict=True)}
    for folder, of in of_each.items():
        for kind in ("knowledge", *(["examples"] if images else [])):
            permit_result(folder / f"{kind}.npz", kind, pictures=folder, of=of, overwrite=overwrite)
    if len(students) > 1:
        permit_result(out / "knowledge-comparison.npz", "knowledge-comparison", pictures=out, overwrite=overwrite)
    decomposed, results = list[Result](), dict[Path, Result]()
    for student, folder in zip(students or (None,), folders, strict=True):
        taken, pairs = inputs_of(
            *(teacher, student, data, features),
            method=method,
            layers=layers,
            device=where,
            quiet=quiet,
            view=View(**view),
            told=told,
            **chosen,
        )
        result, examples = decompose_layers(
            *(taken, pairs),
            method=method,
            auxiliary=Path(student) if method == "dropkd" and student else None,
            folds=folds,
            seed=seed,
            probes=probes,
            n_images=images or 0,
        )
        decomposed.append(result)
        results[folder / "knowledge.npz"] = result
        if examples is not None:
            results[folder / "examples.npz"] = examples
    if len(decomposed) > 1:
        results[out / "knowledge-comparison.npz"] = compare(names, decomposed)
    tables = {"knowledge": tidy, "examples": examples_table, "knowledge-comparison": comparison_table}
    for path, result in results.items():
        of_it = None if result.kind == "knowledge-comparison" else of_each[path.parent]
        table = tables[result.kind](result).to_csv(index=False)
        save_result(result, path, table=table, of=of_it, overwrite=overwrite)
    for result in decomposed:
        echo(summary(result))
    run("figures", *results, *flags(overwrite=overwrite, quiet=quiet))
