"""What DropKD's trained encoders, dropout and decoders reconstruct of feature maps.

The general part of a map is the decoder's output, averaged over dropout masks; it is compared with what the decoder was
trained to give, the map on the common grid with standardised channels.
"""

from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kdprobe.devices import exact_float32
from kdprobe.distillers.dropkd import DropKD, DropKDOptions, standardised
from kdprobe.distillers.pairing import resized
from kdprobe.distillers.projection import Projection, drop
from kdprobe.errors import AnalysisError, CheckpointError
from kdprobe.formats.parsing import parsing
from kdprobe.models.checkpoint import AUXILIARY, read_tensors
from kdprobe.models.stages import Shapes

N_MASKS = 8
RATES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
_BATCH = 256


class Reconstruction(NamedTuple):
    """Maps and what is reconstructed of them, float32 [n, c * h * w].

    Attributes:
        teacher_target: the teacher's standardised map on the common grid.
        teacher: mean of its decoder's outputs over masks.
        student_target: the same for the student.
        student: the same for the student.
    """

    teacher_target: Tensor
    teacher: Tensor
    student_target: Tensor
    student: Tensor


def load_dropkd(path: str | Path) -> DropKD:
    """The trained encoders and decoders of a DropKD run.

    Args:
        path: its `auxiliary.safetensors`, or the run's folder.

    Raises:
        CheckpointError: if the file is missing or damaged.
        AnalysisError: if it is of another method, or a run has none.

    Example:
        >>> from analyses.knowledge import load_dropkd
        >>> load_dropkd("runs/dropkd")  # doctest: +SKIP
    """
    path = Path(path)
    if path.is_dir():
        if not (path / AUXILIARY).is_file():
            raise AnalysisError(f"{path} has no {AUXILIARY}, as a DropKD run has; give one, or another --method")
        path = path / AUXILIARY
    meta, tensors = read_tensors(path)
    with parsing(path, CheckpointError, expected="the modules of a method"):
        options = dict(meta["method"]) if meta.get("format") == "kdprobe-auxiliary" else {}
        name = options.pop("name", None)
        if name != "dropkd":
            raise AnalysisError(f"{path} holds the modules of {name or 'no method'}, but those of dropkd are needed")
        method = DropKD(DropKDOptions(**options), _shapes(meta["student"]), _shapes(meta["teacher"]))
        method.load_state_dict(tensors)
    return method.eval()


@exact_float32
@torch.inference_mode()
def reconstruct(
    teacher: Float[Tensor, "n ct ht wt"],
    student: Float[Tensor, "n cs hs ws"],
    method: DropKD,
    *,
    stage: int = 0,
    rates: tuple[float, float] | None = None,
    n_masks: int = N_MASKS,
    seed: int = 0,
) -> Reconstruction:
    """What one stage's encoders, dropout and decoders reconstruct of both networks' maps.

    Args:
        teacher: maps of the teacher's stage.
        student: maps of the student's stage.
        method: from `load_dropkd`.
        stage: which of its stage pairs, from 0.
        rates: of dropout of teacher and student, in [0, 1); those of the training if not given.
        n_masks: averaged over.
        seed: of the masks.

    Raises:
        AnalysisError: for a stage or rate that does not exist, or maps of other widths than the trained ones.
    """
    if not 0 <= stage < len(method.pairs):
        raise AnalysisError(f"this DropKD run has stage pairs 0 to {len(method.pairs) - 1}, but not {stage}")
    options = method.options
    chosen = rates or (options.feature_rate_teacher, options.feature_rate_student)
    if not all(0 <= rate < 1 for rate in chosen):
        raise AnalysisError(f"dropout rates must be in [0, 1), but are {chosen[0]:g} and {chosen[1]:g}")
    projections = method.teacher_projections[stage], method.student_projections[stage]
    found: list[Tensor] = []
    for who, maps, network, rate in zip(("teacher", "student"), (teacher, student), projections, chosen, strict=True):
        _check_width(who, maps, network)
        same_grid = resized(maps.float(), method.sizes[stage], options.resize)
        generator = torch.Generator().manual_seed(seed)
        decoded = [
            _decoded(part, network, options, rate, n_masks, generator) for part in torch.split(same_grid, _BATCH)
        ]
        found += [standardised(same_grid).flatten(1), torch.cat(decoded).flatten(1)]
    return Reconstruction(*found)


def _decoded(
    maps: Tensor, network: nn.Module, options: DropKDOptions, rate: float, n_masks: int, generator: torch.Generator
) -> Tensor:
    """Mean of the decoded maps over masks; one pass where nothing is dropped."""
    assert isinstance(network, Projection)
    encoded = network.encoder(maps)
    n, dim, height, width = encoded.shape
    shapes = {"element": (n, dim, height, width), "channel": (n, dim, 1, 1), "position": (n, 1, height, width)}
    passes, total = n_masks if rate else 1, torch.zeros(())
    for _ in range(passes):
        stays = torch.rand(shapes[options.granularity], generator=generator).to(maps.device) >= rate
        total = total.to(maps.device) + network.decoder(drop(encoded, stays, rate))
    return total / passes


def _check_width(who: str, maps: Tensor, network: nn.Module) -> None:
    assert isinstance(network, Projection)
    width = network.decoder[-1].out_channels
    if maps.ndim != 4 or maps.shape[1] != width:
        raise AnalysisError(
            f"dropkd needs the {who}'s maps [n, {width}, h, w], as in its training, but got {list(maps.shape)}"
        )


def _shapes(meta: dict[str, object]) -> Shapes:
    """Shapes from JSON, whose lists become tuples again."""
    return Shapes(**{key: _tuples(value) for key, value in meta.items()})  # type: ignore[arg-type]


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
