"""`kdprobe list`, the group."""

import click

from kdprobe.cli.lists.layers import list_layers
from kdprobe.cli.lists.methods import list_methods
from kdprobe.cli.lists.names import list_data, list_kinds, list_models, list_recipes


@click.group("list")
def lists() -> None:
    """List what there is by name, or a network's layers.

    Names are those of methods, models, data sets, recipes and kinds of results. What an installed package of
    one's own adds is marked with the package's name.

    \b
    Example:
      kdprobe list methods
      kdprobe list models "*vit_tiny*"
      kdprobe list layers resnet18
    """


for command in (list_methods, list_models, list_data, list_recipes, list_kinds, list_layers):
    lists.add_command(command)
