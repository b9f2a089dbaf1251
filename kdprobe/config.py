"""The configuration of a run: typed sections, read from YAML, checked as a whole, written back.

A distillation method has options of its own (`distillers`), which this module cannot know;
`parse` takes the table of their types and reports their mistakes with all the others.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from kdprobe.errors import ConfigError, near_matches
from kdprobe.formats.yamls import read_yaml

PositiveFloat = Field(gt=0)
_Fraction = Annotated[float, Field(ge=0, lt=1)]
_POLICY = re.compile(r"rand(-(m\d+|n[1-9]|p(0?\.\d+|1(\.0*)?)|mstd\d+(\.\d+)?|mmax\d+|inc[01]|tweights|t3a))*")


class Section(BaseModel):
    """Base of all sections: unknown keys are mistakes, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_boolean(cls, value: Any, info: Any) -> Any:
        """To Python, true is 1."""
        field = cls.model_fields[str(info.field_name)]
        items = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(item, bool) for item in items) and not _takes_booleans(field.annotation):
            raise ValueError("must not be true or false")
        return value


def _takes_booleans(annotation: Any) -> bool:
    return annotation in (bool, Any) or any(map(_takes_booleans, get_args(annotation)))


class AugmentConfig(Section):
    """How training images are varied, independently for each image.

    Attributes:
        crop: `pad` shifts within a zero border, `resized` takes a random area (files only), `none`.
        padding: width of the border in pixels of the network's input.
        flip: mirror half of the images.
        rand_augment: timm's RandAugment policy, such as `rand-m9-mstd0.5-inc1`, before shift and flip.
        erase: probability of erasing a random box of an image.
        repeats: how often each image comes in an epoch, varied in different ways; the epoch stays as long
            and holds fewer of the images.
    """

    crop: Literal["pad", "resized", "none"] = "pad"
    padding: int = Field(4, ge=0, le=1024)
    flip: bool = True
    rand_augment: str | None = None
    erase: float = Field(0.0, ge=0, le=1)
    repeats: int = Field(1, ge=1, le=100)

    @field_validator("rand_augment")
    @classmethod
    def _is_a_policy(cls, text: str | None) -> str | None:
        if text is not None and not _POLICY.fullmatch(text):
            raise ValueError("must be a timm policy such as rand-m9-mstd0.5-inc1, of m, n, p, mstd, mmax, inc and t")
        return text

    @property
    def varies(self) -> bool:
        """Whether an image looks different from epoch to epoch."""
        return self.crop != "none" or self.flip or self.rand_augment is not None or self.erase > 0


class DataConfig(Section):
    """Where the images come from.

    Attributes:
        spec: `digits`, `cifar10:DIR`, `folder:DIR`, ... (see the data package).
        image_size: side of the network's input in pixels; the data set's own if not given.
        storage: `memory` keeps decoded uint8 images, `files` decodes in workers, `auto` decides by size.
        holdout: fraction of the training images kept for evaluation instead of the test images.
        per_class: at most this many training images of each class, chosen by the seed; all if not given.
        workers: processes that decode and vary image files.
        skip_bad: count and leave out images that cannot be decoded instead of stopping at the first.
    """

    spec: str
    image_size: int | None = Field(None, ge=8, le=16384)
    storage: Literal["auto", "memory", "files"] = "auto"
    holdout: float = Field(0.0, ge=0, lt=1)
    per_class: int | None = Field(None, ge=1)
    workers: int = Field(2, ge=0, le=1024)
    skip_bad: bool = False
    augment: AugmentConfig = AugmentConfig()


class ModelConfig(Section):
    """A network by name: a CIFAR ResNet or any timm classifier, with its arguments."""

    name: str
    args: dict[str, Any] = {}
    pretrained: bool = False


class OptimizerConfig(Section):
    """The optimizer; `weight_decay` does not touch biases and norms when `decay_norms` is false."""

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = Field(0.05, gt=0)
    weight_decay: float = Field(5e-4, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    betas: tuple[_Fraction, _Fraction] = (0.9, 0.999)
    decay_norms: bool = True
    auxiliary_lr_factor: float = Field(1.0, gt=0)

    @field_validator("nesterov")
    @classmethod
    def _has_momentum(cls, nesterov: bool, info: Any) -> bool:
        if nesterov and (info.data.get("name"), info.data.get("momentum")) == ("sgd", 0):
            raise ValueError("needs a momentum above 0")
        return nesterov


class ScheduleConfig(Section):
    """Learning rate over epochs, updated at every step.

    Attributes:
        name: `constant`; `step` (times `gamma` at each milestone); `exponential` (times `gamma` each
            epoch after the warm-up); `cosine` (to `final_factor`); `onecycle` (linear up, then cosine down).
        warmup_epochs: linear rise from 4 % of the peak; for `onecycle` 30 % of the epochs if not given.
        milestones: epochs after which `step` multiplies.
        final_factor: last learning rate of `cosine` and `onecycle` as a fraction of the peak.
    """

    name: Literal["constant", "step", "exponential", "cosine", "onecycle"] = "cosine"
    warmup_epochs: float | None = Field(None, ge=0)
    milestones: tuple[int, ...] = ()
    gamma: float = Field(0.1, gt=0, le=1)
    final_factor: float = Field(0.0, ge=0, le=1)


class SavingConfig(Section):
    """When a run saves what it needs to continue; it always does at its end and when it is asked to stop.

    Attributes:
        epochs: save after each multiple of this number of epochs.
        minutes: also save inside an epoch, when this many minutes have passed since the last time.
        snapshots: keep the network before training and after each multiple of this number of epochs.
    """

    epochs: int = Field(1, ge=1)
    minutes: float | None = Field(None, ge=0)
    snapshots: int | None = Field(None, ge=1)


class MixingConfig(Section):
    """Mixing pairs of training images and their labels, through timm.

    Attributes:
        mixup: alpha of mixup, 0 for none.
        cutmix: alpha of cutmix, 0 for none.
        probability: probability that a batch is mixed.
        switch: probability of cutmix where both are on.
    """

    mixup: float = Field(0.0, ge=0)
    cutmix: float = Field(0.0, ge=0)
    probability: float = Field(1.0, ge=0, le=1)
    switch: float = Field(0.5, ge=0, le=1)


class TrainingConfig(Section):
    """How long, how fast and how exactly to train.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per update, of all processes together.
        accumulate: pieces that a batch is computed in, one after another, to save memory.
        optimizer: see `OptimizerConfig`.
        schedule: see `ScheduleConfig`.
        label_smoothing: that of the cross entropy.
        clip_grad_norm: largest norm of the gradient.
        precision: arithmetic of the forward pass; parameters stay float32. When the run starts, `auto` takes bf16 where
            the device computes it natively, else fp32; a resumed run keeps what it started with.
        channels_last: memory layout of maps; `auto` takes it in half precision and on CUDA, where it pays.
        compile: run the networks through `torch.compile`.
        ema_decay: average the weights with this decay; the average is evaluated and exported.
        sync_bn: batch norm over the shards of all processes.
        mixing: see `MixingConfig`.
        cache_teacher: compute the teacher's logits once; only without augmentation.
        saving: see `SavingConfig`.
    """

    epochs: int = Field(1, ge=1)
    batch_size: int = Field(64, ge=1)
    accumulate: int = Field(1, ge=1)
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    clip_grad_norm: float | None = Field(None, gt=0)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    channels_last: bool | Literal["auto"] = "auto"
    compile: bool = False
    ema_decay: float | None = Field(None, gt=0, lt=1)
    sync_bn: bool = False
    mixing: MixingConfig = MixingConfig()
    cache_teacher: bool = False
    saving: SavingConfig = SavingConfig()

    @model_validator(mode="before")
    @classmethod
    def _without_bad_steps(cls, values: Any) -> Any:
        """Leave out what configurations of 0.1.0 hold: after how many skipped steps to stop. No step is skipped now."""
        return (
            {key: value for key, value in values.items() if key != "bad_steps"} if isinstance(values, dict) else values
        )


class ProbeConfig(Section):
    """Compare student and teacher (CKA) as they were after each multiple of `every` epochs, once the run has ended."""

    every: int = Field(ge=1)


class TeacherFacts(Section):
    """What the file of a teacher given as NAME@FILE or timm:NAME does not say; inferred or the default if not given.

    Attributes:
        n_classes: C.
        image_size: side of its input in pixels; the student's if not given, for NAME@FILE.
        mean: per channel, that its input is standardised with.
        std: per channel.
        args: further arguments of the network's constructor.
    """

    n_classes: int | None = Field(None, ge=0)
    image_size: int | None = Field(None, ge=1)
    mean: tuple[float, ...] | None = Field(None, min_length=1)
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(None, min_length=1)
    args: dict[str, Any] | None = None


class RunConfig(Section):
    """Everything that decides the outcome of a run.

    Attributes:
        data: see `DataConfig`.
        model: the network that is trained (the student, where there is a teacher).
        teacher: run folder, checkpoint file or `timm:NAME`; only with a method that needs one.
        teacher_facts: see `TeacherFacts`.
        method: `{name: ..., options of that method}`.
        training: schedule, optimizer, precision.
        probe: see `ProbeConfig`; nothing is compared if not given.
        seed: seed of initialisation, shuffling and augmentation.
    """

    data: DataConfig
    model: ModelConfig
    teacher: str | None = None
    teacher_facts: TeacherFacts | None = None
    method: dict[str, Any] = {"name": "plain"}
    training: TrainingConfig = TrainingConfig()
    probe: ProbeConfig | None = None
    seed: int = Field(0, ge=0, lt=2**64)

    @field_validator("probe")
    @classmethod
    def _has_a_teacher(cls, probe: ProbeConfig | None, info: Any) -> ProbeConfig | None:
        if probe is not None and info.data.get("teacher") is None:
            raise ValueError("must be left out where there is no teacher to compare with")
        return probe

    def keeps_snapshot(self, epoch: int) -> bool:
        """Whether the network is kept as it is after this many epochs."""
        wanted = (self.training.saving.snapshots, None if self.probe is None else self.probe.every)
        return any(every is not None and epoch % every == 0 for every in wanted)


def parse(data: Any, methods: Mapping[str, type[Section]], *, source: str = "configuration") -> RunConfig:
    """Check a nested mapping and fill in the defaults, the method's own included.

    Args:
        data: what YAML gave.
        methods: type of the options of each method, by name.
        source: file or recipe, for messages.

    Raises:
        ConfigError: if there are mistakes, naming every one with its dotted path in one line.
    """
    if not isinstance(data, Mapping):
        raise ConfigError(f"{source} must be a mapping of sections, but is {type(data).__name__}")
    if isinstance(data.get("method"), str):
        data = {**data, "method": {"name": data["method"]}}
    config, mistakes = None, []
    try:
        config = RunConfig.model_validate(data)
    except ValidationError as error:
        mistakes += _mistakes(error, RunConfig)
    method, method_mistakes = _parse_method(data.get("method", {"name": "plain"}), methods)
    mistakes += method_mistakes
    if mistakes or config is None:
        count = f"{len(mistakes)} mistakes" if len(mistakes) > 1 else "a mistake"
        raise ConfigError(f"{source} has {count}: " + "; ".join(mistakes))
    return config.model_copy(update={"method": method})


def _parse_method(data: Any, methods: Mapping[str, type[Section]]) -> tuple[dict[str, Any], list[str]]:
    if not isinstance(data, Mapping) or not isinstance(data.get("name"), str):
        return {}, ["method.name: a method's name is needed" + near_matches("", methods)]
    name = data["name"]
    if name not in methods:
        return {}, [f"method.name: no method {name!r}{near_matches(name, methods)}"]
    options = {key: value for key, value in data.items() if key != "name"}
    try:
        return {"name": name, **methods[name].model_validate(options).model_dump(mode="json")}, []
    except ValidationError as error:
        return {}, [f"method.{mistake}" for mistake in _mistakes(error, methods[name])]


def _mistakes(error: ValidationError, root: type[Section]) -> list[str]:
    found = []
    for item in error.errors():
        path = ".".join(map(str, item["loc"]))
        if item["type"] == "extra_forbidden":
            known = _keys_at(root, item["loc"][:-1])
            found.append(f"{path}: unknown key{near_matches(str(item['loc'][-1]), known)}")
        elif item["type"] == "missing":
            found.append(f"{path}: is needed")
        else:
            message = item["msg"].removeprefix("Value error, ")
            found.append(f"{path}: {message[:1].lower()}{message[1:]}, but is {item['input']!r}")
    return found


def _keys_at(root: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    section: Any = root
    for key in location:
        section = section.model_fields[key].annotation
        section = next((kind for kind in get_args(section) if kind is not type(None)), section)  # of one or none
    return list(section.model_fields)


def write_yaml(config: RunConfig) -> str:
    """The configuration as YAML that `read_yaml` and `parse` turn into the same configuration."""
    text: str = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    return text


def override(data: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Apply `a.b=value` assignments to a nested mapping; values are YAML.

    Returns:
        a changed copy.

    Raises:
        ConfigError: if an assignment has no `=`, or runs through something that is not a section.
    """
    changed: dict[str, Any] = _copy(data)
    for assignment in assignments:
        path, equals, value = assignment.partition("=")
        if not equals or not path:
            raise ConfigError(f"--set takes KEY.KEY=VALUE, but got {assignment!r}")
        *parents, last = path.strip().split(".")
        section = changed
        for key in parents:
            section = section.setdefault(key, {})
            if not isinstance(section, dict):
                raise ConfigError(f"--set {assignment}: {key!r} is a value, not a section")
        section[last] = read_yaml(value, source=f"the value in --set {assignment}")
    return changed


def quoted(text: str) -> str:
    """A text as a YAML value that is this text, whatever is in it."""
    return json.dumps(text, ensure_ascii=False)


def _copy(value: Any) -> Any:
    return {key: _copy(item) for key, item in value.items()} if isinstance(value, dict) else value
