"""The configuration of a run: typed sections, read from YAML, checked as a whole, written back."""

from typing import TYPE_CHECKING

from kdprobe import face

if TYPE_CHECKING:
    from kdprobe.config.parsing import override as override
    from kdprobe.config.parsing import parse as parse
    from kdprobe.config.parsing import quoted as quoted
    from kdprobe.config.parsing import write_yaml as write_yaml
    from kdprobe.config.sections import OF_TRAINING as OF_TRAINING
    from kdprobe.config.sections import AugmentConfig as AugmentConfig
    from kdprobe.config.sections import DataConfig as DataConfig
    from kdprobe.config.sections import MixingConfig as MixingConfig
    from kdprobe.config.sections import ModelConfig as ModelConfig
    from kdprobe.config.sections import NetworkFacts as NetworkFacts
    from kdprobe.config.sections import OptimizerConfig as OptimizerConfig
    from kdprobe.config.sections import ProbeConfig as ProbeConfig
    from kdprobe.config.sections import RunConfig as RunConfig
    from kdprobe.config.sections import SavingConfig as SavingConfig
    from kdprobe.config.sections import ScheduleConfig as ScheduleConfig
    from kdprobe.config.sections import Section as Section
    from kdprobe.config.sections import TeacherFacts as TeacherFacts
    from kdprobe.config.sections import TrainingConfig as TrainingConfig

__all__ = [
    "OF_TRAINING",
    "AugmentConfig",
    "DataConfig",
    "MixingConfig",
    "ModelConfig",
    "NetworkFacts",
    "OptimizerConfig",
    "ProbeConfig",
    "RunConfig",
    "SavingConfig",
    "ScheduleConfig",
    "Section",
    "TeacherFacts",
    "TrainingConfig",
    "override",
    "parse",
    "quoted",
    "write_yaml",
]

__getattr__, __dir__ = face(
    __name__,
    {
        "OF_TRAINING": "kdprobe.config.sections",
        "AugmentConfig": "kdprobe.config.sections",
        "DataConfig": "kdprobe.config.sections",
        "MixingConfig": "kdprobe.config.sections",
        "ModelConfig": "kdprobe.config.sections",
        "NetworkFacts": "kdprobe.config.sections",
        "OptimizerConfig": "kdprobe.config.sections",
        "ProbeConfig": "kdprobe.config.sections",
        "RunConfig": "kdprobe.config.sections",
        "SavingConfig": "kdprobe.config.sections",
        "ScheduleConfig": "kdprobe.config.sections",
        "Section": "kdprobe.config.sections",
        "TeacherFacts": "kdprobe.config.sections",
        "TrainingConfig": "kdprobe.config.sections",
        "override": "kdprobe.config.parsing",
        "parse": "kdprobe.config.parsing",
        "quoted": "kdprobe.config.parsing",
        "write_yaml": "kdprobe.config.parsing",
    },
)
