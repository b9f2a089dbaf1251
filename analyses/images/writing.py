"""Tables in files that other tools open as they are."""

import io
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from kdprobe.errors import OutputError
from kdprobe.files import replacing
from kdprobe.formats.outputs import Output, permit, write_sealed
from kdprobe.formats.tables import safe_csv
from kdprobe.runs.method_table import MethodTable


def write_image_table(table: pd.DataFrame, out: Path, *, overwrite: bool = False) -> None:
    """Write a table as its file's name says.

    Args:
        table: what is written.
        out: a file whose name ends in .parquet or .csv.
        overwrite: whether a file that is there may be lost: tables do not say who wrote them.

    Raises:
        OutputError: for another name, for Parquet without pyarrow, or if another file is in the way.
        FileError: if the system does not let it be written.
    """
    ending = out.suffix.lower()
    if ending not in (".parquet", ".csv"):
        raise OutputError(f"a table's name must end in .parquet or .csv, but {out} does not")
    if ending == ".parquet" and find_spec("pyarrow") is None:
        raise OutputError(
            f"{out} needs the package pyarrow; install it with pip install 'kdprobe[parquet]', or give a name that "
            "ends in .csv"
        )
    permit([Output(out, "table of images", lambda: None)], overwrite=overwrite)
    with replacing(out) as temporary:
        temporary.write_bytes(safe_csv(table.to_csv(index=False)).encode() if ending == ".csv" else _parquet(table))


def write_method_table(table: MethodTable, out: Path, *, overwrite: bool = False) -> None:
    """Write a table of methods as its file's name says.

    Args:
        table: what is written.
        out: a file whose name ends in .tex, .md or .csv.
        overwrite: whether another file than such a table of kdprobe's may be lost.

    Raises:
        OutputError: for another name, or if another file is in the way.
        FileError: if the system does not let it be written.
    """
    write = {".tex": table.latex, ".md": table.markdown, ".csv": table.csv}.get(out.suffix.lower())
    if write is None:
        raise OutputError(f"a table of methods must end in .tex, .md or .csv, but {out} does not")
    if out.suffix.lower() != ".csv":
        write_sealed(out, write(), "table of methods", overwrite=overwrite)
        return
    permit([Output(out, "table of methods", lambda: None)], overwrite=overwrite)
    with replacing(out) as temporary:
        temporary.write_text(write(), encoding="utf-8")


def _parquet(table: pd.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()
