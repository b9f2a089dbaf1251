"""What a shell offers for a word that is half typed, where click does not know it by itself."""

from collections.abc import Callable, Iterable

import click
from click.shell_completion import CompletionItem

Completing = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]

#: where a file or a folder of the user's will do too, which the shell knows better
_FILES = CompletionItem("", type="file")


def recipe_words(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Shipped recipes, and files."""
    from kdprobe.recipe import recipes

    return [*_beginning(recipes(), begun), _FILES]


def method_words(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Methods, those of installed packages among them; after a comma, the next of a list."""
    from kdprobe.distillers import DISTILLERS

    before, comma, last = begun.rpartition(",")
    taken = before.split(",")
    return [CompletionItem(before + comma + name) for name in DISTILLERS if name.startswith(last) and name not in taken]


def data_words(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Names of data sets; those that lie in a folder with the colon behind which it is named."""
    from kdprobe.data import DATASETS

    return _beginning([name if name == "digits" else f"{name}:" for name in DATASETS], begun)


def checkpoint_words(context: click.Context, parameter: click.Parameter, begun: str) -> list[CompletionItem]:
    """Run folders and files, and the beginning of published weights."""
    return [*_beginning(["timm:"] if begun else [], begun), _FILES]


def _beginning(names: Iterable[str], begun: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(begun)]
