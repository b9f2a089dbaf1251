"""The command line: one file per command, the options that they share, and the group that finds them."""

from kdprobe.cli.group import main as main
from kdprobe.cli.group import run as run
