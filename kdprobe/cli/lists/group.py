"""`kdprobe list`, the group."""

import click

from kdprobe.cli.lists.layers import list_layers


@click.group("list")
def lists() -> None:
    """List the layers of a network.

    \b
    Example:
      kdprobe list layers resnet18
    """


lists.add_command(list_layers)
