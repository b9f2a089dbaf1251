"""The sections of a configuration, typed and with their ranges."""

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

_Fraction = Annotated[float, Field(ge=0, lt=1)]
_OUTPUT = re.compile(r"logits|pooled|tokens|qkv|(maps|preacts)(\.\d+)?")
_POLICY = re.compile(r"rand(-(m\d+|n[1-9]|p(0?\.\d+|1(\.0*)?)|mstd\d+(\.\d+)?|mmax\d+|inc[01]|tweights|t3a))*")


class Section(BaseModel):
    """Base of all sections: unknown keys are mistakes, values never change.

    Example:
        >>> from kdprobe.config import Section
        >>> class Options(Section):
        ...     weight: float = 0.5
        >>> Options(weight=2).weight
        2.0
    """

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
        period: the variations of an epoch come again after this number of epochs, in another order; never, if not
            given.

    Example:
        >>> from kdprobe.config import AugmentConfig
        >>> AugmentConfig(period=10).varied_as(12), AugmentConfig(crop="none", flip=False).varies
        (2, False)
    """

    crop: Literal["pad", "resized", "none"] = "pad"
    padding: int = Field(4, ge=0, le=1024)
    flip: bool = True
    rand_augment: str | None = None
    erase: float = Field(0.0, ge=0, le=1)
    repeats: int = Field(1, ge=1, le=100)
    period: int | None = Field(None, ge=1)

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

    def varied_as(self, epoch: int) -> int:
        """The first epoch with the same variations, from 0: all are the same where nothing varies."""
        return epoch % (self.period or epoch + 1) if self.varies else 0


class DataConfig(Section):
    """Where the images come from.

    Attributes:
        spec: `digits`, `cifar10:DIR`, `folder:DIR`, ... (see the data package).
        image_size: side of the network's input in pixels; the data set's own if not given.
        storage: `memory` keeps decoded uint8 images, `files` decodes in workers, `auto` decides by size.
        holdout: fraction of the training images kept for evaluation instead of the test images.
        per_class: at most this many training images of each class, chosen by the seed; all if not given.
        decode: `exact` as Pillow does, or `fast`, to slightly different pixels (`kdprobe.data.decode`).
        workers: processes that decode and vary image files.
        skip_bad: count and leave out images that cannot be decoded instead of stopping at the first.
        seed: decides which images are held out or few, their order and their variations; the run's if not given.

    Example:
        >>> from kdprobe.config import DataConfig
        >>> DataConfig(spec="digits").seed_or(7), DataConfig(spec="digits", seed=1).seed_or(7)
        (7, 1)
    """

    spec: str
    image_size: int | None = Field(None, ge=8, le=16384)
    storage: Literal["auto", "memory", "files"] = "auto"
    holdout: float = Field(0.0, ge=0, lt=1)
    per_class: int | None = Field(None, ge=1)
    decode: Literal["exact", "fast"] = "exact"
    workers: int = Field(2, ge=0, le=1024)
    skip_bad: bool = False
    seed: int | None = Field(None, ge=0, lt=2**64)
    augment: AugmentConfig = AugmentConfig()

    def seed_or(self, seed: int) -> int:
        """The seed of everything about images, in a run of this seed."""
        return seed if self.seed is None else self.seed


class NetworkFacts(Section):
    """What is known of a network besides its name; observed, or read from its file, where not given.

    Attributes:
        mean: mean of each channel, with which its input is standardised.
        std: standard deviation of each channel.
        stages: modules that end a stage, shallow to deep.
        classifier: the module that turns pooled features into logits.
        prefix_tokens: number of class, distillation and register tokens in front of the patch tokens.
        output: the field of its output, or its place in a tuple, that holds the logits.

    Example:
        >>> from kdprobe.config import NetworkFacts
        >>> NetworkFacts(mean=[0.5], std=[0.25], classifier="head").model_dump(exclude_none=True)
        {'mean': (0.5,), 'std': (0.25,), 'classifier': 'head'}
    """

    mean: tuple[float, ...] | None = Field(None, min_length=1)
    std: tuple[Annotated[float, Field(gt=0)], ...] | None = Field(None, min_length=1)
    stages: tuple[str, ...] | None = Field(None, min_length=1)
    classifier: str | None = None
    prefix_tokens: int | None = Field(None, ge=0)
    output: str | int | None = None


class ModelConfig(NetworkFacts):
    """A network by name: a CIFAR ResNet, any timm network, or `module:callable`, with its arguments.

    Attributes:
        name: of the network, or `module:callable` or `module:callable@FILE` that makes one.
        args: what its constructor is given besides the number of classes, as it calls them.
        weights: FILE, FILE#KEY or a run folder, whose tensors it starts from; its classifier is new where classes
            differ. A run that has begun does not need it any more.
        pretrained: start from timm's published weights.

    Example:
        >>> from kdprobe.config import ModelConfig
        >>> ModelConfig(name="resnet8", stages=["layer1", "layer3"]).stages
        ('layer1', 'layer3')
    """

    name: str
    args: dict[str, Any] = {}
    pretrained: bool = False
    weights: str | None = None

    @field_validator("weights")
    @classmethod
    def _is_one_start(cls, weights: str | None, info: Any) -> str | None:
        if weights is not None and info.data.get("pretrained"):
            raise ValueError("must be left out where model.pretrained takes the published weights")
        return weights


class OptimizerConfig(Section):
    """The optimizer of the student and of the method's own modules.

    Attributes:
        name: `sgd`, `adam` or `adamw`, as torch has them.
        lr: the highest learning rate, which `training.schedule` varies.
        weight_decay: added to the gradient; of `adamw` taken off the weights beside it.
        momentum: of `sgd`.
        nesterov: whether `sgd` looks ahead.
        betas: of `adam` and `adamw`.
        decay_norms: false keeps weight_decay from biases and the parameters of norms.
        auxiliary_lr_factor: what the learning rate of the method's own modules is multiplied by.

    Example:
        >>> from kdprobe.config import OptimizerConfig
        >>> OptimizerConfig(name="adamw", lr=1e-3).betas
        (0.9, 0.999)
    """

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
        gamma: what `step` and `exponential` multiply by.
        final_factor: last learning rate of `cosine` and `onecycle` as a fraction of the peak.

    Example:
        >>> from kdprobe.config import ScheduleConfig
        >>> ScheduleConfig(name="step", milestones=[30, 60]).gamma
        0.1
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
        seconds: but after the first time not before so many seconds have passed since the last one; 0 saves after each
            of those epochs.
        minutes: also save inside an epoch, when this many minutes have passed since the last time.
        snapshots: keep the network before training and after each multiple of this number of epochs.

    Example:
        >>> from kdprobe.config import SavingConfig
        >>> SavingConfig(snapshots=10).epochs
        1
    """

    epochs: int = Field(1, ge=1)
    seconds: float = Field(60.0, ge=0)
    minutes: float | None = Field(None, ge=0)
    snapshots: int | None = Field(None, ge=1)


class MixingConfig(Section):
    """Mixing pairs of training images and their labels, through timm.

    Attributes:
        mixup: alpha of mixup, 0 for none.
        cutmix: alpha of cutmix, 0 for none.
        probability: probability that a batch is mixed.
        switch: probability of cutmix where both are on.

    Example:
        >>> from kdprobe.config import MixingConfig
        >>> MixingConfig(mixup=0.2).cutmix
        0.0
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
        freeze: patterns of names of parameters and modules that are not trained, such as `stem` or `layer*`; `!` in
            front leaves out. What is frozen stays in eval mode: batch norms keep their statistics.
        evaluate: judge the network after all `epochs`, or once at the `end`, so that nothing is seen of the evaluation
            images before.
        saving: see `SavingConfig`.

    Example:
        >>> from kdprobe.config import TrainingConfig
        >>> TrainingConfig(epochs=3, optimizer={"lr": 0.1}).optimizer.lr
        0.1
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
    freeze: tuple[str, ...] = ()
    evaluate: Literal["epochs", "end"] = "epochs"
    saving: SavingConfig = SavingConfig()

    @model_validator(mode="before")
    @classmethod
    def _without_what_is_gone(cls, values: Any) -> Any:
        """Leave out what older configurations hold and what no longer makes a difference.

        These are after how many skipped steps to stop, as no step is skipped now, and whether the teacher's logits are
        computed once, as `teacher.store` does.
        """
        gone = ("bad_steps", "cache_teacher")
        return {key: value for key, value in values.items() if key not in gone} if isinstance(values, dict) else values


class ProbeConfig(Section):
    """Compare student and teacher (CKA) over the epochs, once the run has ended.

    Attributes:
        every: compare them as they were after each multiple of so many epochs.

    Example:
        >>> from kdprobe.config import ProbeConfig, RunConfig
        >>> sections = {"data": {"spec": "digits"}, "model": {"name": "resnet8"}, "teacher": "teacher"}
        >>> config = RunConfig(**sections, probe=ProbeConfig(every=10))
        >>> config.keeps_snapshot(20), config.keeps_snapshot(25)
        (True, False)
    """

    every: int = Field(ge=1)


def _an_output(name: str) -> str:
    if not _OUTPUT.fullmatch(name):
        raise ValueError("must be logits, pooled, tokens, qkv, maps or preacts, or maps.N of one stage")
    return name


class TeacherFacts(NetworkFacts):
    """What is said of a teacher besides where it is.

    Attributes:
        n_classes: C; 0 for a network without a classifier.
        image_size: side of its input in pixels; the student's if not given, for NAME@FILE.
        args: further arguments of the network's constructor.
        classes: names of the teacher's classes in their order, or a mapping from those of the data's classes that have
            another name to the teacher's name or number for them; needed by methods that read logits, where its classes
            are not the data's.
        shuffle: give each image the teacher's answers, and all its features, of another image of the same batch: a
            control, of which a student can learn nothing about single images.
        store: folder that keeps the teacher's outputs, so that they are computed once for all runs on the same images
            with the same `data.seed`.
        store_dtype: precision in which they are kept; float32 if not given.
        store_outputs: which are kept, besides those that the method reads, for runs of other methods; `maps` are those
            of all stages, `maps.3` that of one.

    Example:
        >>> from kdprobe.config import TeacherFacts
        >>> TeacherFacts(image_size=224, shuffle=True).of_network()
        {'image_size': 224}
    """

    n_classes: int | None = Field(None, ge=0)
    image_size: int | None = Field(None, ge=1)
    args: dict[str, Any] | None = None
    classes: tuple[str, ...] | dict[str, str | int] | None = None
    shuffle: bool = False
    store: str | None = None
    store_dtype: Literal["float32", "float16"] | None = None
    store_outputs: tuple[Annotated[str, AfterValidator(_an_output)], ...] | None = Field(None, min_length=1)

    @field_validator("store_dtype", "store_outputs")
    @classmethod
    def _has_a_store(cls, value: Any, info: Any) -> Any:
        if value is not None and info.data.get("store") is None:
            raise ValueError("must be left out where teacher.store is not given")
        return value

    def of_network(self) -> dict[str, Any]:
        """What is said of the network itself, as `kdprobe.load` takes it."""
        return self.model_dump(exclude_none=True, exclude=OF_TRAINING)


#: what is said of a teacher's part in a training, not of the network
OF_TRAINING = {"classes", "shuffle", "store", "store_dtype", "store_outputs"}


class RunConfig(Section):
    """Everything that decides the outcome of a run.

    Attributes:
        data: see `DataConfig`.
        model: the network that is trained (the student, where there is a teacher).
        teacher: run folder, checkpoint file, NAME@FILE or `timm:NAME`; only with a method that needs one. A mapping
            `{path: ..., facts}` says both where it is and the facts.
        teacher_facts: see `TeacherFacts`.
        method: `{name: ..., options of that method}`.
        training: schedule, optimizer, precision.
        probe: see `ProbeConfig`; nothing is compared if not given.
        seed: seed of initialisation, shuffling and augmentation; `data.seed` decides the latter two where it is given.

    Example:
        >>> from kdprobe.config import RunConfig
        >>> teacher = {"path": "vit.safetensors", "image_size": 224}
        >>> config = RunConfig(data={"spec": "digits"}, model={"name": "resnet8"}, teacher=teacher)
        >>> config.teacher, config.teacher_facts.image_size, config.method
        ('vit.safetensors', 224, {'name': 'plain'})
    """

    data: DataConfig
    model: ModelConfig
    teacher: str | None = None
    teacher_facts: TeacherFacts | None = None
    method: dict[str, Any] = {"name": "plain"}
    training: TrainingConfig = TrainingConfig()
    probe: ProbeConfig | None = None
    seed: int = Field(0, ge=0, lt=2**64)

    @model_validator(mode="before")
    @classmethod
    def _teacher_by_itself(cls, values: Any) -> Any:
        """Divide `teacher: {path: ..., facts}` into where it is and what is said of it."""
        teacher = values.get("teacher") if isinstance(values, dict) else None
        if not isinstance(teacher, dict):
            return values
        facts = {key: value for key, value in teacher.items() if key != "path"}
        facts = {**(values.get("teacher_facts") or {}), **facts}
        return {**values, "teacher": teacher.get("path"), "teacher_facts": facts or None}

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
