"""What commands do with their results: they are refused before anything is computed, then saved, then drawn."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from kdprobe.cli.group import run
from kdprobe.cli.options import flags
from kdprobe.provenance import command_line
from kdprobe.results import Result, made_by, permit_result, save_result
from kdprobe.terminal import echo

if TYPE_CHECKING:
    import pandas as pd

    Table = pd.DataFrame | str  # or its CSV text


class Saving:
    """The results of one command.

    Args:
        kinds: kind of each result, by the path that it is to be saved at.
        tables: ends of the names of the tables beside each.
        of: what `save_result` takes by that name, for those results that are not of everything the command names.
        drawn: whether a picture of each is drawn beside it.
        overwrite: replace files that are no such result of kdprobe's.
        quiet: do not list the pictures, nor say what is replaced.

    Raises:
        OutputError: naming a file in the way.
        FileError: if the system does not let it be written.
    """

    def __init__(
        self,
        kinds: Mapping[Path, str],
        *,
        tables: Iterable[str] = (".csv",),
        of: Mapping[Path, Mapping[str, Any]] = MappingProxyType({}),
        drawn: bool = True,
        overwrite: bool,
        quiet: bool,
    ) -> None:
        for path, kind in kinds.items():
            pictures = path.parent if drawn else None
            permit_result(path, kind, tables=tables, pictures=pictures, of=of.get(path), overwrite=overwrite)
        self._of, self.overwrite, self.quiet = of, overwrite, quiet
        self._saved: list[Path] = []

    def save(self, path: Path, result: Result, table: "Table", **further: "Table") -> None:
        """Save a result and its tidy table; further tables go to `STEM-KEYWORD.csv`."""
        tables = {f"-{name}.csv": _csv(one) for name, one in further.items()}
        csv, of, before = _csv(table), self._of.get(path), made_by(path)
        save_result(result, path, table=csv, tables=tables, of=of, overwrite=self.overwrite)
        if before not in ("", command_line()) and not self.quiet:
            echo(f"{path} replaces what `{before}` made", err=True)
        self._saved.append(path)

    def draw(self) -> None:
        """Draw what was saved, by the command that is installed for it."""
        run("figures", *self._saved, *flags(overwrite=self.overwrite, quiet=self.quiet))


def _csv(table: "Table") -> str:
    return table if isinstance(table, str) else table.to_csv(index=False)
