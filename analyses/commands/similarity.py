"""`kdprobe similarity`; torch and the rest are imported when it runs."""

from pathlib import Path

import click

from kdprobe.cli.options import flags, overwrite_option
from kdprobe.terminal import echo


@click.command()
@click.option(
    "--features",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.h5",
    help="A dump of both networks; two for teacher and student dumped separately.",
)
@click.option("--measure", type=click.Choice(["svcca", "pwcca", "procrustes", "rsa", "rsa-spearman"]), required=True)
@click.option("--teacher-layers", multiple=True, default=("all",), show_default=True, metavar="GLOB")
@click.option("--student-layers", multiple=True, default=("all",), show_default=True, metavar="GLOB")
@click.option(
    "--reduce", type=click.Choice(["gap", "flatten", "cls", "mean", "tokens"]), default="gap", show_default=True
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default="similarity", show_default=True)
@overwrite_option
@click.option("--quiet", is_flag=True, help="No list of files.")
def similarity(
    features: tuple[Path, ...],
    measure: str,
    teacher_layers: tuple[str, ...],
    student_layers: tuple[str, ...],
    reduce: str,
    out: Path,
    *,
    overwrite: bool,
    quiet: bool,
) -> None:
    """Similarity of every stored teacher layer to every student layer, by other measures than CKA.

    \b
    Example:
      kdprobe dump --teacher runs/vit --student runs/resnet8 --out features.h5
      kdprobe similarity --features features.h5 --measure svcca
    """
    from analyses.similarity.result import files_similarity, similarity_summary, similarity_table
    from kdprobe.cli.group import run
    from kdprobe.results import permit_result, save_result

    path = out / f"{measure}.npz"
    permit_result(path, "similarity", pictures=out, overwrite=overwrite)
    result = files_similarity(
        features, measure, teacher_layers=teacher_layers, student_layers=student_layers, reduce=reduce
    )
    save_result(result, path, table=similarity_table(result).to_csv(index=False), overwrite=overwrite)
    echo(similarity_summary(result))
    run("figures", path, "--out", out, *flags(overwrite=overwrite, quiet=quiet))
