"""Which files in a data set's folders are images of a class, and which are left out, with the reason.

Hidden files and folders never count as images, at any depth. Links to folders are followed, but no folder is read
twice in a split. Names that differ only in how their accents are written (composed or decomposed) are one class.
"""

import os
import unicodedata
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from kdprobe.data.decode import SUFFIXES
from kdprobe.errors import DataError
from kdprobe.formats.parsing import parsing

#: folders that systems put beside the user's own
_OF_SYSTEMS = {"__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"}


class LeftOut(NamedTuple):
    """A file or folder that is not counted, and why."""

    path: str
    reason: str


@dataclass
class Listing:
    """What is in one split.

    Attributes:
        classes: paths of the images of each class, classes and paths sorted by name.
        left_out: what is not among them.
    """

    classes: dict[str, list[str]]
    left_out: list[LeftOut] = field(default_factory=list)


def list_classes(split: Path) -> Listing:
    """The images of a split that has one folder per class.

    Raises:
        DataError: if a folder cannot be read.
    """
    walk, folders = _Walk(split), []
    for entry in sorted(_entries(split), key=lambda entry: entry.name):
        if is_hidden(entry.name):
            walk.left_out.append(LeftOut(entry.path, "hidden"))
        elif _is_folder(entry):
            folders.append(entry)
        else:
            walk.left_out.append(LeftOut(entry.path, "not in a class's folder"))
    for entry in sorted(folders, key=lambda entry: entry.is_symlink()):
        walk.read(entry.path, composed(entry.name))
    walk.follow_links()
    return Listing({name: sorted(walk.images[name]) for name in sorted(walk.images)}, walk.left_out)


def list_images(folder: Path) -> Listing:
    """All images in a folder and below, as those of one class without a name.

    Raises:
        DataError: if a folder cannot be read.
    """
    walk = _Walk(folder)
    walk.read(str(folder), "")
    walk.follow_links()
    return Listing({"": sorted(walk.images[""])}, walk.left_out)


def composed(name: str) -> str:
    """A class's name: accents are one character each, as on most file systems, and bytes that are no UTF-8 escapes."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))


def is_hidden(name: str) -> bool:
    """Whether a file or folder belongs to a program or the system, rather than to the user."""
    return name.startswith(".") or name in _OF_SYSTEMS


def grouped(left_out: Iterable[LeftOut]) -> list[str]:
    """One line per reason: how many, and the first of them."""
    by_reason: dict[str, list[str]] = {}
    for path, reason in left_out:
        by_reason.setdefault(reason, []).append(path)
    return [
        f"{min(paths)} is left out: {reason}"
        if len(paths) == 1
        else f"{len(paths)} files or folders are left out, the first {min(paths)}: {reason}"
        for reason, paths in by_reason.items()
    ]


class _Walk:
    """Visits the folders of all classes of a split, each once, at its real place rather than through a link.

    Attributes:
        images: paths of each class.
        left_out: what is not among them.
    """

    def __init__(self, split: Path) -> None:
        self._split = Path(os.path.realpath(split))
        self.images: dict[str, list[str]] = {}
        self.left_out: list[LeftOut] = []
        self._links: deque[tuple[str, str]] = deque()
        self._first: dict[tuple[int, int], str] = {}

    def read(self, folder: str, label: str) -> None:
        """Take the images of a folder and the folders in it; links to folders wait."""
        paths, waiting = self.images.setdefault(label, []), [folder]
        while waiting:
            folder = waiting.pop()
            state = os.stat(folder)
            first = self._first.setdefault((state.st_dev, state.st_ino), folder)
            if first != folder:
                self.left_out.append(LeftOut(folder, f"the same folder as {first}, whose images are counted there"))
                continue
            for entry in _entries(folder):
                if is_hidden(entry.name):
                    self.left_out.append(LeftOut(entry.path, "hidden"))
                elif not _is_folder(entry):
                    self._file(entry, paths)
                elif entry.is_symlink():
                    self._links.append((entry.path, label))
                else:
                    waiting.append(entry.path)

    def follow_links(self) -> None:
        """Read what links lead to, unless it was read before or contains the split."""
        while self._links:
            path, label = self._links.popleft()
            if Path(os.path.realpath(path)) in (self._split, *self._split.parents):
                self.left_out.append(LeftOut(path, "a link to a folder that contains it"))
            else:
                self.read(path, label)

    def _file(self, entry: "os.DirEntry[str]", paths: list[str]) -> None:
        if reason := _why_not(entry):
            self.left_out.append(LeftOut(entry.path, reason))
        else:
            paths.append(entry.path)


def _entries(folder: str | Path) -> list["os.DirEntry[str]"]:
    with parsing(folder, DataError, expected="a folder of images"), os.scandir(folder) as entries:
        return list(entries)


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _why_not(entry: "os.DirEntry[str]") -> str:
    """Why a file is no image; empty if it is one, or a broken link to one, which decoding reports."""
    if not entry.name.lower().endswith(SUFFIXES):
        suffix = os.path.splitext(entry.name)[1]
        return f"{suffix} is not an image file extension" if suffix else "no image file extension"
    if entry.is_symlink():
        return "" if not os.path.exists(entry.path) or os.path.isfile(entry.path) else "not a regular file"
    return "" if entry.is_file() else "not a regular file"
