"""`kdprobe decompose`; torch and the rest are imported when it runs."""

from pathlib import Path
from typing import Any

import click

from kdprobe.cli.options import facts_of_both_options, flags, overwrite_option, trust_option, view_options
from kdprobe.errors import ConfigError
from kdprobe.terminal import echo


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
    from analyses.evaluation.predictions import checkpoint_names
    from analyses.knowledge.examples import examples_table
    from analyses.knowledge.layers import decompose_layers, inputs_of
    from analyses.knowledge.result import compare, comparison_table, summary, tidy
    from kdprobe.cli.group import run
    from kdprobe.data import View
    from kdprobe.devices import pick_device
    from kdprobe.results import Result, permit_result, save_result

    if bool(features) == bool(teacher and students) or (
        features and (teacher or students or data or any(view.values()) or told)
    ):
        raise ConfigError("give --teacher and --student with --data if wanted, or --features alone")
    chosen: dict[str, Any] = {"teacher_layers": teacher_layers, "student_layers": student_layers, "reduce": reduce}
    names, where = checkpoint_names(students), pick_device(device)
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
