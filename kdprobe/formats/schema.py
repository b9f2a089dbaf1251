"""What a stored result may hold, in words that can be checked: arrays with named dimensions, facts with types.

Dimensions that bear one name have one size, wherever they stand: an array `Values("pairs interval")` has as many rows
as the fact `List(Text(), "pairs")` has items.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from math import inf, isfinite
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kdprobe.errors import ResultError, near_matches

Range = tuple[float, float]
Sizes = dict[str, tuple[int, str]]  # name of a dimension -> its size, and what has it

ANY: Range = (-inf, inf)
_LARGEST = 1e100  # what is larger means nothing, and pictures could not compute with it
_ROUNDING = 1e-9  # by which a computed share may leave its range
_SHOWN = 60  # characters of a value in an error
#: codes of numpy's types, the most bytes of a number, and what it is called
_DTYPES = {
    "any": ("biuf", 8, "numbers"),
    "real": ("iuf", 8, "real numbers"),
    "whole": ("iu", 8, "whole numbers"),
    "uint8": ("u", 1, "bytes"),
}


@dataclass(frozen=True)
class Values:
    """An array.

    Attributes:
        dims: names of the dimensions in their order, none of them empty; a digit is a size, `interval` stands for the
            three numbers value, low, high, and `bins+1` is one more than `bins`.
        dtype: `real` (floats or integers), `whole` (integers) or `uint8`.
        within: the smallest and the largest value.
        nan: how many numbers may be missing: `none`, `some` or `all`.
        rising: whether each value is larger than the one before it.
        index: the dimension whose places the values are, from 0.
        at_most: the array that no value of this one exceeds.
        required: whether it is always there.

    Example:
        >>> import numpy as np
        >>> from kdprobe.kinds import Kind, Values
        >>> kind = Kind(arrays={"purity": Values("poems", within=(0, 1))})
        >>> kind.check({"purity": np.array([0.5, 2.0])}, {})
        Traceback (most recent call last):
        kdprobe.errors.ResultError: the array 'purity' must lie in [0, 1], but holds 2
    """

    dims: str
    dtype: Literal["real", "whole", "uint8"] = "real"
    within: Range = ANY
    nan: Literal["none", "some", "all"] = "none"
    rising: bool = False
    index: str = ""
    at_most: str = ""
    required: bool = True

    def check_form(self, values: Any, place: str, sizes: Sizes) -> None:
        """Refuse another type or other dimensions; note the size of each dimension with a name."""
        _check_array(values, place, *_DTYPES[self.dtype])
        names = self.dims.split()
        if values.ndim != len(names):
            raise ResultError(f"{place} must have the dimensions [{', '.join(names)}], but is {list(values.shape)}")
        for name, size in zip(names, values.shape, strict=True):
            _note_size(name, size, place, sizes)

    def check_values(self, values: NDArray[Any], place: str, sizes: Sizes, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Refuse values that mean nothing, once the form of all arrays and the facts are known."""
        low, high = (float(extreme.reduce(values, axis=None)) for extreme in (np.fmin, np.fmax))  # NaN left out
        if self.nan != "all" and np.isnan(low):
            raise ResultError(f"{place} must hold a number, but is NaN everywhere")
        if self.nan == "none" and np.isnan(values.max()):
            raise ResultError(f"{place} must hold numbers alone, but is NaN somewhere")
        least, most = (0, sizes[self.index][0] - 1) if self.index else self.within
        for value in (low, high):
            if abs(value) > _LARGEST or value < least - _ROUNDING or value > most + _ROUNDING:
                raise ResultError(f"{place} must lie {_worded(least, most)}, but holds {value:.6g}")
        if self.rising and not (values[..., 1:] > values[..., :-1]).all():
            raise ResultError(f"{place} must rise, but is {shown(values.tolist())}")
        if self.dims.endswith("interval") and (values[..., 1] > values[..., 2]).any():
            raise ResultError(
                f"{place} must hold values, low ends and high ends, but a low end lies above its high end"
            )
        if self.at_most in arrays and (values > arrays[self.at_most]).any():
            raise ResultError(f"{place} must not exceed {self.at_most!r}, but does")


@dataclass(frozen=True, kw_only=True)
class Fact(ABC):
    """A JSON value.

    Attributes:
        required: whether it is always there.

    Example:
        >>> from kdprobe.kinds import Fact, Number
        >>> isinstance(Number(required=False), Fact), Number(required=False).required
        (True, False)
    """

    required: bool = True

    @abstractmethod
    def check(self, value: Any, place: str, sizes: Sizes) -> None:
        """Refuse what is not of this type and range, naming its place; note the lengths of lists with a name."""


@dataclass(frozen=True)
class Text(Fact):
    """Text of at most `longest` characters; one of some words, where these are given.

    Example:
        >>> from kdprobe.kinds import Kind, Text
        >>> Kind(facts={"side": Text(words=("teacher", "student"))}).check({}, {"side": "both"})
        Traceback (most recent call last):
        kdprobe.errors.ResultError: the fact 'side' must be 'teacher' or 'student', but is 'both'
    """

    longest: int = 10_000
    words: Collection[str] = ()

    def check(self, value: Any, place: str, sizes: Sizes) -> None:
        """As `Fact.check`."""
        if not isinstance(value, str):
            raise ResultError(f"{place} must be text, but is {shown(value)}")
        if self.words and value not in self.words:
            raise ResultError(f"{place} must be {' or '.join(map(repr, self.words))}, but is {shown(value)}")
        if len(value) > self.longest:
            raise ResultError(f"{place} must have at most {self.longest} characters, but has {len(value)}")
        if not value.isprintable() and any("\ud800" <= sign <= "\udfff" for sign in value):
            raise ResultError(f"{place} must be text, but {shown(value)} has half a character")


@dataclass(frozen=True)
class Number(Fact):
    """A finite number within a range.

    Example:
        >>> from kdprobe.kinds import Kind, Number
        >>> Kind(facts={"rate": Number((0, 1))}).check({}, {"rate": 2})
        Traceback (most recent call last):
        kdprobe.errors.ResultError: the fact 'rate' must lie in [0, 1], but is 2
    """

    within: Range = ANY
    whole: bool = False

    def check(self, value: Any, place: str, sizes: Sizes) -> None:
        """As `Fact.check`."""
        least, most = self.within
        number = isinstance(value, int if self.whole else int | float) and not isinstance(value, bool)
        if not number or not isfinite(value):
            raise ResultError(f"{place} must be a {'whole ' * self.whole}number, but is {shown(value)}")
        if abs(value) > _LARGEST or not least <= value <= most:
            raise ResultError(f"{place} must lie {_worded(least, most)}, but is {shown(value)}")


@dataclass(frozen=True)
class Flag(Fact):
    """True or false.

    Example:
        >>> from kdprobe.kinds import Flag, Kind
        >>> Kind(facts={"wins": Flag()}).check({}, {"wins": 1})
        Traceback (most recent call last):
        kdprobe.errors.ResultError: the fact 'wins' must be true or false, but is 1
    """

    def check(self, value: Any, place: str, sizes: Sizes) -> None:
        """As `Fact.check`."""
        if not isinstance(value, bool):
            raise ResultError(f"{place} must be true or false, but is {shown(value)}")


@dataclass(frozen=True)
class List(Fact):
    """A list of one type.

    Attributes:
        of: the type of its items.
        dim: the name of the dimension, or the digit, that says how many there are.
        rising: whether each item is larger than the one before it.

    Example:
        >>> from kdprobe.kinds import Kind, List, Number
        >>> Kind(facts={"rates": List(Number(), rising=True)}).check({}, {"rates": [0.5, 0.1]})
        Traceback (most recent call last):
        kdprobe.errors.ResultError: the fact 'rates' must rise, but is [0.5, 0.1]
    """

    of: Fact
    dim: str = ""
    rising: bool = False

    def check(self, value: Any, place: str, sizes: Sizes) -> None:
        """As `Fact.check`."""
        if not isinstance(value, list | tuple):
            raise ResultError(f"{place} must be a list, but is {shown(value)}")
        if self.dim:
            _note_size(self.dim, len(value), place, sizes)
        for number, item in enumerate(value):
            self.of.check(item, f"{place}[{number}]", sizes)
        if self.rising and any(one >= other for one, other in pairwise(value)):
            raise ResultError(f"{place} must rise, but is {shown(value)}")


@dataclass(frozen=True)
class Record(Fact):
    """A mapping with a type for each key; other keys may be there too.

    Example:
        >>> from kdprobe.kinds import Kind, Number, Record
        >>> Kind(facts={"best": Record({"rate": Number()})}).check({}, {"best": {}})
        Traceback (most recent call last):
        kdprobe.errors.ResultError: the fact 'best' must have 'rate', but is {}
    """

    of: Mapping[str, Fact] = field(default_factory=dict)

    def check(self, value: Any, place: str, sizes: Sizes) -> None:
        """As `Fact.check`."""
        if not isinstance(value, dict):
            raise ResultError(f"{place} must be a mapping, but is {shown(value)}")
        for key, fact in self.of.items():
            if key in value:
                fact.check(value[key], f"{place}.{key}", sizes)
            elif fact.required:
                raise ResultError(f"{place} must have {key!r}, but is {shown(value)}")


@dataclass(frozen=True)
class Dict(Fact):
    """A mapping of any keys to one type.

    Example:
        >>> from kdprobe.kinds import Dict, Kind, Number
        >>> Kind(facts={"sizes": Dict(Number(whole=True))}).check({}, {"sizes": {"student": "32"}})
        Traceback (most recent call last):
        kdprobe.errors.ResultError: the fact 'sizes'.'student' must be a whole number, but is '32'
    """

    of: Fact

    def check(self, value: Any, place: str, sizes: Sizes) -> None:
        """As `Fact.check`."""
        Record().check(value, place, sizes)
        for key, item in value.items():
            Text().check(key, f"a key of {place}", sizes)
            self.of.check(item, f"{place}.{shown(key)}", sizes)


@dataclass(frozen=True)
class Maybe(Fact):
    """A type, or null.

    Example:
        >>> from kdprobe.kinds import Kind, Maybe, Text
        >>> kind = Kind(facts={"teacher": Maybe(Text())})
        >>> kind.check({}, {"teacher": None})
        >>> kind.check({}, {"teacher": 1})
        Traceback (most recent call last):
        kdprobe.errors.ResultError: the fact 'teacher' must be text, but is 1
    """

    of: Fact

    def check(self, value: Any, place: str, sizes: Sizes) -> None:
        """As `Fact.check`."""
        if value is not None:
            self.of.check(value, place, sizes)


@dataclass(frozen=True)
class Anything(Fact):
    """Any JSON value.

    Example:
        >>> from kdprobe.kinds import Anything, Kind
        >>> Kind(facts={"parts": Anything()}).check({}, {"parts": [{1, 2}]})
        Traceback (most recent call last):
        kdprobe.errors.ResultError: the fact 'parts'[0] must be a JSON value, but is {1, 2}
    """

    def check(self, value: Any, place: str, sizes: Sizes) -> None:
        """As `Fact.check`."""
        if isinstance(value, dict):
            Dict(self).check(value, place, sizes)
        elif isinstance(value, list | tuple):
            List(self).check(value, place, sizes)
        elif isinstance(value, str):
            Text(longest=10**6).check(value, place, sizes)
        elif not isinstance(value, bool | int | float | None):
            raise ResultError(f"{place} must be a JSON value, but is {shown(value)}")


@dataclass(frozen=True)
class Kind:
    """What results of one kind hold.

    Attributes:
        arrays: by name.
        facts: by name; `remarks` and `left_out`, each with a `reason`, may be among those of every kind.
        provenance: what is known of the origin, by name; more may be known.
        together: groups of arrays that are there all or none.
        open: whether a result may hold arrays and facts that are not named here.

    Example:
        >>> import numpy as np
        >>> from kdprobe.kinds import Kind, List, Text, Values
        >>> rhyme = Kind(arrays={"purity": Values("poems")}, facts={"poems": List(Text(), "poems")})
        >>> rhyme.check({"purity": np.array([0.5, 0.7])}, {"poems": ["first"]})
        Traceback (most recent call last):
        kdprobe.errors.ResultError: the fact 'poems' has 1 poems, but the array 'purity' has 2
    """

    arrays: Mapping[str, Values] = field(default_factory=dict)
    facts: Mapping[str, Fact] = field(default_factory=dict)
    provenance: Mapping[str, Fact] = field(default_factory=dict)
    together: Collection[tuple[str, ...]] = ()
    open: bool = False

    def check(
        self, arrays: Mapping[str, Any], facts: Mapping[str, Any], provenance: Mapping[str, Any] | None = None
    ) -> None:
        """Refuse what is missing or does not fit; what is not named here may be any numbers and JSON values.

        Args:
            arrays: of a result.
            facts: of it.
            provenance: of it; not looked at if not given.

        Raises:
            ResultError: naming the array, fact or origin, what it should be, and the value seen.
        """
        sizes: Sizes = {}
        _check_present(self.arrays, arrays, "the array")
        for names in self.together:
            there = [name for name in names if name in arrays]
            if 0 < len(there) < len(names):
                missing = next(name for name in names if name not in arrays)
                raise ResultError(f"the array {missing!r} is missing, which goes with {there[0]!r}")
        for name, values in arrays.items():
            if name in self.arrays:
                self.arrays[name].check_form(values, f"the array {name!r}", sizes)
            else:
                _check_array(values, f"the array {name!r}", *_DTYPES["any"])
        _check_facts({**_REMARKS, **self.facts}, facts, "the fact", sizes)
        for name in self.arrays.keys() & arrays.keys():
            self.arrays[name].check_values(arrays[name], f"the array {name!r}", sizes, arrays)
        if provenance is not None:
            _check_facts({**_ORIGIN, **self.provenance}, provenance, "the origin", sizes)

    def check_known(self, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Refuse arrays and facts that are not named here, unless the kind is open.

        Raises:
            ResultError: naming one.
        """
        if not self.open:
            for what, known, found in (("array", self.arrays, arrays), ("fact", {**_REMARKS, **self.facts}, facts)):
                for name in found:
                    if name not in known:
                        raise ResultError(f"the {what} {name!r} is not known{near_matches(name, known)}")


#: what results of any kind may state, and say of their origin
_REMARKS: dict[str, Fact] = {key: List(Record({"reason": Text()}), required=False) for key in ("remarks", "left_out")}
_ORIGIN: dict[str, Fact] = {"versions": Dict(Text(), required=False), "command": Text(required=False)}


def shown(value: Any) -> str:
    """A value as it stands in an error: on one line, and cut where it is long."""
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _check_facts(known: Mapping[str, Fact], found: Mapping[str, Any], what: str, sizes: Sizes) -> None:
    _check_present(known, found, what)
    for name, value in found.items():
        known.get(name, Anything()).check(value, f"{what} {name!r}", sizes)


def _check_present(known: Mapping[str, Values] | Mapping[str, Fact], found: Mapping[str, Any], what: str) -> None:
    for name, one in known.items():
        if one.required and name not in found:
            raise ResultError(f"{what} {name!r} is missing")


def _check_array(values: Any, place: str, codes: str, widest: int, words: str) -> None:
    if not isinstance(values, np.ndarray):
        raise ResultError(f"{place} must be an array, but is {shown(values)}")
    dtype = values.dtype
    if dtype.kind not in codes or not dtype.isnative or dtype.itemsize > widest:
        raise ResultError(f"{place} must hold {words}, but holds {dtype}")


def _note_size(name: str, size: int, place: str, sizes: Sizes) -> None:
    if name.endswith("+1"):
        name, size = name.removesuffix("+1"), size - 1
    fixed = 3 if name == "interval" else int(name) if name.isdigit() else None
    if fixed is not None and size != fixed:
        raise ResultError(f"{place} must have {fixed} numbers or items side by side, but has {size}")
    known, where = sizes.setdefault(name, (size, place))
    if size != known:
        raise ResultError(f"{place} has {size} {name}, but {where} has {known}")
    if not size:
        raise ResultError(f"{place} must have {name}, but is empty")


def _worded(least: float, most: float) -> str:
    return f"in [{max(least, -_LARGEST):g}, {min(most, _LARGEST):g}]"
