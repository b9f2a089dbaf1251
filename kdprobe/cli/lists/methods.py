"""`kdprobe list methods`; everything heavy is imported when it runs."""

import json
from typing import TYPE_CHECKING

import click

from kdprobe.cli.lists.names import show_names
from kdprobe.terminal import echo

if TYPE_CHECKING:
    from kdprobe.distillers.described import MethodDescription
    from kdprobe.distillers.search import SearchRange


@click.command("methods")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def list_methods(names: tuple[str, ...]) -> None:
    """List the methods, or say all that is known of some.

    Of a NAME: what it reads of teacher and student, its options with their defaults and the ranges worth tuning, where
    the defaults come from, how many parameters are trained beside the student's, and a published accuracy.

    \b
    Example:
      kdprobe list methods
      kdprobe list methods rkd dropkd
    """
    from kdprobe.distillers import DISTILLERS
    from kdprobe.distillers.described import describe_method, summary_of

    if not names:
        about = {
            name: " - ".join(filter(None, (kind.reference, summary_of(kind)))) for name, kind in DISTILLERS.items()
        }
        show_names(about, "kdprobe.methods")
    for place, name in enumerate(names):
        echo(("\n" if place else "") + "\n".join(_lines(name, describe_method(name))))


def _lines(name: str, found: "MethodDescription") -> list[str]:
    method = found.method
    said = {
        "reference": method.reference,
        "teacher": found.teacher_reads,
        "student": found.student_reads,
        "extra parameters": f"{found.extra_parameters:,} ({found.pair})",
        "published": f"{method.published} %".replace(" (", " % (").removesuffix(" %") if method.published else "",
        "defaults": method.source,
    }
    lines = [f"{name}: {found.about}", *(f"  {key:16}  {text}" for key, text in said.items() if text)]
    for option, default in found.options.items():
        tuned = f"tuned {_range(method.search[option])}" if option in method.search else found.choices.get(option)
        lines.append(f"  method.{option} = {json.dumps(default)}{f'  ({tuned})' if tuned else ''}")
    return lines


def _range(searched: "SearchRange") -> str:
    from kdprobe.distillers.search import Choice, LogUniform

    if isinstance(searched, Choice):
        return "over " + ", ".join(map(json.dumps, searched.values))
    scale = "log-uniform " if isinstance(searched, LogUniform) else ""
    return f"{scale}from {searched.low:.3g} to {searched.high:.3g}"
