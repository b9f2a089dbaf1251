"""The saved-result format: analyses write it, figures and the report read it, nothing else passes.

A result is one `.npz` file without pickles. Its entry `meta` is JSON text:

    format      "kdprobe-result"
    version     1
    kind        what was measured: "cka", "evaluation", "training", ...
    facts       labels, names, units, reasons: everything that is not an array
    provenance  where the numbers come from: checkpoints and their hashes, data, seed, versions, command
    beside      sha256 of the CSV files beside it, by the ends of their names
    of          the networks and data that the command named: what else is a result of these may replace it

Every other entry is a numeric array of that kind; `kdprobe.kinds` says which arrays and facts there are. Beside
`NAME.npz` stands `NAME.csv`, the same numbers as a tidy table for people and spreadsheets.
"""

import json
import os
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kdprobe.errors import ResultError
from kdprobe.files import replacing, require_writable
from kdprobe.formats.jsons import parse_json
from kdprobe.formats.labelled import as_dataset, frames, page_of
from kdprobe.formats.outputs import PICTURES, Output, beside, permit, tables_beside
from kdprobe.formats.parsing import parsing
from kdprobe.formats.schema import shown
from kdprobe.kinds import find_kind, kind_meant
from kdprobe.provenance import command_line, named

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.axes import Axes
    from matplotlib.figure import FigureBase

FORMAT = "kdprobe-result"
VERSION = 1


@dataclass(frozen=True)
class Result:
    """One analysis' numbers with their names and their origin.

    Attributes:
        kind: what was measured.
        arrays: the numbers, by name.
        facts: labels, units and reasons (JSON values).
        provenance: checkpoints, data, seed, versions, command (JSON values).

    Example:
        >>> import numpy as np
        >>> from kdprobe.provenance import provenance
        >>> from kdprobe.results import Result, save_result
        >>> arrays = {"epoch": np.arange(2), "train_loss": np.array([[2.0, 1.0]]), "accuracy": np.array([[0.5, 0.8]])}
        >>> result = Result("training", arrays, {"names": ["resnet8"]}, provenance(runs=["runs/resnet8"]))
        >>> result.kind, result.facts["names"], result.arrays["accuracy"].tolist()
        ('training', ['resnet8'], [[0.5, 0.8]])
        >>> result
        Result('training': epoch [2], train_loss [1, 2], accuracy [1, 2])
    """

    kind: str
    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Its kind and the shapes of its arrays."""
        shapes = (f"{name} {list(np.shape(array))}" for name, array in self.arrays.items())
        return f"Result({self.kind!r}: {', '.join(shapes) or 'no arrays'})"

    def to_frames(self) -> "dict[str, pd.DataFrame]":
        """Tidy tables for pandas, one for the arrays of each shape, by the names of their dimensions.

        Example:
            >>> import numpy as np
            >>> from kdprobe.results import Result
            >>> arrays = {"epoch": np.arange(2), "accuracy": np.array([[0.5, 0.8]])}
            >>> tables = Result("training", arrays, {"names": ["resnet8"]}).to_frames()
            >>> tables["names epochs"].values.tolist()
            [['resnet8', 0, 0.5], ['resnet8', 1, 0.8]]
        """
        return frames(find_kind(self.kind), self.arrays, self.facts)

    def to_xarray(self) -> "xr.Dataset":
        """All arrays with the names along their dimensions.

        Raises:
            ResultError: if xarray is not installed.

        Example:
            >>> import numpy as np
            >>> from kdprobe.results import Result
            >>> arrays = {"epoch": np.arange(2), "accuracy": np.array([[0.5, 0.8]])}
            >>> data = Result("training", arrays, {"names": ["resnet8"]}).to_xarray()
            >>> data["accuracy"].sel(names="resnet8").max().item()
            0.8
        """
        about = {"kind": self.kind, "command": str(self.provenance.get("command", ""))}
        return as_dataset(find_kind(self.kind), self.arrays, self.facts, about)

    def plot(
        self,
        *,
        ax: "Axes | None" = None,
        fig: "FigureBase | None" = None,
        names: Mapping[str, str] = MappingProxyType({}),
        palette: Any = None,
    ) -> "Axes | FigureBase":
        """Draw it, as `figures.draw` does; a notebook shows the picture.

        Args:
            ax: matplotlib axes to draw into, of pictures with one panel.
            fig: a matplotlib figure, or a part of one, to fill; without both, a new figure.
            names: what layers, networks, methods or classes are called instead.
            palette: colours, or the name of a palette.

        Returns:
            the axes of a picture with one panel, the figure of one with several.

        Raises:
            ResultError: if its kind has no picture, or none that can be drawn so.

        Example:
            >>> import numpy as np
            >>> from kdprobe.results import Result
            >>> arrays = {"epoch": np.arange(2), "train_loss": np.array([[2.0, 1.0]])}
            >>> arrays["accuracy"] = np.array([[0.5, 0.8]])
            >>> figure = Result("training", arrays, {"names": ["resnet8"]}).plot()
            >>> [axes.get_xlabel() for axes in figure.axes]
            ['epoch', 'epoch']
        """
        plot = EntryPoint("plot", "figures.notebook:plot_result", "kdprobe.figures").load()
        drawn: Axes | FigureBase = plot(self, ax=ax, fig=fig, names=names, palette=palette)
        return drawn

    def _repr_html_(self) -> str:
        """What a notebook shows of it."""
        return page_of(find_kind(self.kind), self.kind, self.arrays, self.facts, self.provenance)


def save_result(
    result: Result,
    path: str | Path,
    *,
    table: str | None = None,
    tables: Mapping[str, str] = MappingProxyType({}),
    of: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Write a result and its tidy table, all files or none.

    Args:
        result: what was measured.
        path: where to; must end in `.npz`.
        table: the CSV text that goes beside it; that of `to_frames()`, one below the other, if not given.
        tables: further ones, by what their names have instead of `.npz`.
        of: networks and data by the parameters of the running command that name them, where it is not of all of them.
        overwrite: also over files that are not such a result, of the same networks and data, of kdprobe's.

    Warns:
        UserWarning: if its kind is registered nowhere, but is nearly called as one that is.

    Raises:
        ResultError: if the name does not end in `.npz`, or the result does not fit its kind.
        OutputError: if another file is in the way.
        FileError: if the system does not let it be written.

    Example:
        >>> import numpy as np
        >>> from kdprobe.provenance import provenance
        >>> from kdprobe.results import Result, save_result
        >>> arrays = {"epoch": np.arange(2), "train_loss": np.array([[2.0, 1.0]]), "accuracy": np.array([[0.5, 0.8]])}
        >>> result = Result("training", arrays, {"names": ["resnet8"]}, provenance(runs=["runs/resnet8"]))
        >>> save_result(result, "curves.npz", table="epoch,accuracy")
        >>> from pathlib import Path
        >>> sorted(path.name for path in Path().iterdir())
        ['curves.csv', 'curves.npz']
    """
    path = Path(path)
    if near := kind_meant(result.kind):
        warnings.warn(
            f"no kind of results is called {shown(result.kind)}, so nothing of it is checked{near}", stacklevel=2
        )
    with naming(f"in this {shown(result.kind)} result"):
        find_kind(result.kind).check_known(result.arrays, result.facts)
    check_result(result)
    if table is None:
        table = "\n".join(frame.to_csv(index=False) for frame in result.to_frames().values())
    texts = {".csv": table, **tables}
    origin = _of(path, of) or {"origin": _origin(json.loads(json.dumps(result.provenance)))}
    _permit(path, result.kind, origin, tables=texts, overwrite=overwrite)
    with beside(path, texts) as digests, replacing(path) as temporary, temporary.open("wb") as file:
        meta = {
            "format": FORMAT,
            "version": VERSION,
            "kind": result.kind,
            "facts": result.facts,
            "provenance": result.provenance,
            "beside": digests,
            "of": origin,
        }
        entries: dict[str, Any] = {"meta": np.array(json.dumps(meta, sort_keys=True)), **result.arrays}
        np.savez_compressed(file, **entries)


def permit_result(
    path: Path,
    kind: str,
    *,
    tables: Iterable[str] = (".csv",),
    pictures: Path | None = None,
    of: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> None:
    """Find out, before a long computation, whether a result's files may be written.

    Args:
        path: of the result.
        kind: of the result.
        tables: what the names of its CSV files have instead of `.npz`.
        pictures: folder that its picture goes to, if it is drawn.
        of: as `save_result` takes it.
        overwrite: the user's consent to lose what is there.

    Raises:
        ResultError: if the name does not end in `.npz`.
        OutputError: naming a file in the way.
        FileError: if the system does not let it be written.
    """
    drawn = [] if pictures is None else [pictures / f"{path.stem}.{ending}" for ending in PICTURES]
    _permit(path, kind, _of(path, of), tables=tables, pictures=drawn, overwrite=overwrite)
    if int(os.environ.get("RANK", "0")) == 0:  # of several processes the first one writes
        require_writable(path)


def _permit(
    path: Path,
    kind: str,
    of: dict[str, Any] | None,
    *,
    tables: Iterable[str],
    pictures: Iterable[Path] = (),
    overwrite: bool,
) -> None:
    if path.suffix != ".npz":
        raise ResultError(f"a result's name must end in .npz, but {path} does not")
    worded = f"{kind} result"

    def seal() -> dict[str, Any] | None:
        meta = _meta_of(path)
        if meta is None:
            return None
        return {"kind": f"{meta.get('kind')} result", "beside": meta.get("beside"), "of": _said_of(meta)}

    permit(
        [
            Output(path, worded, seal, of=of),
            *tables_beside(path, worded, tables, seal, of),
            *(Output(picture, figure_kind(kind)) for picture in pictures),
        ],
        overwrite=overwrite,
    )


def _of(path: Path, given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What a result at `path` is of, as the running command names it; None where no command runs."""
    networks = named(given)
    if networks is None:
        return None
    return {"networks": networks, "beside": named(given, seen_from=str(path.parent)), "command": command_line()}


def _said_of(meta: Mapping[str, Any]) -> Any:
    """What a result says that it is of; of one of an older kdprobe only the very same command is known to be of it."""
    if isinstance(of := meta.get("of"), dict):
        return {key: value for key, value in of.items() if key != "command"}
    origin = meta.get("provenance")
    return {"command": origin.get("command")} if isinstance(origin, dict) else None


def _origin(value: Any) -> Any:
    """A provenance as far as it names networks and data."""
    if isinstance(value, list):
        return [_origin(one) for one in value]
    if not isinstance(value, dict):
        return value
    apart = ("versions", "command", "remarks")
    return {key: _origin(one) for key, one in value.items() if key not in apart and not key.endswith("sha256")}


def figure_kind(kind: str) -> str:
    """What the picture of a result is called in its seal."""
    return f"figure of a {kind} result"


def load_result(path: str | Path, *, kind: str | None = None) -> Result:
    """Read a result.

    Args:
        path: the `.npz` file.
        kind: the kind it must be; any if not given.

    Raises:
        ResultError: if the file is missing, foreign, damaged, newer than this version, of another kind, or does not
            fit its kind.

    Example:
        >>> import numpy as np
        >>> from kdprobe.provenance import provenance
        >>> from kdprobe.results import Result, save_result
        >>> arrays = {"epoch": np.arange(2), "train_loss": np.array([[2.0, 1.0]]), "accuracy": np.array([[0.5, 0.8]])}
        >>> result = Result("training", arrays, {"names": ["resnet8"]}, provenance(runs=["runs/resnet8"]))
        >>> save_result(result, "curves.npz", table="epoch,accuracy")
        >>> from kdprobe.results import load_result
        >>> load_result("curves.npz", kind="training").arrays["accuracy"]
        array([[0.5, 0.8]])
    """
    path = Path(path)
    if not path.is_file():
        raise ResultError(f"there is no result {path}")
    with path.open("rb") as file:
        begins_as_archive = file.read(2) == b"PK"
    if not begins_as_archive or not zipfile.is_zipfile(path):
        raise ResultError(f"{path} cannot be read as a kdprobe result (it is no archive of arrays)")
    with parsing(path, ResultError, expected="a kdprobe result"):
        with np.load(path, allow_pickle=False) as archive:
            entries = {name: archive[name] for name in archive.files}
        meta = parse_json(str(entries.pop("meta")))
    if not isinstance(meta, dict):
        raise ResultError(f"{path} is not a kdprobe result: its meta is not a mapping")
    found = meta.get("format"), meta.get("version")
    if found != (FORMAT, VERSION) or type(found[1]) is not int:
        raise ResultError(f"{path} is {found[0]!r} version {found[1]}; this kdprobe reads {FORMAT!r} version {VERSION}")
    types = {"kind": str, "facts": dict, "provenance": dict}
    for name, of in types.items():
        if not isinstance(meta.get(name), of):
            raise ResultError(f"{path} is not a kdprobe result: its {name} is not a {of.__name__}")
    if kind is not None and meta["kind"] != kind:
        raise ResultError(
            f"{path} holds a result of kind {shown(meta['kind'])}, but {kind!r} is needed{kind_meant(kind)}"
        )
    result = Result(meta["kind"], entries, meta["facts"], meta["provenance"])
    with naming(path):
        check_result(result)
    return result


def check_result(result: Result, *, with_provenance: bool = True) -> None:
    """Refuse a result that does not fit its kind, as `kdprobe.kinds` describes it.

    Args:
        result: as an analysis makes it; those that are saved or loaded have been checked.
        with_provenance: also what it says of its origin, which numbers and pictures do not need.

    Raises:
        ResultError: naming the kind and the array, fact or origin that does not fit.
    """
    with naming(f"in this {result.kind!r} result"):
        find_kind(result.kind).check(result.arrays, result.facts, result.provenance if with_provenance else None)


@contextmanager
def naming(what: object) -> Iterator[None]:
    """Put what it is about, such as a file, before whatever is wrong with a result."""
    try:
        yield
    except ResultError as error:
        raise ResultError(f"{what}: {error}") from error


def by_checkpoint(results: Iterable[Result], kind: str) -> dict[str, tuple[Result, int]]:
    """Where each checkpoint stands in results of one kind: its sha256 -> the result, and the checkpoint's row in it.

    Args:
        results: of any kinds, whose provenance names `models`, one per row, or the `student` that they are about.
        kind: of those that are looked at.

    Raises:
        ResultError: if two of them are about one checkpoint on different data.
    """
    found: dict[str, tuple[Result, int]] = {}
    for result in results:
        if result.kind == kind:
            models = result.provenance.get("models") or [result.provenance["student"]]
            its = {model["sha256"]: (result, row) for row, model in enumerate(models) if model.get("sha256")}
            for other in (found[digest][0] for digest in its if digest in found):
                if _shown_on(other) != _shown_on(result):
                    raise ResultError(
                        f"two {kind} results are about one checkpoint, on {_shown_on(other)} and on "
                        f"{_shown_on(result)}; give one of them"
                    )
            found |= its
    return found


def _shown_on(result: Result) -> str:
    """The data that a result is about, and which of its images."""
    return " ".join(str(result.facts[key]) for key in ("data", "evaluated_on") if key in result.facts)


def results_below(folder: str | Path) -> list[Path]:
    """All results in a folder and its folders, by name; archives that were never a result of kdprobe are left out."""
    return [path for path in sorted(Path(folder).rglob("*.npz")) if path.is_file() and not _foreign(path)]


def _foreign(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return "meta.npy" not in archive.namelist()
    except Exception:
        return False  # perhaps a damaged one, which is told when it is read


def made_by(path: Path) -> str:
    """The command line that made the result at `path`; empty where there is no result."""
    origin = (_meta_of(path) or {}).get("provenance")
    return str(origin.get("command", "")) if isinstance(origin, dict) else ""


def _meta_of(path: Path) -> dict[str, Any] | None:
    """What a file says of itself, if it is a result."""
    try:
        with np.load(path, allow_pickle=False) as file:
            meta = parse_json(str(file["meta"]))
    except Exception:
        return None
    return meta if isinstance(meta, dict) and meta.get("format") == FORMAT else None
