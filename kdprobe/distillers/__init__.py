"""Distillation methods by name; each stands in a file of its own."""

from kdprobe.config import Section
from kdprobe.distillers.base import Method as Method
from kdprobe.distillers.base import Progress as Progress
from kdprobe.distillers.dropkd import DropKD
from kdprobe.distillers.kd import KD
from kdprobe.distillers.plain import Plain

DISTILLERS: dict[str, type[Method]] = {
    "plain": Plain,
    "kd": KD,
    "dropkd": DropKD,
}


def option_types() -> dict[str, type[Section]]:
    """The typed options of each method, for checking configurations."""
    return {name: method.Options for name, method in DISTILLERS.items()}
