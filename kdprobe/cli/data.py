"""`kdprobe data`; everything heavy is imported when it runs."""

import click

from kdprobe.cli.options import quiet_option, trust_option
from kdprobe.errors import DataError
from kdprobe.terminal import echo, worded_count


@click.group()
def data() -> None:
    """Look at data sets.

    \b
    Example:
      kdprobe data check folder:my-images
    """


@data.command("check")
@click.argument("spec")
@quiet_option()
@trust_option
def check_data(spec: str, *, quiet: bool) -> None:
    """Count and decode the images of a data set.

    The images of each class are counted, every file is decoded, and the counts are compared with the published ones.
    SPEC is a data set, such as digits, folder:DIR or module:callable.

    \b
    Example:
      kdprobe data check rafdb:/data/RAF-DB
    """
    from kdprobe.data.check import check

    found = check(spec, quiet=quiet)
    echo(found.counts.to_string(index=False))
    for line in (*found.complaints, *found.left_out):
        echo(line)
    if found.complaints:
        raise DataError(f"{spec} is not as it should be: {worded_count(found.complaints, 'problem')}")
    others = (
        "1 other file or folder was" if found.n_left_out == 1 else f"{found.n_left_out} other files or folders were"
    )
    rest = f"{others} left out" if found.n_left_out else "nothing is wrong"
    echo(f"{spec}: {found.counts.train.sum()} training and {found.counts.test.sum()} test images, {rest}")
