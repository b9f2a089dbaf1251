"""`kdprobe list methods`, `models` and so on: what there is by name; everything heavy is imported when one runs."""

import inspect
from collections.abc import Mapping
from fnmatch import fnmatchcase
from itertools import takewhile

import click

from kdprobe.errors import ModelError, near_matches
from kdprobe.packages import offered_by
from kdprobe.terminal import echo


@click.command("models")
@click.argument("pattern", default="*")
def list_models(pattern: str) -> None:
    """List the networks that can be made by name.

    With a PATTERN, only those whose names match it.

    \b
    Example:
      kdprobe list models "*vit_tiny*"
    """
    from kdprobe.models.building import own_names

    names, added = own_names(), offered_by("kdprobe.models")
    if not any(fnmatchcase(name, pattern) for name in [*names, *added]):
        raise ModelError(f"no model's name matches {pattern!r}{near_matches(pattern, [*names, *added])}")
    show_names({name: "" for name in names if fnmatchcase(name, pattern)}, "kdprobe.models", pattern=pattern)


@click.command("data")
def list_data() -> None:
    """List the data sets, as they begin a SPEC.

    \b
    Example:
      kdprobe list data
    """
    from kdprobe.data import DATASETS

    show_names({name: _first_line(read) for name, read in DATASETS.items()}, "kdprobe.data")


@click.command("recipes")
@click.argument("name", required=False)
def list_recipes(name: str | None) -> None:
    """List the shipped recipes, or show the one called NAME.

    What is shown is a file that can be changed and trained: `kdprobe list recipes NAME > mine.yaml`.

    \b
    Example:
      kdprobe list recipes digits/resnet8-kd
    """
    from kdprobe.recipe import recipe_text, recipes

    if name is not None:
        echo(recipe_text(name).rstrip())
        return
    show_names({name: _comment(file.read_text(encoding="utf-8")) for name, file in recipes().items()})


@click.command("kinds")
def list_kinds() -> None:
    """List the kinds of results, with what each holds.

    \b
    Example:
      kdprobe list kinds
    """
    from kdprobe.kinds import KINDS

    show_names({name: ", ".join(kind.arrays) for name, kind in sorted(KINDS.items())}, "kdprobe.kinds")


def show_names(said: Mapping[str, str], group: str = "", *, pattern: str = "*") -> None:
    """A line for each name: kdprobe's own with what is said of them, then those that packages add to a group."""
    added = {name: origin for name, origin in sorted(offered_by(group).items()) if fnmatchcase(name, pattern)}
    lines = list(said.items()) + [
        (name, f"from {origin}" + (", but the name is kdprobe's own" if name in said else ""))
        for name, origin in added.items()
    ]
    width = max((len(name) for name, _ in lines), default=0)
    for name, text in lines:
        echo(f"{name:{width}}  {text}".rstrip())


def _first_line(thing: object) -> str:
    """What something's documentation begins with, on one line."""
    return " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())


def _comment(text: str) -> str:
    """The first sentence of the comment that a recipe begins with."""
    lines = takewhile(lambda line: line.startswith("#"), text.splitlines())
    return " ".join(line.removeprefix("#").strip() for line in lines).partition(". ")[0].rstrip(".")
