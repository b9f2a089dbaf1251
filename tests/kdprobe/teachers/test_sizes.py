"""Students taught by networks of another input size."""

import pytest
import torch

from figures.report.overview import tiles
from kdprobe.config import AugmentConfig, override, parse
from kdprobe.data import training_batches
from kdprobe.distillers import option_types
from kdprobe.models import create, load, model_info
from kdprobe.models.checkpoint import save
from kdprobe.models.stages import Stages
from kdprobe.recipe import read_recipe
from kdprobe.runs.curves import training_curves
from kdprobe.runs.folder import RunFolder
from kdprobe.training import train
from kdprobe.training.build import build
from tests.kdprobe.data.test_views import SIDE, folder_of


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A teacher of 48 px images."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("large") / "teacher.safetensors"
    save(create("resnet14", n_classes=10, image_size=48), path)
    return path


def config(teacher, method="kd", *assignments):
    given = ["data.spec=tests.tiny:digits", "data.per_class=8", "training.epochs=1", "training.batch_size=16"]
    given += ["training.precision=fp32", f"teacher={teacher}", f"method={{name: {method}}}"]
    return parse(override(read_recipe("digits/resnet8-kd"), [*given, *assignments]), option_types())


def test_each_network_sees_the_view_at_its_own_size(large):
    job = build(config(large), torch.device("cpu"))
    images = torch.rand(2, 3, 32, 32)
    assert job.prepare(images).shape[-1] == 32
    enlarged = torch.nn.functional.interpolate(images, (48, 48), mode="bilinear", antialias=True)
    network = load(large)
    expected = Stages(network)(model_info(network).normalise(enlarged)).logits
    assert torch.equal(job.teacher(images, torch.arange(2)).logits, expected)


@pytest.mark.slow
@pytest.mark.parametrize("size", [16, 64])
@pytest.mark.parametrize("method", ["kd", "rkd"])
def test_students_of_any_size_are_trained(large, tmp_path, method, size):
    result = train(config(large, method, f"data.image_size={size}"), tmp_path / "run", device="cpu", quiet=True)
    assert model_info(load(tmp_path / "run")).image_size == size
    assert 0 <= result["accuracy"] <= 1
    assert [result[key] for key in ("image_size", "teacher_image_size", "view_size")] == [size, 48, size]
    curves, _ = training_curves([RunFolder(tmp_path / "run")])
    assert curves.facts["sizes"] == [{"student": size, "teacher": 48}]
    assert ("Input", f"student {size} px, teacher 48 px") in tiles([("training", curves)])


def test_two_sizes_are_said_at_the_beginning_of_a_run(large):
    said = "the teacher sees images of 48 px and the student of 32 px, both made from views of 32 px"
    assert build(config(large), torch.device("cpu")).notes == (said,)
    assert build(config(large, "kd", "data.image_size=48"), torch.device("cpu")).notes == ()


def test_one_loader_serves_networks_of_two_sizes(large):
    from kdprobe.data.loaders import Batch
    from kdprobe.features.minibatches import arguments_of

    images = torch.rand(2, 3, 32, 32)
    teacher, student = load(large), create("resnet8", n_classes=10, image_size=32)
    batch = Batch(images, torch.arange(2), torch.arange(2))
    (seen,), _ = arguments_of(teacher, batch)
    assert torch.equal(seen, model_info(teacher).prepare(images))
    (seen,), _ = arguments_of(student, batch)
    assert torch.equal(seen, model_info(student).normalise(images))


def test_the_teacher_is_shown_the_detail_of_large_files(tmp_path):
    torch.manual_seed(0)
    save(create("resnet8", n_classes=2, image_size=SIDE), tmp_path / "teacher.safetensors")
    folder = folder_of(tmp_path / "images", *(SIDE,) * 4)
    given = [f"data.spec=folder:{folder}", "data.image_size=32", "data.per_class=null", "training.batch_size=4"]
    job = build(config(tmp_path / "teacher.safetensors", "rkd", *given), torch.device("cpu"))
    augment = AugmentConfig(padding=0, flip=False)
    batch = next(iter(training_batches(job.data.train, batch_size=4, augment=augment, seed=0, epoch=0)))
    shown = []
    job.teacher.stages.model.register_forward_pre_hook(lambda _, inputs: shown.append(inputs[0]))
    job.teacher(batch.images, None)
    stripes = slice(SIDE // 8, SIDE // 4)  # black and white by turns, pixel by pixel
    assert shown[0].shape[-1] == SIDE
    assert shown[0][:, :, SIDE // 2, stripes].std(2).min() > 1.5
    upsampled = torch.nn.functional.interpolate(job.prepare(batch.images), (SIDE, SIDE), mode="bicubic")
    assert upsampled[:, :, SIDE // 2, stripes].std(2).max() < 0.3, "the student's view holds none of it"
