"""`kdprobe similarity`; torch and the rest are imported when it runs."""

from pathlib import Path
from typing import Any

import click

from kdprobe.cli.options import features_option, layers_options, measure_option, reduce_option, saving_options
from kdprobe.terminal import echo


@click.command()
@features_option(required=True)
@measure_option("svcca", "pwcca", "procrustes", "rsa", "rsa-spearman", required=True)
@layers_options("all")
@reduce_option(
    "gap", "flatten", "cls", "mean", "tokens", "spatial:N", show_default="gap, or what a dump was reduced to"
)
@saving_options("similarity")
def similarity(
    features: tuple[Path, ...], measure: str, out: Path, *, overwrite: bool, quiet: bool, **chosen: Any
) -> None:
    """Measure how alike stored layers are, by other measures.

    Every teacher layer of a dump is compared with every student layer, by a measure other than CKA.

    \b
    Example:
      kdprobe dump --teacher runs/vit --student runs/resnet8 --out features.h5
      kdprobe similarity --features features.h5 --measure svcca
    """
    from analyses.similarity.result import files_similarity, similarity_summary, similarity_table
    from kdprobe.cli.saving import Saving

    path = out / f"{measure}.npz"
    saving = Saving({path: "similarity"}, overwrite=overwrite, quiet=quiet)
    result = files_similarity(features, measure, **chosen)
    saving.save(path, result, similarity_table(result))
    echo(similarity_summary(result))
    saving.draw()
