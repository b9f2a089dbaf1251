"""Networks: creating them by name, one view of their stages, and checkpoints that describe themselves."""

from kdprobe.models.checkpoint import load as load
from kdprobe.models.create import ModelInfo as ModelInfo
from kdprobe.models.create import create as create
from kdprobe.models.create import describe as describe
from kdprobe.models.stages import Features as Features
from kdprobe.models.stages import Stages as Stages
