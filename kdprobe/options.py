"""Options that commands share."""

import click

overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Also over files in the way that kdprobe did not write as this very output."
)


def flags(**options: bool) -> list[str]:
    """The words that set these options of another command."""
    return [f"--{name}" for name, value in options.items() if value]
