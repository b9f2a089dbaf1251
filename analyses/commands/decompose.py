"""`kdprobe decompose`; torch and the rest are imported when it runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from analyses.commands.options import check_source
from kdprobe.cli.options import (
    PATH,
    Whole,
    data_option,
    features_option,
    layers_option,
    layers_options,
    method_option,
    reduce_option,
    saving_options,
    seed_option,
    showing_both_options,
    student_option,
    teacher_option,
)
from kdprobe.terminal import echo

if TYPE_CHECKING:
    from kdprobe.data import View
    from kdprobe.results import Result


@click.command()
@teacher_option()
@student_option("Student, given like the teacher; repeatable, to compare several at equal layers.", multiple=True)
@data_option(show_default="that of the student's checkpoint")
@features_option()
@method_option(
    "What counts as general.",
    type=click.Choice(["adjusted", "ridge", "dropkd"]),
    default="adjusted",
    show_default=True,
)
@layers_option(
    "Pair of a teacher layer and a student layer; repeatable.", "T=S", show_default="matched by relative depth"
)
@layers_options("stages")
@reduce_option("gap", "flatten", "cls", "tokens", "spatial:N", show_default="gap, or what a dump was reduced to")
@click.option("--folds", type=Whole(min=2), default=5, show_default=True, help="Number of folds, held out in turn.")
@seed_option("Seed of the folds.", default=0, show_default=True)
@click.option("--images", "n_images", type=Whole(min=1), help="Number of most specific images to show of each network.")
@click.option(
    "--probes/--no-probes", default=True, show_default=True, help="Whether to fit linear classifiers on each part."
)
@click.option(
    "--grouped-by",
    type=PATH,
    metavar="FILE",
    help="Text file with a line for each image, in the order of the data set, equal for images that are not "
    "independent, such as those of one patient; a group counts as one sample.",
)
@saving_options("knowledge")
@showing_both_options
def decompose(
    teacher: str | None,
    students: tuple[str, ...],
    data: str | None,
    features: tuple[Path, ...],
    n_images: int | None,
    out: Path,
    device: str,
    view: "View",
    told: dict[str, Any],
    *,
    overwrite: bool,
    quiet: bool,
    **chosen: Any,
) -> None:
    """Decompose features into general and specific knowledge.

    General is what both networks have, specific what one alone has:

    \b
    adjusted  what a linear map of the other network's features explains in the population
    ridge     what can be predicted of it after learning from these samples
    dropkd    what a DropKD run's encoder, dropout and decoder keep of its stages' maps

    \b
    Example:
      kdprobe decompose --teacher runs/vit --student runs/kd --student runs/dropkd --images 8 --out knowledge
    """
    from analyses.evaluation.names import checkpoint_names, network_names
    from analyses.knowledge.examples import examples_table
    from analyses.knowledge.layers import decompose_networks
    from analyses.knowledge.result import compare, comparison_table, knowledge_summary, knowledge_table
    from kdprobe.cli.saving import Saving
    from kdprobe.data import AS_IT_IS

    networks = {"teacher": teacher, "student": students}
    check_source(features, networks, data=data, crop_pct=view != AS_IT_IS, classes=told)
    names = checkpoint_names(students)
    folders = [out / name for name in names] if len(names) > 1 else [out]
    wanted = ("knowledge", "examples") if n_images else ("knowledge",)
    kinds = {folder / f"{kind}.npz": kind for folder in folders for kind in wanted}
    comparison = out / "knowledge-comparison.npz"
    of_student = dict(zip(folders, students or (None,), strict=True))
    of = {path: {"students": (of_student[path.parent],)} for path in kinds}
    if len(names) > 1:
        kinds[comparison] = "knowledge-comparison"
    saving = Saving(kinds, of=of, overwrite=overwrite, quiet=quiet)
    source: dict[str, Any] = {"data": data, "files": features, "view": view, "told": told}
    found: list[list[Result]] = []
    for student in students or (None,):
        like = found[0][0] if found else None
        chosen |= {"n_images": n_images or 0, "pairs_of": like, "device": device, "quiet": quiet}
        found.append(decompose_networks(teacher, student, **source, **chosen))
    results = {folder / f"{each.kind}.npz": each for folder, own in zip(folders, found, strict=True) for each in own}
    decomposed = [own[0] for own in found]
    if len(names) > 1:
        results[comparison] = compare(network_names(students), decomposed)
    tables = {"knowledge": knowledge_table, "examples": examples_table, "knowledge-comparison": comparison_table}
    for path, result in results.items():
        saving.save(path, result, tables[result.kind](result))
    for result in decomposed:
        echo(knowledge_summary(result))
    saving.draw()
