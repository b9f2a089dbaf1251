"""Every method on every kind of pair for a few steps."""

import pytest
import torch
from torch import nn

from kdprobe.data.loaders import Batch
from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.errors import KdprobeError
from kdprobe.models import create, model_info
from kdprobe.models.stages import Stages, measure
from kdprobe.training.objective import Objective

SIZE, N_CLASSES = 32, 5
VIT = {"patch_size": 4, "embed_dim": 32, "depth": 3, "num_heads": 2}
NETWORKS = {
    "cnn": ("resnet8", {}),
    "vit": ("vit_tiny_patch16_224", VIT),
    "distilled": ("deit_tiny_distilled_patch16_224", VIT),
}
KINDS = [("cnn", "cnn"), ("vit", "cnn"), ("cnn", "vit"), ("vit", "vit"), ("cnn", "distilled")]
_VIT, _DISTILLED = "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"
#: where a method is not defined, and how it says so
UNDEFINED = {
    **{
        (name, teacher, student): f"not defined for the student {model}; ofa and dropkd take any pair"
        for name in ("cskd", "deit")
        for teacher in ("cnn", "vit")
        for student, model in (("cnn", "resnet8"), ("vit", _VIT))
    },
    **{
        (name, teacher, student): f"not defined for {model}, which does not classify that map's plain mean by"
        for name in ("sdd", "cat_kd")
        for teacher, student, model in (
            ("vit", "cnn", _VIT),
            ("vit", "vit", _VIT),
            ("cnn", "vit", _VIT),
            ("cnn", "distilled", _DISTILLED),
        )
    },
    **{
        ("cakd", "cnn", student): "not defined for the teacher resnet8; ofa and dropkd take any pair"
        for student in ("cnn", "vit", "distilled")
    },
    ("eac", "cnn", "vit"): f"not defined for {_VIT}; scn takes any network",
    ("eac", "vit", "vit"): f"not defined for {_VIT}; scn takes any network",
    ("eac", "cnn", "distilled"): f"not defined for {_DISTILLED}; scn takes any network",
}


def _network(kind, seed):
    torch.manual_seed(seed)
    name, args = NETWORKS[kind]
    model = create(name, n_classes=N_CLASSES, image_size=SIZE, args=args)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # running statistics that fit no batch of the test
            module.running_mean.normal_(0, 0.1)
    return model


def _batch(n=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 3, SIZE, SIZE, generator=generator)
    return Batch(images, torch.arange(n) % N_CLASSES, torch.arange(n))


class Pair:
    """A student, its frozen teacher and a method, stepped as the training loop does."""

    def __init__(self, name, teacher, student, *, options=None, channels_last=False):
        kind = DISTILLERS[name]
        self.teacher_model = _network(teacher, 1).eval().requires_grad_(False) if kind.uses_teacher else None
        self.student_model = _network(student, 2)
        torch.manual_seed(3)
        shapes = measure(self.teacher_model) if kind.uses_teacher else None
        self.method = kind(kind.Options(**(options or {})), measure(self.student_model), shapes)
        self.teacher = Stages(self.teacher_model, needs=self.method.teacher_needs) if kind.uses_teacher else None
        self.objective = Objective(self.student_model, self.method).train()
        if channels_last:
            self.objective.to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(self.objective.parameters(), lr=0.01)

    def step(self, batch, *, epoch=25.0, autocast=False):
        images, shown, labels = self.method.inputs(batch)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            teacher = None
            if self.teacher is not None:
                with torch.no_grad():
                    teacher = self.teacher(model_info(self.teacher_model).normalise(shown))
            seen = model_info(self.student_model).normalise(images)
            terms = self.objective(seen, labels, teacher, Progress(epoch, 100))[1]
        loss = torch.stack(list(terms.values())).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return terms


PAIRS = [(name, *kind) for name in DISTILLERS for kind in KINDS]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "teacher", "student"), PAIRS)
def test_trains(name, teacher, student):
    refusal = UNDEFINED.get((name, teacher, student))
    if refusal is not None:
        with pytest.raises(KdprobeError, match=refusal):
            Pair(name, teacher, student)
        return
    pair = Pair(name, teacher, student)
    frozen = {key: value.clone() for key, value in pair.teacher_model.state_dict().items()} if pair.teacher else {}
    for step in range(2):
        terms = pair.step(_batch(seed=step))
        assert all(term.isfinite() for term in terms.values()), terms
    missing = [key for key, value in pair.method.named_parameters() if value.grad is None or not value.grad.any()]
    assert not missing
    if pair.teacher is not None:
        assert not pair.teacher_model.training
        assert all(torch.equal(value, frozen[key]) for key, value in pair.teacher_model.state_dict().items())
        assert all(parameter.grad is None for parameter in pair.teacher_model.parameters())
    assert not any(key in pair.student_model.state_dict() for key in pair.method.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "teacher", "student"), [p for p in PAIRS if p not in UNDEFINED])
def test_is_finite_under_autocast_and_channels_last(name, teacher, student):
    pair = Pair(name, teacher, student, channels_last=True)
    terms = pair.step(_batch(), autocast=True)
    assert all(term.isfinite() and term.dtype == torch.float32 for term in terms.values()), terms
    gradients = [parameter.grad for parameter in pair.objective.parameters() if parameter.grad is not None]
    assert all(gradient.isfinite().all() for gradient in gradients)
