"""`kdprobe.Distillation` in loops of one's own: what the trainer computes, to the bit."""

import copy
import subprocess
import sys

import pytest
import timm
import torch
from torch import nn

import kdprobe
from kdprobe.data import training_batches
from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.distillers.kd import KD
from kdprobe.errors import CheckpointError, ConfigError, DataError, ModelError
from kdprobe.models import create, model_info, save
from kdprobe.runtime.distributed import Ranks
from kdprobe.runtime.precision import repeatable
from kdprobe.training.build import build
from kdprobe.training.loop import Trainer
from kdprobe.training.optimizer import make_optimizer
from tests.kdprobe.training.test_loop import config
from tests.tiny import digits

CPU = torch.device("cpu")
VIT = {"patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 3}
CNN, TOKENS, DISTILLED = "resnet8", "vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"
#: (student, teacher) of the methods that are not defined for a ViT that teaches a CNN
PAIRS = {"cskd": (DISTILLED, CNN), "deit": (DISTILLED, CNN), "sdd": (CNN, CNN), "cat_kd": (CNN, CNN)}
OPTIONS = {
    "wkd": {"feature_weight": 0.08},
    "dropkd": {"dim": 8},
    "crd": {"memory": 60},
    "scn": {"relabel_epochs": 0, "relabel_margin": 0},
    "dpk": {"n_blocks": 1},
}


def network(name=CNN, seed=0, n_classes=10, image_size=32, **facts):
    """A CIFAR ResNet or a small transformer, with a mean and a standard deviation of its own."""
    torch.manual_seed(seed)
    facts = {"mean": (0.1, 0.2, 0.3), "std": (0.2 + seed / 10, 0.3, 0.4), **facts}
    args = {} if name == CNN else VIT
    return create(name, n_classes=n_classes, image_size=image_size, args=args, **facts)


@pytest.fixture(scope="module")
def batches():
    """Two batches of 16 varied digits, with their places."""
    augment = config().data.augment
    found = training_batches(digits().train, batch_size=16, augment=augment, seed=0, epoch=0, workers=0)
    return [next(found), next(found)]


@pytest.fixture(scope="module")
def images(batches):
    return batches[0].images, batches[0].labels


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The file of a teacher of the digits."""
    folder = tmp_path_factory.mktemp("saved")

    def path(name):
        file = folder / f"{name}.safetensors"
        if not file.is_file():
            save(network(name, 1, classes=digits().classes), file)
        return file

    return path


def assert_same(state, other):
    assert state.keys() == other.keys()
    assert [key for key in state if not torch.equal(state[key], other[key])] == []


def numbers(terms):
    return {name: value.item() for name, value in terms.items()}


@pytest.mark.parametrize(("method", "precision"), [*((name, "fp32") for name in DISTILLERS), ("dropkd", "bf16")])
def test_every_method_computes_what_the_trainer_computes(method, precision, saved, batches):
    given, (student, taught_by) = OPTIONS.get(method, {}), PAIRS.get(method, (CNN, TOKENS))
    teacher = saved(taught_by) if DISTILLERS[method].uses_teacher else None
    settings = [f"model={ {'name': student, 'args': {} if student == CNN else VIT} }"]
    settings += [f"method={ {'name': method, **given} }", f"training.precision={precision}"]
    settings += ["training.channels_last=false"] + ([] if teacher is None else [f"teacher={teacher}"])
    chosen = config("digits/resnet8", *settings)
    with repeatable(0, CPU):
        job = build(chosen, CPU)
        trainer = Trainer(chosen.training, chosen.data, job, Ranks(0, 1, CPU), seed=0)
        own = kdprobe.Distillation(copy.deepcopy(job.student), teacher, method, n_epochs=2, **given)
        own.objective.load_state_dict(job.objective.state_dict())
        optimizer = make_optimizer(chosen.training.optimizer, own.student, own.method)
        for step, batch in enumerate(batches):
            torch.manual_seed(step)
            with torch.autocast("cpu", enabled=precision == "bf16"):
                out = own(batch.images, batch.labels, epoch=step / 6, index=batch.index)
            out.loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            torch.manual_seed(step)
            terms = trainer.losses(batch, None, Progress(step / 6, 2))
            torch.stack(list(terms.values())).sum().backward()
            trainer.optimizer.step()
            trainer.optimizer.zero_grad()
            assert numbers(out.terms) == numbers(terms)
            assert out.logits.shape == (16, 10)
    assert_same(own.objective.state_dict(), job.objective.state_dict())


def test_a_pair_of_inputs_is_taken_as_it_is(images):
    student, teacher = network(), network(TOKENS, 1)
    own = kdprobe.Distillation(student, teacher, "kd").eval()
    seen, labels = images
    pair = model_info(student).normalise(seen), model_info(teacher).normalise(seen)
    assert numbers(own(list(pair), labels, epoch=0).terms) == numbers(own(seen, labels, epoch=0).terms)
    swapped = own(pair[::-1], labels, epoch=0)
    assert swapped.loss != own(pair, labels, epoch=0).loss


def test_each_network_sees_the_images_at_its_own_size():
    student, teacher = network(), network(TOKENS, 1, image_size=64)
    own = kdprobe.Distillation(student, teacher, "rkd").eval()
    images, labels = torch.rand(6, 3, 64, 64), torch.arange(6)
    small = nn.functional.interpolate(images, (32, 32), mode="bilinear", antialias=True)
    pair = model_info(student).normalise(small), model_info(teacher).normalise(images)
    expected = numbers(own(pair, labels, epoch=0).terms)
    assert numbers(own(images, labels, epoch=0).terms) == pytest.approx(expected, rel=1e-4)


def timm_vit(size):
    args = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3, "num_classes": 0}
    return timm.create_model("deit_tiny_patch16_224", img_size=size, **args)


def test_a_network_of_timms_sees_the_size_that_it_was_built_with():
    own = kdprobe.Distillation(network(), timm_vit(16), "rsd", images=32).eval()
    assert own.teacher.info.image_size == 16
    assert own(torch.rand(4, 3, 32, 32), torch.arange(4), epoch=0).loss.isfinite()
    with pytest.raises(ModelError, match=r"fails on two images of 32 px .*kdprobe.describe\(model, image_size=..., m"):
        kdprobe.Distillation(timm_vit(16), network(), "rsd", images=32, ce_weight=0)


def test_a_network_of_oblong_images_takes_pairs():
    own = kdprobe.Distillation(network(), timm_vit((16, 32)), "rsd").eval()
    images, labels = torch.rand(4, 3, 32, 32), torch.arange(4)
    assert own((images, images[:, :, :16]), labels, epoch=0).loss.isfinite()
    with pytest.raises(ModelError, match=r"squares, which VisionTransformer \(16 x 32 px\) does not take; give a pair"):
        own(images, labels, epoch=0)


def test_a_teacher_of_more_classes_teaches_those_that_are_named_alike(images):
    student = network(n_classes=2, classes=("cat", "dog"))
    teacher = network(CNN, 1, n_classes=3, classes=("dog", "fish", "cat"))
    own = kdprobe.Distillation(student, teacher, "kd", classes={}).eval()
    seen, labels = images[0], torch.zeros(16, dtype=torch.int64)
    pair = model_info(student).normalise(seen), model_info(teacher).normalise(seen)
    taught = own.teacher(seen).logits
    assert torch.equal(taught, teacher(pair[1])[:, [2, 0]])
    assert own(pair, labels, epoch=0).loss == own(seen, labels, epoch=0).loss


def test_mixed_images_have_probabilities_for_labels(images):
    seen, labels = images
    own = kdprobe.Distillation(network(), network(TOKENS, 1), "mld").eval()
    certain = nn.functional.one_hot(labels, 10).float()
    torch.manual_seed(0)
    expected = own(seen, labels, epoch=0)
    torch.manual_seed(0)
    assert own(seen, certain, epoch=0).loss.item() == pytest.approx(expected.loss.item(), rel=1e-6)
    smoothed = kdprobe.Distillation(own.student, network(TOKENS, 1), "kd", label_smoothing=0.1).eval()
    mixed = 0.9 * certain + 0.01
    a, b = (
        smoothed(seen, labels, epoch=0),
        kdprobe.Distillation(own.student, network(), "kd").eval()(seen, mixed, epoch=0),
    )
    assert a.terms["ce"].item() == pytest.approx(b.terms["ce"].item(), rel=1e-6)


def test_the_teacher_is_none_of_its_parameters_but_follows(images):
    student, teacher = network(), network(TOKENS, 1)
    own = kdprobe.Distillation(student, teacher, "dropkd", dim=8)
    mine = {id(parameter) for parameter in own.parameters()}
    assert {id(p) for p in student.parameters()} < mine
    assert {id(p) for p in own.method.parameters()} < mine
    assert len(mine) == sum(1 for _ in student.parameters()) + sum(1 for _ in own.method.parameters())
    assert not [key for key in own.state_dict() if "blocks" in key]
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    own.double()
    assert {parameter.dtype for parameter in teacher.parameters()} == {torch.float64}
    own([images[0].double()] * 2, images[1], epoch=0).loss.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not teacher.to("meta").training
    assert {p.device.type for p in nn.Sequential(own).to("meta")[0].teacher.stages.parameters()} == {"meta"}


def test_the_teacher_stays_in_eval_mode(images):
    teacher = network(CNN, 1)
    own = kdprobe.Distillation(network(), teacher.train(), "kd")
    around = nn.ModuleList([own, teacher])
    for mode in (True, False):
        around.train(mode)
        assert own.student.training is mode
        before = copy.deepcopy(teacher.state_dict())
        own(*images, epoch=0)
        assert not any(module.training for module in teacher.modules())
        assert_same(teacher.state_dict(), before)


@pytest.mark.parametrize("method", ["crd", "dpk", "scn", "cka", "wkd"])
def test_a_restart_from_its_state_equals_no_restart(method, saved, batches, tmp_path):
    def make():
        student = network()
        teacher = saved(TOKENS) if DISTILLERS[method].uses_teacher else None
        own = kdprobe.Distillation(student, teacher, method, n_epochs=2, **OPTIONS.get(method, {}))
        return own, torch.optim.SGD(own.parameters(), lr=0.1, momentum=0.9)

    def step(own, optimizer, batch):
        optimizer.zero_grad()
        torch.manual_seed(7)
        own(batch.images, batch.labels, epoch=1, index=batch.index).loss.backward()
        optimizer.step()

    own, optimizer = make()
    step(own, optimizer, batches[0])
    torch.save([own.state_dict(), optimizer.state_dict()], tmp_path / "state.pt")
    step(own, optimizer, batches[1])
    again, other = make()
    for one, state in zip((again, other), torch.load(tmp_path / "state.pt", weights_only=True), strict=True):
        one.load_state_dict(state)
    step(again, other, batches[1])
    assert_same(again.state_dict(), own.state_dict())
    if method == "scn":
        assert own.method.cured


def test_the_state_of_another_teacher_is_refused():
    state = kdprobe.Distillation(network(), network(CNN, 1), "kd").state_dict()
    kdprobe.Distillation(network(), network(CNN, 1), "kd").load_state_dict(state)
    other = kdprobe.Distillation(network(seed=3), network(CNN, 2), "kd")
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(
        CheckpointError, match=r"whose teacher's weights had the sha256 \w{64}, but this teacher's have"
    ):
        other.load_state_dict(state)
    assert_same(other.state_dict(), before)


def test_the_state_tells_the_teachers_weights_as_they_are_then(images):
    own = kdprobe.Distillation(network(), teacher := network(CNN, 1), "kd")
    before = own.state_dict()
    teacher.load_state_dict(network(CNN, 2).state_dict())
    again = kdprobe.Distillation(network(), network(CNN, 2), "kd")
    again.load_state_dict(own.state_dict())
    with pytest.raises(CheckpointError, match="whose teacher's weights had the sha256"):
        own.load_state_dict(before)
    own(*images, epoch=0.5).loss.backward()
    again.load_state_dict(own.state_dict())


def test_classes_may_be_any_whole_numbers(images):
    own = kdprobe.Distillation(network(), network(CNN, 1), "kd").eval()
    seen, labels = images
    assert numbers(own(seen, labels.int(), epoch=0).terms) == numbers(own(seen, labels, epoch=0).terms)


def test_the_whole_can_be_saved_at_once(images, tmp_path):
    own = kdprobe.Distillation(network(), network(CNN, 1), "kd").eval()
    torch.save(own, tmp_path / "whole.pt")
    again = torch.load(tmp_path / "whole.pt", weights_only=False)
    assert numbers(again(*images, epoch=0).terms) == numbers(own(*images, epoch=0).terms)


class Written(nn.Module):
    """A network of one's own, of which nothing is known."""

    def __init__(self, width=8, n_classes=10):
        super().__init__()
        torch.manual_seed(width)
        self.body = nn.Sequential(nn.Conv2d(3, width, 3, stride=2), nn.ReLU(), nn.Conv2d(width, width, 3), nn.ReLU())
        self.fc = nn.Linear(width, n_classes) if n_classes else nn.Identity()

    def forward(self, images):
        return self.fc(self.body(images).mean((2, 3)))


def test_example_images_say_the_input_where_the_networks_do_not(images):
    small = torch.rand(4, 3, 24, 24)
    own = kdprobe.Distillation(Written(), Written(16), "rkd", images=small)
    assert (model_info(own.student).image_size, model_info(own.student).n_classes) == (24, 10)
    assert own.teacher.info.image_size == 24
    assert own(small, images[1][:4], epoch=0).loss.isfinite()
    published = timm.create_model("test_resnet", num_classes=10)
    sized = kdprobe.Distillation(published, network(CNN, 1), "at", images=32)
    assert model_info(published).image_size == 32
    assert sized.teacher.info.image_size == 32
    assert sized.method.student_shapes.maps[-1][1:] == (1, 1)  # of 160 px it would be 5
    assert sized(*images, epoch=0).loss.isfinite()
    with pytest.raises(DataError, match=r"example images must be \[B, c, s, s\], but are \[3, 24, 24\]"):
        kdprobe.Distillation(Written(), Written(16), "rkd", images=small[0])


def test_a_student_without_a_classifier_learns_from_features_alone(images):
    own = kdprobe.Distillation(Written(8, 0), Written(16, 0), "rkd", images=32, ce_weight=0)
    out = own(images[0], epoch=0)
    assert sorted(out.terms) == ["angle", "distance"]
    assert out.logits.shape == (16, 0)
    assert numbers(own(images[0], images[1], epoch=0).terms) == numbers(out.terms)
    taught = kdprobe.Distillation(network(), Written(16, 0), "rkd", images=32)
    with pytest.raises(DataError, match="labels are needed, as the student has a classifier"):
        taught(images[0], epoch=0)


def test_a_copy_is_a_network_of_its_own(images):
    own = kdprobe.Distillation(network(), network(TOKENS, 1), "at").eval()
    copied = copy.deepcopy(own)
    with torch.no_grad():
        for parameter in own.student.parameters():
            parameter.zero_()
        for parameter in own.teacher.stages.parameters():
            parameter.zero_()
    assert copied(*images, epoch=0).terms["attention"] > 0
    assert own(*images, epoch=0).terms["attention"] == 0


def test_a_method_of_ones_own_is_a_class(images):
    class Twice(KD):
        def forward(self, *args):
            return {name: 2 * term for name, term in super().forward(*args).items()}

    student = network()
    own, plain = (kdprobe.Distillation(student, network(CNN, 1), kind).eval() for kind in (Twice, "kd"))
    assert own(*images, epoch=0).terms["kd"] == 2 * plain(*images, epoch=0).terms["kd"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["kd", "dropkd"])
def test_it_can_be_compiled(method):
    """In a process of its own: what checks types in tests cannot be compiled."""
    code = f"""
import torch, kdprobe
from kdprobe.models import create

def make(name, seed, **args):
    torch.manual_seed(seed)
    return create(name, n_classes=10, image_size=32, args=args)

def taught():
    teacher = make("vit_tiny_patch16_224", 1, patch_size=4, embed_dim=24, depth=2, num_heads=3)
    torch.manual_seed(0)
    own = kdprobe.Distillation(make("resnet8", 0), teacher, {method!r}, n_epochs=9)
    return own, torch.optim.SGD(own.parameters(), lr=0.01)

images, labels = torch.rand(16, 3, 32, 32), torch.arange(16) % 10
(own, one), (fast, other) = taught(), taught()
compiled = torch.compile(fast, backend="aot_eager")
for step in range(4):
    for module, optimizer in ((own, one), (compiled, other)):
        torch.manual_seed(step)
        optimizer.zero_grad()
        out = module(images, labels, epoch=step / 3)
        out.loss.backward()
        optimizer.step()
        print(out.loss.item())
print(len(torch._dynamo.utils.counters["stats"]), compiled.teacher.stages.model.training)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    *losses, last = done.stdout.splitlines()
    assert [float(loss) for loss in losses[::2]] == pytest.approx([float(loss) for loss in losses[1::2]], rel=1e-4)
    assert len(losses) == 8
    assert last == "2 False"


def named(classes):
    return network(n_classes=2, classes=tuple(classes))


REFUSED = {
    "method": (ConfigError, "Distillation: no method 'kdd'; did you mean 'kd'", {"method": "kdd"}),
    "option": (ConfigError, "Distillation: temprature: unknown key; did you mean 'temperature'", {"temprature": 1}),
    "value": (ConfigError, "Distillation: temperature: input should be greater than 0, but is -1", {"temperature": -1}),
    "no teacher": (ModelError, "method 'kd' needs a teacher", {"teacher": None}),
    "a teacher": (ModelError, "method 'plain' has no use for a teacher, but one was given", {"method": "plain"}),
    "no file": (CheckpointError, "there is no checkpoint nowhere.safetensors", {"teacher": "nowhere.safetensors"}),
    "unknown": (ModelError, "nothing is known about the input of this Linear", {"student": nn.Linear(2, 2)}),
    "wrapped": (ModelError, "is wrapped in DataParallel; give the network", {"student": nn.DataParallel(network())}),
    "frozen": (ModelError, "CifarResNet has no parameters that require", {"student": network().requires_grad_(False)}),
    "no epochs": (ConfigError, "n_epochs must be a whole number of at least 1, but is 0", {"n_epochs": 0}),
    "smoothing": (ConfigError, "label_smoothing must be at least 0 and below 1, but is 2.0", {"label_smoothing": 2.0}),
    "classes": (ModelError, "CifarResNet has 7 classes, but the student", {"teacher": network(n_classes=7)}),
    "names": (ModelError, "'b' to the teacher, but 'c' in the data", {"student": named("ac"), "teacher": named("ab")}),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_one_line(case):
    error, message, changes = REFUSED[case]
    given = {"student": network(), "teacher": network(CNN, 1), "method": "kd", **changes}
    with pytest.raises(error, match=message):
        kdprobe.Distillation(**given)


WRONG_TYPES = """
import torch, kdprobe
from kdprobe.models import create

student, teacher = (create("resnet8", n_classes=10, image_size=32) for _ in range(2))
own = kdprobe.Distillation(student, teacher, "kd")
images, labels = torch.rand(4, 3, 32, 32), torch.arange(4)
for wrong in (
    lambda: kdprobe.describe("resnet8"),
    lambda: kdprobe.describe(student, image_size="32"),
    lambda: kdprobe.describe(student, mean=0.5),
    lambda: kdprobe.Distillation("resnet8", teacher, "kd"),
    lambda: kdprobe.Distillation(student, teacher, "kd", images="32"),
    lambda: own(images, [0, 1, 2, 3], epoch=0),
    lambda: own(["a", "b"], labels, epoch=0),
    lambda: own(images, labels, epoch="1"),
):
    try:
        wrong()
    except kdprobe.errors.KdprobeError as error:
        print(error)
"""


@pytest.mark.slow
def test_values_of_other_types_are_one_line():
    """In a process of its own: what checks types in tests would be faster."""
    done = subprocess.run([sys.executable, "-c", WRONG_TYPES], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "only a torch.nn.Module can be described, but this is 'resnet8'",
        "CifarResNet cannot be described: image_size must be a whole number, its side in pixels, but is '32'",
        "mean must be a list, but is 0.5; give [0.5]",
        "the student must be a torch.nn.Module, but is 'resnet8'; kdprobe.models.create makes one by its name",
        "images must be example images [B, c, s, s] or their side in pixels, but are '32'",
        "labels must be a tensor, of classes [B] or of probabilities [B, C], but are a list",
        "images must be a tensor [B, c, h, w], but are str",
        "epoch must be a number, the epochs done, but is '1'",
    ]


def test_student_and_teacher_are_two_networks():
    student = network()
    with pytest.raises(ModelError, match=r"share weights; give one of them as a copy, by copy\.deepcopy"):
        kdprobe.Distillation(student, student, "kd")
    assert all(parameter.requires_grad for parameter in student.parameters())


def test_a_batch_that_cannot_be_meant_is_one_line(images):
    seen, labels = images

    def refused(error, message, *given, method="kd", epoch=0.0):
        teacher = network(CNN, 1) if DISTILLERS[method].uses_teacher else None
        own = kdprobe.Distillation(network(), teacher, method)
        with pytest.raises(error, match=message):
            own(*given, epoch=epoch)

    refused(
        DataError,
        r"images must be in \[0, 1\], but are in \[-1, 1\]; give standardised ones as a pair",
        2 * seen - 1,
        labels,
    )
    refused(DataError, r"must be floating-point numbers in \[0, 1\], but are torch.uint8", seen.byte(), labels)
    refused(
        DataError,
        r"labels must be classes \[B\] from 0 to 9, but are \[16\] from \d to 10",
        seen,
        labels + (labels == labels.max()) * (10 - labels),
    )
    refused(DataError, r"probabilities must be \[B, 10\], one for each class", seen, torch.zeros(16, 7))
    for unfit, found in (
        (torch.full((16, 10), 0.2), "the least is 0.2 .* to 2"),
        (torch.eye(10)[labels] * torch.nan, "nan"),
    ):
        refused(DataError, rf"probabilities of an image must be at least 0 and add up to 1, but .*{found}", seen, unfit)
    refused(DataError, "there are no images in this batch; leave it out", seen[:0], labels[:0])
    refused(DataError, r"images must be a tensor \[B, c, h, w\], but are \[3, 32, 32\]", seen[0], labels[:3])
    refused(DataError, r"takes images of 3 channels, but these are \[16, 1, 32, 32\]", seen[:, :1], labels)
    refused(DataError, "there are 15 labels, but 16 images", seen, labels[1:])
    refused(DataError, "there are 16 labels, but 16 and 9 images", (seen, seen[:9]), labels)
    refused(DataError, r"images must be one batch, or a pair \(student's, teacher's\), but are 3", [seen] * 3, labels)
    refused(ModelError, r"method 'mld' makes its own views of images in \[0, 1\]", (seen, seen), labels, method="mld")
    refused(DataError, "method 'scn' remembers single images: give index=", seen, labels, method="scn")
    refused(ConfigError, "epochs done, from 0, of n_epochs=1, but is 1", seen, labels, epoch=1)
    refused(ConfigError, "epochs done, from 0, of n_epochs=1, but is -0.5", seen, labels, epoch=-0.5)


def test_options_are_called_what_they_are_called_here():
    with pytest.raises(
        ConfigError, match=r"Distillation: scales: must be sides of grids, .* \[1, 2\], but is \(2, 4\)"
    ):
        kdprobe.Distillation(network(), network(), "sdd", scales=(2, 4))
    with pytest.raises(ModelError, match=r", or set kd_weight=0, or take a method that"):
        kdprobe.Distillation(network(), network(n_classes=0), "srd")
    with pytest.raises(ModelError, match=r"say with teacher.classes \(in Python, classes=\) which"):
        kdprobe.Distillation(network(), network(n_classes=5), "kd")


def test_a_student_that_comes_in_evaluation_mode_is_trained(images):
    loaded, new = network(seed=1).eval(), network(seed=1)
    frozen = network(seed=1)
    frozen.bn1.eval()
    found = [kdprobe.Distillation(one, network(), "kd") for one in (loaded, new, frozen)]
    terms = [numbers(one(*images, epoch=0).terms) for one in found]
    assert terms[0] == terms[1] != terms[2]
    assert torch.equal(loaded.bn1.running_mean, new.bn1.running_mean)
    assert not frozen.bn1.training


def test_a_teacher_of_another_precision_is_shown_images_in_it(images):
    exact = kdprobe.Distillation(network(seed=1), network(), "kd")(*images, epoch=0).loss
    for precision in (torch.float64, torch.bfloat16):
        own = kdprobe.Distillation(network(seed=1), network().to(precision), "kd")
        torch.testing.assert_close(own(*images, epoch=0).loss, exact, rtol=0.01, atol=0, check_dtype=False)


def test_the_channels_of_images_are_those_of_both_networks():
    grey = {"mean": (0.5,), "std": (0.25,), "args": {"in_chans": 1}}
    build = {"n_classes": 10, "image_size": 32}
    own = kdprobe.Distillation(create(CNN, **build), create(CNN, **build, **grey), "kd")
    with pytest.raises(
        ModelError, match="network 'resnet8' takes images of 1 channels, a mean for each, but these hav"
    ):
        own(torch.rand(4, 3, 32, 32), torch.arange(4), epoch=0)
    own = kdprobe.Distillation(create(CNN, **build, **grey), create(CNN, **build), "kd")
    assert own(torch.rand(4, 1, 32, 32), torch.arange(4), epoch=0).loss.isfinite()


@pytest.mark.parametrize("method", ["mld", "cakd", "eac"])
def test_views_are_made_of_grey_images_too(method):
    grey = {"n_classes": 10, "image_size": 32, "mean": (0.5,), "std": (0.25,)}
    student = create(CNN, **grey, args={"in_chans": 1})
    teacher = None if method == "eac" else create(TOKENS, **grey, args={**VIT, "in_chans": 1})
    own = kdprobe.Distillation(student, teacher, method)
    torch.manual_seed(0)
    assert own(torch.rand(16, 1, 32, 32), torch.arange(16) % 10, epoch=0).loss.isfinite()


@pytest.mark.parametrize("method", ["eac", "scn"])
def test_methods_that_need_the_class_of_each_image_refuse_mixed_ones(images, method):
    shown, labels = images
    probabilities = torch.nn.functional.one_hot(labels, 10).float() * 0.6 + 0.04
    own = kdprobe.Distillation(network(), None, method)
    with pytest.raises(ModelError, match=f"{method.upper()} learns from the class of each image, which mixed images d"):
        own(shown, probabilities, epoch=0, index=torch.arange(len(labels)))


def test_smoothed_labels_are_refused_where_they_would_change_nothing():
    with pytest.raises(
        ModelError, match="EAC classifies by a term of its own, in which labels are not smoothed; set tr"
    ):
        kdprobe.Distillation(network(), None, "eac", label_smoothing=0.1)
    assert kdprobe.Distillation(network(), None, "scn", label_smoothing=0.1)
