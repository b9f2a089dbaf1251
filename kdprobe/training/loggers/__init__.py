"""Where a run's metrics go besides its folder: TensorBoard, Weights & Biases, MLflow, and loggers of packages."""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from kdprobe.training.loggers.contract import Logger as Logger
    from kdprobe.training.loggers.making import make_loggers as make_loggers

__all__ = ["Logger", "make_loggers"]

__getattr__, __dir__ = face(
    __name__,
    {"Logger": "kdprobe.training.loggers.contract", "make_loggers": "kdprobe.training.loggers.making"},
)
