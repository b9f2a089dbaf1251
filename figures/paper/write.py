"""The publication's tables and figures from the numbers kept in `published/`, each with its source.

The publication is the supplement of DropKD (WACV 2025). Footnotes report misprints and comparisons of unlike things; if
a number comes from elsewhere, its source says so.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist

from figures.paper.measured_runs import RunGroup, run_groups
from figures.paper.tables import ComparedTable, PrintedNumber, PublishedTable, latex, markdown
from figures.pictures.confusion import draw_confusion
from figures.pictures.dropout import draw_beside, draw_dropout
from figures.style import drawing_style, save_figure
from kdprobe.formats.outputs import Output, permit, tables_beside, write_sealed
from kdprobe.results import Result, check_result, figure_kind

TABLES = {
    "table1": "CIFAR-100, pairs of CNNs: top-1 accuracy in %",
    "table2": "RAF-DB, Transformer to Transformer: top-1 accuracy in %",
    "table3": "RAF-DB, CNN to Transformer: top-1 accuracy in %",
    "table4": "RAF-DB, methods for facial expressions: top-1 accuracy in % and cost at 224 x 224 "
    "(multiply-accumulates, with norms, activations and poolings)",
    "table5": "RAF-DB, compound expressions scored with a model of the seven basic ones, in %",
    "cifar100-wrn": "CIFAR-100, students of WRN-40-2 (not in the supplement): top-1 accuracy in %",
    "cifar100-resnet32x4": "CIFAR-100, students of ResNet32x4 (not in the supplement): top-1 accuracy in %",
    "cifar100-vgg13": "CIFAR-100, students of VGG13 (not in the supplement): top-1 accuracy in %",
    "cifar100-resnet50": "CIFAR-100, students of ResNet50 (not in the supplement): top-1 accuracy in %",
    "imagenet": "ImageNet, the pairs of the recipes (not in the supplement): top-1 accuracy in %",
    "imagenet-others": "ImageNet, other pairs (not in the supplement): top-1 accuracy in %",
}
GRIDS = {"figure2": "feature", "figure3": "logit"}
NOT_DRAWN = (
    "figure4 (confusion matrices and UAR) is published as a picture without numbers; it is drawn for your own "
    "networks, once kdprobe evaluate has evaluated them on RAF-DB"
)
_TABLE = "table of the publication"
_NAMED = 8  # runs that are named; of more, only the number is given


def published_table(name: str) -> PublishedTable:
    """Read one of `TABLES`.

    Example:
        >>> from figures.paper import published_table
        >>> table = published_table("table1")
        >>> table.rows[0], table.columns[:3], table.cells[0].value
        ('ResNet56 to ResNet20', ['Teacher', 'Student', 'KD'], '72.34')
    """
    rows = csv.DictReader(io.StringIO(_read(name)))
    return PublishedTable(name, TABLES[name], tuple(PrintedNumber(**row) for row in rows))


def published_grid(name: str) -> Result:
    """Read one of `GRIDS` as a sweep of one seed; cells that were left out are NaN.

    Example:
        >>> from figures.paper import published_grid
        >>> grid = published_grid("figure2")
        >>> grid.facts["rates_teacher"], round(float(grid.arrays["accuracy"][2, 2, 0]), 4)
        ([0.3, 0.4, 0.5, 0.6, 0.7], 0.8918)
    """
    head, *rows = csv.reader(io.StringIO(_read(name)))
    accuracy = np.array([[float(value) / 100 if value else np.nan for value in row[1:]] for row in rows])
    facts = {
        "kind": GRIDS[name],
        "rates_teacher": [float(row[0]) for row in rows],
        "rates_student": [float(rate) for rate in head[1:]],
        "student": "MobileNetV2",
        "data": "RAF-DB, published",
    }
    return Result("dropout-sweep", {"accuracy": accuracy[..., None]}, facts, {"source": "supplement of DropKD"})


def write_paper(
    out: str | Path,
    formats: Iterable[str],
    *,
    own: Sequence[Result] | None = None,
    style: str = "paper",
    width: str | float | None = None,
    overwrite: bool = False,
) -> tuple[list[Path], str]:
    """Write all tables (LaTeX, Markdown, CSV) and the figures whose numbers are published.

    Args:
        out: folder that they are written to.
        formats: of the figures: `pdf`, `png`, `svg`.
        own: results about your own runs, which are put next to the published numbers that they repeat: first one of
            kind "comparison", then others; those of kinds "compound", "complexity", "dropout-sweep" and "evaluation"
            are used.
        style: `paper` or `slides`, as for `drawing_style`.
        width: of the figures, as for `drawing_style`.
        overwrite: whether other files than such tables and figures of kdprobe's may be lost.

    Returns:
        the files written, and which runs repeat no published number, in words.

    Raises:
        ResultError: if a result about your own runs does not fit its kind.
        ConfigError: for a style or a width that there is not.
        OutputError: if another file is in the way.

    Example:
        >>> import figures
        >>> written, told = figures.write_paper("paper", [])  # the tables; ["pdf"] for the figures too
        >>> [path.name for path in written[:3]]
        ['table1.tex', 'table1.md', 'table1.csv']
    """
    for result in own or ():
        check_result(result)
    out = Path(out)
    permit_tables(out, overwrite=overwrite)
    with drawing_style(style, width=width):
        figures = [
            (out / f"{name}.{ending}", figure, kind)
            for name, figure, kind in _figures(own or [])
            for ending in dict.fromkeys(formats)
        ]
    permit([Output(path, kind) for path, _, kind in figures], overwrite=overwrite)
    runs = run_groups(own[0], own[1:]) if own else []
    tables = [_compared(table, runs) if own else table for table in map(published_table, TABLES)]
    written = []
    for table in tables:
        kept = table.csv() if isinstance(table, ComparedTable) else _read(table.name)
        tex, md, csv = (out / f"{table.name}.{ending}" for ending in ("tex", "md", "csv"))
        write_sealed(tex, latex(table), _TABLE, tables={".csv": kept}, overwrite=overwrite)
        write_sealed(md, markdown(table), _TABLE, overwrite=overwrite)
        written += [tex, md, csv]
    for path, figure, kind in figures:
        save_figure(figure, path, kind=kind, overwrite=overwrite)
        written.append(path)
    return written, _unused(tables, runs)


def permit_tables(out: Path, *, overwrite: bool = False) -> None:
    """Find out whether the tables may be written, before anything is.

    Raises:
        OutputError: naming a file in the way.
    """
    for name in TABLES:
        tex, md = out / f"{name}.tex", out / f"{name}.md"
        outputs = [Output(tex, _TABLE), *tables_beside(tex, _TABLE, [".csv"]), Output(md, _TABLE)]
        permit(outputs, overwrite=overwrite)


def _compared(table: PublishedTable, runs: Sequence[RunGroup]) -> ComparedTable:
    caption = f"{table.caption}; measured: mean of own runs after the last epoch, Student's interval over seeds"
    return ComparedTable(table.name, caption, table.cells, runs)


def _figures(own: Sequence[Result]) -> Iterator[tuple[str, Artist, str]]:
    """Each published grid, alone or beside every sweep over the same kind of rates; your own confusion matrices."""
    rates, errors = figure_kind("dropout-sweep"), figure_kind("evaluation")
    for name, kind in GRIDS.items():
        published = published_grid(name)
        sweeps = [result for result in own if result.kind == "dropout-sweep" and result.facts["kind"] == kind]
        for number, sweep in enumerate(sweeps, start=1):
            titles = f"published: {published.facts['student']} on RAF-DB", _described(sweep)
            yield f"{name}-{number}" if len(sweeps) > 1 else name, draw_beside(published, sweep, titles), rates
        if not sweeps:
            yield name, draw_dropout(published), rates
    judged = [result for result in own if result.kind == "evaluation" and _on_rafdb(result)]
    for number, result in enumerate(judged, start=1):
        yield f"figure4-{number}" if len(judged) > 1 else "figure4", draw_confusion(result), errors


def _on_rafdb(result: Result) -> bool:
    facts = result.facts
    return str(facts["data"]).partition(":")[0] == "rafdb" and facts["evaluated_on"] == "test"


def _described(sweep: Result) -> str:
    """What a sweep of your own was made with."""
    facts, n_seeds = sweep.facts, sweep.arrays["accuracy"].shape[-1]
    return f"measured: {facts['student']} on {facts['data']}, {n_seeds} seed{'s' if n_seeds != 1 else ''}"


def _unused(tables: Sequence[PublishedTable], runs: Sequence[RunGroup]) -> str:
    used = {
        path for table in tables if isinstance(table, ComparedTable) for group in table.used for path in group.paths
    }
    others = [path for group in runs for path in group.paths if path not in used]
    n_runs = sum(len(group.paths) for group in runs)
    named = ", ".join(others[:_NAMED]) + (f" and {len(others) - _NAMED} more" if len(others) > _NAMED else "")
    own = "kdprobe runs compare and kdprobe table make a table of your own"
    return f"{len(others)} of {n_runs} runs repeat no published number ({own}): {named}" if others else ""


def _read(name: str) -> str:
    return files("figures.paper").joinpath("published", f"{name}.csv").read_text(encoding="utf-8")
