"""Whatever a parser raises becomes one line with the file's name, here.

Parsers of other formats raise far more than their documentation says: `ValueError`, `TypeError`,
`RecursionError`, `MemoryError`, `zlib.error`, errors of their own. Over a damaged file each of them means the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdprobe.errors import KdprobeError


@contextmanager
def parsing(path: Path | str, error: type[KdprobeError], *, expected: str) -> Iterator[None]:
    """Turn whatever is raised inside into one error that names the file.

    Args:
        path: the file, or the file and the part of it that is read.
        error: the class to raise.
        expected: what the file should have been, with an article: `"a kdprobe result"`.

    Raises:
        KdprobeError: of the given class. kdprobe's own errors and interrupts pass unchanged.
    """
    try:
        yield
    except KdprobeError:
        raise
    except Exception as raised:
        reason = " ".join(str(raised).split())[:200]
        detail = f"{type(raised).__name__}: {reason}" if reason else type(raised).__name__
        raise error(f"{path} cannot be read as {expected} ({detail})") from raised
