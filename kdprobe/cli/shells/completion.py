"""`kdprobe completion`: what a shell reads to complete kdprobe's command lines."""

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from kdprobe.terminal import echo

_SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


@click.command()
@click.argument("shell", type=click.Choice(list(_SHELLS)))
def completion(shell: str) -> None:
    """Print the completions of a shell.

    Written to where the shell looks for them, they complete commands, options and names in every new terminal. For
    zsh that is a file _kdprobe in a folder of $fpath, for fish ~/.config/fish/completions/kdprobe.fish, and for bash
    the file in the example.

    \b
    Example:
      kdprobe completion bash > ~/.local/share/bash-completion/completions/kdprobe
    """
    from kdprobe.cli.group import cli

    echo(_SHELLS[shell](cli, {}, "kdprobe", "_KDPROBE_COMPLETE").source())
