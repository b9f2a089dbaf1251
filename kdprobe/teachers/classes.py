"""Which of a teacher's logits belong to the data's classes: matched by name, where they are not the same classes."""

from collections import Counter
from collections.abc import Mapping, Sequence

from kdprobe.errors import ModelError, near_matches
from kdprobe.models.creation import ModelInfo

#: what `teacher.classes` says: names of the teacher's classes in their order, or the teacher's name (or number) for
#: each of the data's classes that has another one
Said = Sequence[str] | Mapping[str, str | int]
#: where it stands
_SAID = "teacher.classes (in Python, classes=)"


def matched_classes(path: str, teacher: ModelInfo, student: ModelInfo, said: Said | None) -> tuple[int, ...] | None:
    """Places of the data's classes among the teacher's logits.

    Args:
        path: the teacher's, for messages.
        teacher: knows its classes, by number and perhaps by name.
        student: knows those of the data.
        said: what `teacher.classes` says of them.

    Returns:
        a place for each of the data's classes; None where both have the same classes in the same order.

    Raises:
        ModelError: for classes that are not known to be the same.
    """
    if said is None:
        _check_same(path, teacher, student)
        return None
    named = _names(path, teacher, said)
    renamed = said if isinstance(said, Mapping) else {}
    if wrong := [name for name in renamed if name not in student.classes]:
        raise ModelError(f"{_SAID}: the data have no class {wrong[0]!r}{near_matches(wrong[0], student.classes)}")
    found = [_place(path, name, renamed.get(name, name), named, teacher.n_classes) for name in student.classes]
    if len(found) != student.n_classes:
        raise ModelError(f"{_SAID} matches classes by name, but those of the data have no names")
    first_with: dict[int, int] = {}
    for number, place in enumerate(found):
        if (first := first_with.setdefault(place, number)) != number:
            raise ModelError(
                f"{_SAID} makes {student.classes[first]!r} and {student.classes[number]!r} the same class of "
                "the teacher; give each of the data's classes one of its own"
            )
    return None if found == list(range(teacher.n_classes)) else tuple(found)


def _check_same(path: str, teacher: ModelInfo, student: ModelInfo) -> None:
    if teacher.n_classes != student.n_classes:
        raise ModelError(
            f"the teacher {path} has {teacher.n_classes} classes, but the student has {student.n_classes}; say with "
            f"{_SAID} which of them are the data's, or take a method that reads features alone, such as rkd"
        )
    for number, (taught, named) in enumerate(zip(teacher.classes, student.classes, strict=False)):
        if taught != named:
            how = (
                "teacher.classes={} (in Python, classes={}) matches them by name"
                if set(student.classes) <= set(teacher.classes)
                else f"say with {_SAID} what the teacher calls them"
            )
            raise ModelError(
                f"the teacher {path} has other classes than the data, or in another order: class {number} is "
                f"{taught!r} to the teacher, but {named!r} in the data; {how}"
            )


def _names(path: str, teacher: ModelInfo, said: Said) -> Sequence[str]:
    """The names of the teacher's classes in their order; none, where they are not known."""
    if isinstance(said, Mapping):
        return teacher.classes
    if len(said) != teacher.n_classes:
        raise ModelError(f"{_SAID} names {len(said)} classes, but the teacher {path} has {teacher.n_classes}")
    for number, (name, own) in enumerate(zip(said, teacher.classes, strict=False)):
        if name != own:
            raise ModelError(f"{_SAID} calls class {number} {name!r}, but the teacher {path} calls it {own!r}")
    if double := [name for name, count in Counter(said).items() if count > 1]:
        raise ModelError(f"{_SAID} names {double[0]!r} twice")
    return said


def _place(path: str, name: str, wanted: str | int, known: Sequence[str], n_classes: int) -> int:
    """The place of one of the data's classes among the teacher's logits."""
    if isinstance(wanted, int):
        if not 0 <= wanted < n_classes:
            raise ModelError(f"{_SAID} makes {name!r} class {wanted}, but the teacher {path} has 0 to {n_classes - 1}")
        return wanted
    if not known:
        raise ModelError(
            f"the teacher {path} does not name its classes; give their names in their order with {_SAID}, or a "
            f"number for {name!r} and each other class of the data"
        )
    if known.count(wanted) > 1:
        raise ModelError(
            f"the teacher {path} calls several of its classes {wanted!r}; say with {_SAID} the number of the one that "
            f"{name!r} is"
        )
    if wanted not in known:
        raise ModelError(
            f"the teacher {path} has no class {wanted!r}{near_matches(wanted, known)}; say with {_SAID} which "
            f"of its classes {name!r} is"
        )
    return known.index(wanted)
