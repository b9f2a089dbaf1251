"""Files of the user's that hide a module from kdprobe by bearing its name.

`python -m kdprobe` looks for modules in the working folder first, and a script in its own folder: a `figures.py` there
is what `import figures` finds. Whatever kdprobe would do with it, it would not be what the user wants.
"""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import kdprobe
from kdprobe.errors import KdprobeError

_HOME = Path(kdprobe.__file__).resolve().parent.parent
_BESIDE = ("analyses", "figures")  # the packages that are installed beside the core


def check_not_hidden(module: str) -> None:
    """Refuse to import a module of ours whose package is another one, without importing that.

    Raises:
        KdprobeError: naming the file or folder in the way.
    """
    package = module.partition(".")[0]
    found = _place(package) if package in _BESIDE else None
    if found is not None and found.parent != _HOME:
        raise KdprobeError(_worded(found, package))


def hidden_module(error: BaseException | None) -> str | None:
    """Which file of the user's an import or attribute error comes from, in one sentence; None where it is a defect.

    It comes from one in the working folder, or the script's, if another module of its name is found further on, and
    code that lies elsewhere asked for it.
    """
    places = {Path(os.path.realpath(entry)) for entry in (os.curdir, *sys.path[:1])} - {_HOME}
    while error is not None:
        package = _subject(error).partition(".")[0]
        found = _place(package) if package else None
        if found is not None and found.parent in places and _elsewhere(package, found.parent):
            return None if _asker(error).parent in places else _worded(found, package)
        error = error.__cause__ or error.__context__
    return None


def _asker(error: BaseException) -> Path:
    """The file whose code met with an error."""
    import traceback  # not at the top: helps and lists meet no error

    frames = traceback.extract_tb(error.__traceback__)
    return Path(frames[-1].filename if frames else "").resolve()


def _subject(error: BaseException) -> str:
    """The module that an error is about."""
    if isinstance(error, ImportError):
        return error.name or ""
    of = error.obj if isinstance(error, AttributeError) else None
    return of.__name__ if isinstance(of, ModuleType) else ""


def _place(package: str) -> Path | None:
    """The file or folder that a package or top-level module is imported from."""
    if package in sys.modules:
        file = getattr(sys.modules[package], "__file__", None)
    else:
        spec = find_spec(package)
        file = None if spec is None or not spec.has_location else spec.origin
    if file is None:
        return None
    path = Path(file).resolve()
    return path.parent if path.name == "__init__.py" else path


def _elsewhere(package: str, place: Path) -> bool:
    """Whether there is another module of that name."""
    if package in sys.stdlib_module_names:
        return True
    spec = PathFinder.find_spec(package, [entry for entry in sys.path if Path(os.path.realpath(entry)) != place])
    return spec is not None and spec.origin is not None


def _worded(found: Path, package: str) -> str:
    return f"{found} hides the module {package!r} that kdprobe needs; rename it, or run kdprobe from another folder"
