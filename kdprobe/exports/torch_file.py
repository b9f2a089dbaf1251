"""`--format torch`: an `ExportedProgram`, which torch runs alone, without the code of the network."""

from pathlib import Path

import torch

from kdprobe.exports.network import NetworkAlone, traced
from kdprobe.exports.runner import Runner


def write_torch(network: NetworkAlone, path: Path) -> None:
    """Write the network with torch.export.

    Raises:
        ExportError: if torch cannot trace it.
    """
    program = traced(network)
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={"kdprobe": network.description()})


def run_torch(path: Path, _network: NetworkAlone) -> Runner:
    """The network in a file."""
    with path.open("rb") as file:
        return Runner(f"torch {torch.__version__}", torch.export.load(file).module())


def use_torch(path: Path, _network: NetworkAlone) -> str:
    """How the file is used."""
    return f"torch.export.load({str(path)!r}).module()(images)"
