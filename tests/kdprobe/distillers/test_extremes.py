"""Every method on batches that break careless formulas: finite losses, finite gradients."""

import pytest
import torch

from kdprobe.data.loaders import Batch
from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.errors import AnalysisError
from kdprobe.models.stages import Features, Shapes

HEADS, WIDTH, GRID = 2, 8, 4
VIT_TEACHER = {"cakd"}
TOKEN_STUDENT = {"cskd", "deit"}


def _shapes(kind, n_classes):
    if kind == "cnn":
        maps = ((4, 8, 8), (4, 8, 8), (6, 4, 4), (WIDTH, 4, 4))
        names = ("act1", "layer1", "layer2", "layer3")
        return Shapes("cnn", names, maps, WIDTH, n_classes, None, 0, averaged=True, linear=True)
    names, tokens = ("blocks.0", "blocks.1"), (2 + GRID**2, WIDTH)
    maps = ((WIDTH, GRID, GRID),) * 2
    qkv = (HEADS, tokens[0], WIDTH // HEADS)
    return Shapes("vit", names, maps, WIDTH, n_classes, tokens, 2, 2, qkv, class_token=0)


def _features(shapes, n, *, fill, gradient, seed):
    generator = torch.Generator().manual_seed(seed)
    leaves = []

    def make(*size, scale=1.0):
        values = torch.randn(*size, generator=generator)
        if fill == "zero":
            values = torch.zeros(size)
        elif fill == "duplicate":
            values = values[:1].expand(size).clone()
        elif fill == "huge":
            values = values.sign() * scale
        leaves.append(values.requires_grad_(gradient))
        return leaves[-1]

    torch.manual_seed(seed)
    heads = tuple(torch.nn.Linear(WIDTH, shapes.n_classes).requires_grad_(gradient) for _ in range(shapes.n_heads))
    maps = tuple(make(n, *size) for size in shapes.maps)
    qkv = None if shapes.qkv is None else make(n, 3, HEADS, shapes.qkv[1], shapes.qkv[2]).transpose(0, 1)
    features = Features(
        logits=make(n, shapes.n_classes, scale=1e4),
        pooled=make(n, WIDTH),
        maps=maps,
        preacts=maps,
        tokens=None if shapes.tokens is None else make(n, *shapes.tokens),
        qkv=qkv,
        n_prefix=shapes.n_prefix,
        heads=heads,
    )
    return features, leaves


def _run(name, *, n=6, n_classes=5, fill="normal"):
    torch.manual_seed(0)
    kind = DISTILLERS[name]
    ours = _shapes("vit" if name in TOKEN_STUDENT else "cnn", n_classes)
    theirs = _shapes("vit" if name in VIT_TEACHER else "cnn", n_classes) if kind.uses_teacher else None
    method = kind(kind.Options(), ours, theirs)
    batch = Batch(torch.rand(n, 3, 16, 16), torch.arange(n) % n_classes, torch.arange(n))
    labels = method.inputs(batch)[2]
    student, leaves = _features(ours, len(labels), fill=fill, gradient=True, seed=1)
    teacher = _features(theirs, len(labels), fill=fill, gradient=False, seed=2)[0] if theirs else None
    cross_entropy = torch.nn.functional.cross_entropy(method.logits(student), labels)
    terms = {"ce": cross_entropy} | method(student, teacher, labels, Progress(40.0, 100))
    torch.stack(list(terms.values())).sum().backward()
    gradients = [leaf.grad for leaf in leaves if leaf.grad is not None]
    gradients += [parameter.grad for parameter in method.parameters() if parameter.grad is not None]
    return terms, gradients


def _assert_finite(terms, gradients):
    assert all(term.isfinite() for term in terms.values()), terms
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", DISTILLERS)
@pytest.mark.parametrize("fill", ["normal", "zero", "duplicate", "huge"])
def test_features_and_logits(name, fill):
    _assert_finite(*_run(name, fill=fill))


#: `rkd` needs two samples to relate, `rsd` and `reviewkd` two for a batch norm of pooled features
RELATIONAL = {"rkd", "rsd", "reviewkd"}


@pytest.mark.parametrize("name", [name for name in DISTILLERS if name not in RELATIONAL])
def test_batch_of_one(name):
    _assert_finite(*_run(name, n=1))


@pytest.mark.parametrize("name", ["rkd", "rsd"])
def test_batch_of_one_without_relations(name):
    with pytest.raises(AnalysisError, match="a batch of at least 2 samples"):
        _run(name, n=1)


#: these rank the classes that are not the target
RANKING = {"dkd", "sdd"}


@pytest.mark.parametrize("name", [name for name in DISTILLERS if name not in RANKING])
def test_two_classes(name):
    _assert_finite(*_run(name, n_classes=2))


@pytest.mark.parametrize("name", sorted(RANKING))
def test_two_classes_without_a_ranking(name):
    with pytest.raises(AnalysisError, match=r"at least 3 classes, but there are 2; .* defined for them"):
        _run(name, n_classes=2)
