"""Networks: creating them by name, what is known about them, and checkpoints that describe themselves."""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from kdprobe.models.checkpoint import load as load
    from kdprobe.models.checkpoint import save as save
    from kdprobe.models.cifar import cifar_resnet as cifar_resnet
    from kdprobe.models.creation import ModelInfo as ModelInfo
    from kdprobe.models.creation import attach as attach
    from kdprobe.models.creation import create as create
    from kdprobe.models.creation import model_info as model_info
    from kdprobe.models.description import describe as describe
    from kdprobe.models.stages import Features as Features
    from kdprobe.models.stages import Shapes as Shapes
    from kdprobe.models.stages import Stages as Stages

__all__ = [
    "Features",
    "ModelInfo",
    "Shapes",
    "Stages",
    "attach",
    "cifar_resnet",
    "create",
    "describe",
    "load",
    "model_info",
    "save",
]

__getattr__, __dir__ = face(
    __name__,
    {
        "Features": "kdprobe.models.stages",
        "ModelInfo": "kdprobe.models.creation",
        "Shapes": "kdprobe.models.stages",
        "Stages": "kdprobe.models.stages",
        "attach": "kdprobe.models.creation",
        "cifar_resnet": "kdprobe.models.cifar",
        "create": "kdprobe.models.creation",
        "describe": "kdprobe.models.description",
        "model_info": "kdprobe.models.creation",
        "load": "kdprobe.models.checkpoint",
        "save": "kdprobe.models.checkpoint",
    },
)
