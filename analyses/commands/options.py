"""Options that several analyses share, besides those of all commands (`kdprobe.cli.options`)."""

from collections.abc import Callable
from typing import Any

import click


def calibration_options(permutations: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--calibrate` and `--permutations`.

    Args:
        permutations: what the number of permutations does if calibration is not asked for.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option(
            "--permutations",
            type=click.IntRange(min=0),
            default=0,
            show_default="200 with --calibrate, otherwise 0",
            help=f"Number of random orders of the student's samples. {permutations}",
        )(command)
        return click.option(
            "--calibrate",
            is_flag=True,
            help="Set each value beside what chance gives: how far it exceeds its permutation null, with p values that "
            "hold for all pairs of layers together.",
        )(command)

    return decorate
