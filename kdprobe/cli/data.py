"""`kdprobe data`; everything heavy is imported when it runs."""

from typing import TYPE_CHECKING

import click

from kdprobe.cli.options import (
    trust_option,
)
from kdprobe.errors import DataError
from kdprobe.terminal import echo

if TYPE_CHECKING:
    pass


@click.group()
def data() -> None:
    """Look at data sets."""


@data.command("check")
@click.argument("spec")
@click.option("--quiet", is_flag=True, help="No progress.")
@trust_option
def check_data(spec: str, *, quiet: bool) -> None:
    """Count the images of each class, decode every file, and compare with the published counts.

    Example: kdprobe data check rafdb:/data/RAF-DB
    """
    from kdprobe.data.check import check

    found = check(spec, quiet=quiet)
    echo(found.counts.to_string(index=False))
    for complaint in found.complaints:
        echo(complaint)
    for line in found.left_out:
        echo(line)
    if found.complaints:
        raise DataError(f"{spec} is not as it should be: {len(found.complaints)} complaints")
    others = f"{found.n_left_out} other {'file or folder was' if found.n_left_out == 1 else 'files or folders were'}"
    rest = f"{others} left out" if found.n_left_out else "nothing to complain of"
    echo(f"{spec}: {found.counts.train.sum()} training and {found.counts.test.sum()} test images, {rest}")
