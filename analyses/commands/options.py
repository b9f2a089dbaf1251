"""Options that several analyses share, besides those of all commands (`kdprobe.cli.options`)."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from kdprobe.cli.options import Whole
from kdprobe.errors import ConfigError


def calibration_options(
    permutations: str, *, of: str = "the student's samples"
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """`--calibrate` and `--permutations`.

    Args:
        permutations: what the number of permutations does if calibration is not asked for.
        of: what is permuted.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        command = click.option(
            "--permutations",
            type=Whole(min=0),
            default=0,
            show_default="200 with --calibrate, otherwise 0",
            help=f"Number of random orders of {of}. {permutations}",
        )(command)
        return click.option(
            "--calibrate",
            is_flag=True,
            help="Set each value beside what chance gives: how far it exceeds its permutation null, with p values that "
            "hold for all pairs together.",
        )(command)

    return decorate


#: the number of groups of samples behind the intervals of measures other than CKA
sample_groups_option = click.option(
    "--groups",
    type=Whole(min=0),
    default=20,
    show_default=True,
    help="Number of groups of samples, one left out at a time, behind the intervals; 0 for no intervals.",
)


def check_source(features: tuple[Path, ...], networks: Mapping[str, object], **others: object) -> None:
    """Refuse networks and dumps together, and neither.

    Args:
        features: value of `--features`.
        networks: values of the options that name networks, by name.
        others: values of further options that only networks take, false where they were not given.

    Raises:
        ConfigError: naming the options.
    """
    if not features and not all(networks.values()):
        raise ConfigError("give --teacher and --student, or --features with dumps of both")
    unused = [name for name, value in {**networks, **others}.items() if value]
    if features and unused:
        named = " or ".join(f"--{name.replace('_', '-')}" for name in unused)
        raise ConfigError(f"--features takes no {named}: a dump has been made with them")
