"""Teachers of other classes: their logits are matched with the data's by name."""

import pytest
import torch

from kdprobe.config import override, parse
from kdprobe.distillers import option_types
from kdprobe.errors import ConfigError, ModelError
from kdprobe.models import create
from kdprobe.models.checkpoint import save
from kdprobe.models.creation import ModelInfo
from kdprobe.recipe import read_recipe
from kdprobe.teachers.classes import matched_classes
from kdprobe.training import train
from kdprobe.training.build import build


def info(*classes, n_classes=None):
    return ModelInfo("net", len(classes) if n_classes is None else n_classes, 32, classes=classes)


STUDENT = info("cat", "dog", "owl")


@pytest.mark.parametrize(
    ("teacher", "said", "places"),
    [
        (info("cat", "dog", "owl"), None, None),
        (info(n_classes=3), None, None),
        (info("cat", "dog", "owl"), {}, None),
        (info(n_classes=3), ("cat", "dog", "owl"), None),
        (info("owl", "cat", "dog"), {}, (1, 2, 0)),
        (info("owl", "cat", "bee", "dog"), {}, (1, 3, 0)),
        (info(n_classes=4), ("bee", "owl", "dog", "cat"), (3, 2, 1)),
        (info("bee", "tabby", "owl", "dog"), {"cat": "tabby"}, (1, 3, 2)),
        (info("cat", "dog", "owl"), {"cat": "dog", "dog": "cat"}, (1, 0, 2)),
        (info(n_classes=1000), {"cat": 281, "dog": 207, "owl": 24}, (281, 207, 24)),
        (info("dog", "owl", "bee"), {"cat": 2}, (2, 0, 1)),
        (info("owl", "cat", "owl", "dog"), {"owl": 2}, (1, 3, 2)),
    ],
)
def test_classes_are_matched_by_name(teacher, said, places):
    assert matched_classes("T", teacher, STUDENT, said) == places


@pytest.mark.parametrize(
    ("teacher", "said", "refusal"),
    [
        (
            info(n_classes=5),
            None,
            r"T has 5 classes, but the student has 3; say with teacher.classes \(in Python, classes=\) which",
        ),
        (
            info("owl", "cat", "dog"),
            None,
            r"class 0 is 'owl' to the teacher, but 'cat' in the data; teacher.classes={} \(in Python, classes={}\) m",
        ),
        (
            info("cat", "dog", "bee"),
            None,
            "class 2 is 'bee' to the teacher, but 'owl' in the data; say with teacher.cl",
        ),
        (info("cat", "dog", "bee"), {}, "T has no class 'owl'.*; say with .* of its classes 'owl' is"),
        (info("cat", "dog", "owls"), {}, r"T has no class 'owl'; did you mean 'owls'\?; say with"),
        (
            info("cat", "dog", "bee"),
            {"owl": "beee"},
            r"T has no class 'beee'; did you mean 'bee'\?; say with .* 'owl' is",
        ),
        (
            info("cat", "dog", "bee"),
            {"cow": "bee"},
            r"teacher.classes \(in Python, classes=\): the data have no class 'cow'",
        ),
        (info("cat", "dog", "bee"), {"owl": "dog"}, "makes 'dog' and 'owl' the same class of the teacher; give each"),
        (
            info(n_classes=4),
            {"cat": "tabby"},
            "T does not name its classes; give their names in their order .* for 'cat'",
        ),
        (info(n_classes=4), {"cat": 4, "dog": 1, "owl": 2}, "makes 'cat' class 4, but the teacher T has 0 to 3"),
        (
            info(n_classes=4),
            ("cat", "dog", "owl"),
            r"teacher.classes \(in Python, classes=\) names 3 classes, but the teacher T has 4",
        ),
        (
            info(n_classes=0),
            ("cat", "dog", "owl"),
            r"teacher.classes \(in Python, classes=\) names 3 classes, but the teacher T has 0",
        ),
        (info(n_classes=3), ("cat", "dog", "cat"), r"teacher.classes \(in Python, classes=\) names 'cat' twice"),
        (info(n_classes=3), ("cat", "dog", "bee"), "T has no class 'owl'"),
        (
            info("owl", "cat", "owl", "dog"),
            {},
            r"T calls several of its classes 'owl'; say with teacher.classes .* number of the one that 'owl' is",
        ),
        (info("cat", "owl", "dog"), ("cat", "dog", "owl"), "calls class 1 'dog', but the teacher T calls it 'owl'"),
    ],
)
def test_what_cannot_be_matched_is_refused(teacher, said, refusal):
    with pytest.raises(ModelError, match=refusal):
        matched_classes("T", teacher, STUDENT, said)


def test_classes_without_names_are_not_matched():
    with pytest.raises(ModelError, match="matches classes by name, but those of the data have no names"):
        matched_classes("T", info("a", "b"), info(n_classes=2), {})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """A network that knows 12 classes, the ten digits in reverse order among them."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("twelve") / "teacher.safetensors"
    save(create("resnet8", n_classes=12, image_size=32, classes=("a", *"9876543210", "b")), path)
    return path


def config(teacher, method, *assignments):
    given = ["data.spec=tests.tiny:digits", "data.per_class=4", "training.epochs=1", "training.precision=fp32"]
    given += [f"teacher={teacher}", f"method={{name: {method}}}"]
    return parse(override(read_recipe("digits/resnet8-kd"), [*given, *assignments]), option_types())


def test_logits_of_the_datas_classes_are_taught(teacher, tmp_path):
    chosen = config(teacher, "kd", "teacher.classes={}")
    job = build(chosen, torch.device("cpu"))
    images = torch.rand(2, 3, 32, 32)
    shown = job.teacher.stages(job.teacher.info.prepare(images)).logits
    assert torch.equal(job.teacher(images, torch.arange(2)).logits, shown[:, 1:11].flip(1))
    assert 0 <= train(chosen, tmp_path / "run", device="cpu", quiet=True)["accuracy"] <= 1


def test_a_classifier_is_of_the_datas_classes_too(teacher):
    job = build(config(teacher, "dropkd", "method.logit_source=head", "teacher.classes={}"), torch.device("cpu"))
    features = job.teacher(torch.rand(2, 3, 32, 32), torch.arange(2))
    assert torch.allclose(features.head(features.pooled), features.logits, atol=1e-6)
    assert features.logits.shape == (2, 10)


@pytest.mark.parametrize("method", ["rkd", "dropkd", "at"])
def test_methods_that_read_features_alone_take_any_classes(teacher, method):
    assert build(config(teacher, method), torch.device("cpu")).teacher.info.n_classes == 12


def test_methods_that_read_logits_say_what_to_give(teacher):
    with pytest.raises(ModelError, match="has 12 classes, but the student has 10; say with teacher"):
        build(config(teacher, "kd"), torch.device("cpu"))


def test_a_mapping_holds_names_or_numbers(teacher):
    with pytest.raises(ConfigError, match=r"teacher_facts.classes|classes"):
        config(teacher, "kd", "teacher.classes={'0': [1]}")
