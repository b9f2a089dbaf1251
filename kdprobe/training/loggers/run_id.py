"""The name under which loggers know a run, also after it was moved or resumed."""

import uuid
from pathlib import Path

from kdprobe.files import write_text

_FILE = "logger-id.txt"


def run_id(folder: Path) -> str:
    """The run's, which stands in its folder; drawn when it is asked for the first time.

    Example:
        >>> from pathlib import Path
        >>> from kdprobe.training.loggers.run_id import run_id
        >>> run_id(Path()) == run_id(Path())
        True
    """
    path = folder / _FILE
    if not path.is_file():
        write_text(path, f"{uuid.uuid4().hex[:16]}\n")
    return path.read_text(encoding="utf-8").strip()
