"""Pages of the reference that are written from the code: commands, configuration, kinds of results, dumps, the API."""

import inspect
import json
import re
from collections.abc import Iterable
from math import inf
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from kdprobe.cli.group import OWN
from kdprobe.config import RunConfig
from kdprobe.distillers import DISTILLERS
from kdprobe.features import store
from kdprobe.features.store_checks import LAYOUT, Attribute, StoredRows
from kdprobe.formats.schema import Dict, Fact, Flag, Kind, List, Maybe, Number, Record, Text, Values
from kdprobe.kinds import KINDS

#: modules of the API, with what another page of it has already
API: dict[str, tuple[str, ...]] = {
    "kdprobe": (),
    "kdprobe.data": (),
    "kdprobe.models": ("describe", "load"),
    "kdprobe.features": ("FeatureStore", "capture"),
    "kdprobe.distillers": (),
    "kdprobe.results": (),
    "kdprobe.kinds": (),
    "kdprobe.config": (),
    "kdprobe.training": (),
    "kdprobe.training.loggers": (),
    "kdprobe.runs": (),
    "kdprobe.exports": (),
    "kdprobe.errors": ("KdprobeError",),
    "analyses.cka": (),
    "analyses.similarity": (),
    "analyses.knowledge": (),
    "analyses.evaluation": (),
    "analyses.fidelity": (),
    "analyses.diagnosis": (),
    "analyses.images": (),
    "analyses.map": (),
    "analyses.dropout": (),
    "analyses.complexity": (),
    "analyses.paired_features": (),
    "figures": (),
}


def write_pages(folder: Path) -> None:
    """Write all pages; those that say what they said stay as they are, so that Sphinx does not read them again."""
    pages = {
        "configuration.md": configuration_page(),
        "method-options.md": method_options_page(),
        "results.md": results_page(),
        "dumps.md": dumps_page(),
        "api/losses.md": losses_page(),
        **{f"commands/{name}.rst": command_page(name) for name in OWN},
        **{f"api/{name}.md": api_page(name, left_out) for name, left_out in API.items()},
    }
    for old in folder.rglob("*.*"):
        if old.relative_to(folder).as_posix() not in pages:
            old.unlink()
    for name, text in pages.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


# Commands


def command_page(name: str) -> str:
    """One command with its subcommands."""
    return f".. click:: {OWN[name]}\n   :prog: kdprobe {name}\n   :nested: full\n"


# The API


def api_page(module: str, left_out: Iterable[str]) -> str:
    """The public names of a module."""
    options = [":members:", *([f":exclude-members: {', '.join(left_out)}"] if left_out else [])]
    homes = [f"`{name}` is [`kdprobe.{name}`](kdprobe.md).\n" for name in left_out]
    return _rst(module, f".. automodule:: {module}", *options) + ("\n" + "\n".join(homes) if homes else "")


def losses_page() -> str:
    """Each method with its loss functions and options."""
    modules = dict.fromkeys(kind.__module__ for kind in DISTILLERS.values())
    options = ", ".join({kind.Options.__name__: None for kind in DISTILLERS.values()})  # have a page of their own
    without = f":exclude-members: Options, {options}"
    blocks = [_directive(f".. automodule:: {module}", ":members:", without) for module in modules]
    return "# Methods and their losses\n\n" + "\n".join(
        f"## {module.rpartition('.')[2]}\n\n{block}" for module, block in zip(modules, blocks, strict=True)
    )


def _rst(title: str, *lines: str) -> str:
    return f"# {title}\n\n" + _directive(*lines)


def _directive(first: str, *options: str) -> str:
    return "\n".join(["```{eval-rst}", first, *(f"   {line}" for line in options), "```", ""])


# The configuration


def configuration_page() -> str:
    """Every key of a recipe."""
    head = (
        "# Configuration\n\n"
        "Every key of a recipe, with its range and default, written from the schema that checks it. On the command "
        "line a key is set by `--set KEY=VALUE`. The keys below `method` are [the method's](method-options.md).\n"
    )
    return head + "".join(_section(RunConfig, ""))


def method_options_page() -> str:
    """Every option of every method."""
    parts = [
        "# Options of the methods\n\n"
        "What stands under `method:` besides its `name`. What is worth tuning, and in which range, is shown by "
        "`kdprobe list methods NAME`; [the table of methods](../methods.md) says what each of them minimises.\n"
    ]
    for name, kind in DISTILLERS.items():
        rows = [_field(key, field, kind.Options) for key, field in kind.Options.model_fields.items()]
        n_columns = 4 if any(row[3] for row in rows) else 3  # names may say it all
        head = ("option", "may be", "default", "what it is")[:n_columns]
        table = _table(head, [row[:n_columns] for row in rows]) if rows else "It has no options."
        parts.append(f"\n## {name}\n\n{table}\n")
    return "".join(parts)


def _section(section: type[BaseModel], prefix: str) -> list[str]:
    """The table of a section, and those of the sections in it."""
    rows, below = [], []
    for name, field in section.model_fields.items():
        inner = _inner(field.annotation)
        if inner is None:
            rows.append(_field(f"{prefix}{name}", field, section))
        else:
            shown = "teacher" if name == "teacher_facts" else name
            below.extend(_section(inner, f"{prefix}{shown}."))
    title = f"`{prefix.rstrip('.')}`" if prefix else "At the top"
    return [f"\n## {title}\n\n{_table(('key', 'may be', 'default', 'what it is'), rows)}\n", *below]


def _inner(annotation: Any) -> type[BaseModel] | None:
    kinds = [annotation, *get_args(annotation)]
    return next((kind for kind in kinds if inspect.isclass(kind) and issubclass(kind, BaseModel)), None)


def _field(key: str, field: Any, section: type[BaseModel]) -> tuple[str, str, str, str]:
    default = field.get_default(call_default_factory=True)
    shown = "*must be given*" if default is PydanticUndefined else "-" if default is None else f"`{_json(default)}`"
    told = _attributes(section).get(key.rpartition(".")[2], "")
    may_be = field.description.replace("`", "") if field.description else _range(field)
    return f"`{key}`", may_be, shown, told


def _json(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def _range(field: Any) -> str:
    """What a value may be, in words."""
    bounds = {"ge": "at least {}", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
    words = [
        text.format("2^64" if bound == 2**64 else f"{bound:g}")
        for one in field.metadata
        for name, text in bounds.items()
        if (bound := getattr(one, name, None)) is not None
    ]
    return ", ".join([_type(field.annotation), *words])


def _type(annotation: Any) -> str:
    names = {
        int: "whole number",
        float: "number",
        str: "text",
        bool: "`true`, `false`",
        dict: "mapping",
        Any: "anything",
    }
    origin, inside = get_origin(annotation), get_args(annotation)
    if annotation in names:
        return names[annotation]
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inside)
    if origin in (tuple, list):
        kinds = dict.fromkeys(_type(kind) for kind in inside if kind is not ...)
        return "list of " + re.sub(r"\b(number|list)\b", r"\1s", ", ".join(kinds))
    if origin is dict:
        return "mapping"
    if origin is Union or type(annotation).__name__ == "UnionType":
        return " or ".join(_type(kind) for kind in inside if kind is not type(None))
    return _type(inside[0]) if inside else getattr(annotation, "__name__", str(annotation))


def _attributes(section: type[BaseModel]) -> dict[str, str]:
    """What docstrings of a class and its bases say of its attributes."""
    told: dict[str, str] = {}
    for kind in reversed(section.__mro__):
        text = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")[2]
        text = re.split(r"\n(?=\w)", text)[0]  # up to the next section
        for part in re.split(r"\n(?= {4}\w)", "\n" + text):
            name, colon, about = part.strip().partition(": ")
            if colon and name.isidentifier():
                told[name] = " ".join(about.split())
    return told


# Results and dumps


def results_page() -> str:
    """What each kind of result holds."""
    head = (
        "# Kinds of results\n\n"
        "An analysis saves `NAME.npz` and, beside it, the same numbers as `NAME.csv`. The `.npz` holds arrays, and one "
        "entry `meta`, which is JSON text with `kind`, `facts` and `provenance`. These tables are written from the "
        "schema in `kdprobe.kinds`, which checks every result when it is saved and when it is read. Dimensions of one "
        "name have one size; `interval` stands for value, low end and high end. What is in *italics* may be absent.\n\n"
        "```python\n"
        "from kdprobe.results import load_result\n\n"
        'result = load_result("cka.npz", kind="cka")\n'
        'print(result.arrays["matrix"].shape, result.facts["teacher_layers"])\n'
        "```\n"
    )
    return head + "".join(_kind(name, kind) for name, kind in sorted(KINDS.items()))


def _kind(name: str, kind: Kind) -> str:
    arrays = [
        (_named(key, one.required), f"[{', '.join(one.dims.split())}]", _values(one))
        for key, one in kind.arrays.items()
    ]
    facts = [(_named(key, one.required), _fact(one)) for key, one in kind.facts.items()]
    origin = ", ".join(f"`{key}`" for key in kind.provenance)
    tables = [_table(("array", "dimensions", "values"), arrays), _table(("fact", "what it is"), facts)]
    return "\n\n".join([f"\n## {name}", *tables, f"Provenance: {origin}.\n"])


def _named(name: str, required: bool) -> str:
    return f"`{name}`" if required else f"*`{name}`*"


def _values(one: Values) -> str:
    words = [{"real": "numbers", "whole": "whole numbers", "uint8": "bytes"}[one.dtype]]
    words += [_worded(one.within)] * (one.within != (-inf, inf))
    words += [f"places among the {one.index}"] * bool(one.index)
    words += ["NaN where undefined"] * (one.nan != "none")
    words += ["rising"] * one.rising
    words += [f"at most `{one.at_most}`"] * bool(one.at_most)
    return ", ".join(words)


def _worded(within: tuple[float, float]) -> str:
    low, high = within
    return f"at least {low:g}" if high == inf else f"from {low:g} to {high:g}"


def _fact(one: Fact) -> str:  # noqa: PLR0911 (one for each type)
    match one:
        case Text(words=words):
            return " or ".join(f"`{word}`" for word in words) or "text"
        case Number(within=within, whole=whole):
            kind = "whole number" if whole else "number"
            return kind if within == (-inf, inf) else f"{kind} {_worded(within)}"
        case Flag():
            return "`true` or `false`"
        case List(of=of, dim=dim):
            return f"list of: {_fact(of)}" + (f", one for each of the {dim}" if dim and not dim.isdigit() else "")
        case Record(of=of):
            return "mapping" + (f" with {', '.join(f'`{key}`' for key in of)}" if of else "")
        case Dict(of=of):
            return f"mapping of names to: {_fact(of)}"
        case Maybe(of=of):
            return f"{_fact(of)}, or null"
        case _:
            return "any JSON value"


def dumps_page() -> str:
    """The layout of feature dumps."""
    first, _, rest = inspect.cleandoc(store.__doc__ or "").partition("\n\n")
    sets = [(f"`{name}`", *_rows(one)) for name, place in LAYOUT.items() for one in place.rows]
    head = (
        f"# Feature dumps\n\n{first}\n\n{rest}\n\nn samples come in k minibatches of b; `<role>` is `teacher` or "
        "`student`, and `<layer>` the name of a layer.\n\n## Data sets\n\n"
    )
    parts = [head + _table(("data set", "type", "dimensions", "what it is"), sets) + "\n"]
    for name, place in LAYOUT.items():
        if place.attributes:
            rows = [(f"`{key}`", *_attribute(one)) for key, one in place.attributes.items()]
            parts.append(f"\n## Attributes of `{name}`\n\n{_table(('attribute', 'stored as', 'what it is'), rows)}\n")
    return "".join(parts)


def _rows(one: StoredRows) -> tuple[str, str, str]:
    of = f"of `{one.content}`: " if one.content else ""
    return " or ".join(one.types), f"[{', '.join(one.dims.split())}]", of + one.about


def _attribute(one: Attribute) -> tuple[str, str]:
    stored = " or ".join(f"`{word}`" for word in one.words) or one.of
    missing = "" if one.missing is None else f"; where it is missing: `{json.dumps(one.missing)}`"
    return stored, one.about + missing


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |" for cells in lines)
