"""The pages on loops of one's own: what they show runs, and gives the same weights in every loop."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import kdprobe
from kdprobe.models import create, save

pytestmark = pytest.mark.slow

PAGES = Path(__file__).parents[1] / "docs/howto/loops"


def blocks(page):
    """The Python of a page, shortened to one epoch."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    return [
        code.replace("N_EPOCHS = 8", "N_EPOCHS = 1") for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    ]


def small_vit(seed, **facts):
    torch.manual_seed(seed)
    args = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
    return create("vit_tiny_patch16_224", n_classes=10, image_size=32, args=args, **facts)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which `kdprobe demo` would have left its teacher."""
    folder = tmp_path_factory.mktemp("loops")
    save(small_vit(1, mean=(0.2, 0.3, 0.4), std=(0.3, 0.3, 0.3)), folder / "demo/runs/teacher/last.safetensors")
    return folder


def run(code, folder, *, start=()):
    """Run a script in a process of its own, as a user does."""
    script = folder / "script.py"
    script.write_text(code, encoding="utf-8")
    root = str(Path(kdprobe.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    words = [sys.executable, *start, str(script)]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def plain(place):
    """The student that the plain loop trains, whose later pieces run after it."""
    first, precision, restart, _, trainer = blocks("plain")
    precision = precision.replace('"cuda", dtype=torch.float16', '"cpu", dtype=torch.bfloat16').replace(
        '"cuda"', '"cpu"'
    )
    out = run("\n".join([first, "images = images / 255", precision, restart]), place)
    assert re.search(r"0 \{'ce': \d\.\d+, 'feature': ", out)
    state = torch.load(place / "state.pt", weights_only=True)
    assert state["epoch"] == 1
    assert "objective.student.model.conv1.weight" in state["distillation"]
    return load_file(place / "student.safetensors"), first, trainer


def same(state, other):
    assert state.keys() == other.keys()
    assert [key for key in state if not torch.equal(state[key], other[key])] == []


def test_lightning_gives_the_weights_of_the_plain_loop(plain, place):
    (code,) = blocks("lightning")
    again = """
resumed = Distilling(create("resnet8", n_classes=10, image_size=32), "demo/runs/teacher", "dropkd", dim=64)
resumed.load_state_dict(torch.load(trainer.checkpoint_callback.best_model_path, weights_only=True)["state_dict"])
assert all(torch.equal(a, b) for a, b in zip(module.parameters(), resumed.parameters()))
assert not any("blocks" in name for name, _ in module.named_parameters())
"""
    run(code.replace("logger=False", "logger=False, enable_progress_bar=False") + again, place)
    same(load_file(place / "student.safetensors"), plain[0])


def test_accelerate_gives_the_weights_of_the_plain_loop(plain, place):
    (code,) = blocks("accelerate")
    again = """
before = {name: value.clone() for name, value in distillation.state_dict().items()}
with torch.no_grad():
    student.conv1.weight.zero_()
accelerator.load_state("state")
assert all(torch.equal(before[name], value) for name, value in distillation.state_dict().items())
"""
    run(code + again, place)
    same(load_file(place / "student.safetensors"), plain[0])
    half = code.replace("Accelerator()", 'Accelerator(mixed_precision="bf16", cpu=True)')
    out = run(half + "print(out.loss.dtype, out.logits.dtype, sorted(out.terms)[0], bool(out.loss.isfinite()))", place)
    assert out == "torch.float32 torch.float32 ce True\n"


def test_the_trainers_batches_and_optimizer_give_the_trainers_weights(plain, place):
    _, first, trainer = plain
    setup, _, _ = first.partition("for epoch in")
    settings = ["method.logit_weight=1", "training.epochs=1", "training.precision=fp32", "data.workers=0"]
    words = [word for one in settings for word in ("--set", one)]
    command = [
        "train",
        "digits/resnet8-dropkd",
        "--teacher",
        "demo/runs/teacher",
        "--out",
        "run",
        "--device",
        "cpu",
        *words,
    ]
    run(f"import kdprobe\nassert kdprobe.main({command!r}) == 0", place)
    # the trainer standardises by the mean and std of the data, and computes deterministically
    facts = "data = load_data('digits', image_size=32)\ntorch.use_deterministic_algorithms(True)\n"
    setup = setup.replace("digits = ", f"{facts}digits = ")
    setup = setup.replace("10, image_size=32", "10, image_size=32, mean=data.mean, std=data.std")
    run(setup + trainer + 'save(student, Path("student.safetensors"))', place)
    same(load_file(place / "student.safetensors"), load_file(place / "run/last.safetensors"))


TWO = """
import torch, torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
import kdprobe
from kdprobe.models import create

def vit(seed):
    torch.manual_seed(seed)
    args = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3}
    return create("vit_tiny_patch16_224", n_classes=10, image_size=32, args=args)

dist.init_process_group("gloo")
rank = dist.get_rank()
images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
labels, part = torch.arange(8), slice(4 * rank, 4 * rank + 4)
teacher = vit(1)
whole = kdprobe.Distillation(vit(0), teacher, "kd", n_epochs=2)
whole(images, labels, epoch=1).loss.backward()
own = kdprobe.Distillation(vit(0), teacher, "kd", n_epochs=2)
wrapped = DistributedDataParallel(own)
for _ in range(2):
    own.zero_grad()
    out = wrapped(images[part], labels[part], epoch=1)
    out.loss.backward()
for one, other in zip(own.parameters(), whole.parameters()):
    torch.testing.assert_close(one.grad, other.grad, rtol=1e-4, atol=1e-6)
assert len(list(wrapped.parameters())) == len(list(own.student.parameters()))
assert all(parameter.grad is None for parameter in teacher.parameters())
print("averaged", flush=True)
dist.destroy_process_group()
"""


def test_two_processes_average_the_gradients_of_all_but_the_teacher(tmp_path):
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node=2"]
    assert run(TWO, tmp_path, start=torchrun).count("averaged") == 2


TASK = """
import timm, torch
from timm.optim import create_optimizer_v2
from timm.task import resume_task_checkpoint, load_task_ema_checkpoint
from timm.utils import CheckpointSaver

def make(compile=False):
    torch.manual_seed(0)
    student = timm.create_model("test_vit2", img_size=32, num_classes=10)
    task = KdprobeTask(
        student, "demo/runs/teacher", "crd", memory=16, n_epochs=2, updates_per_epoch=3,
        data_config={"input_size": (3, 32, 32), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)},
    )
    task.setup_ema(decay=0.5)
    return task, create_optimizer_v2(task.get_trainable_module(), opt="sgd", lr=0.1)

def train(task, optimizer, first, last):
    for update in range(first, last):
        generator = torch.Generator().manual_seed(update)
        images = torch.rand(8, 3, 32, 32, generator=generator)
        task.get_trainable_module().train()
        found = task((images - 0.5) / 0.5, torch.arange(8))
        found["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        task.update_ema(step=update + 1)
        task.get_eval_model().eval()
    return found

whole, optimizer = make()
train(whole, optimizer, 0, 4)
parts, other = make()
train(parts, other, 0, 2)
CheckpointSaver(parts.get_trainable_module(), other, task=parts).save_checkpoint(0)
parts, other = make()
assert resume_task_checkpoint(parts, "last.pth.tar", optimizer=other) == 1
load_task_ema_checkpoint(parts, "last.pth.tar")
train(parts, other, 2, 4)
for ema in (False, True):
    both = [one.get_trainable_module(ema=ema).state_dict() for one in (whole, parts)]
    assert both[0].keys() == both[1].keys() and len(both[0]) > 20
    assert not [name for name in both[0] if not torch.equal(both[0][name], both[1][name])]
    assert type(whole.get_eval_model(ema=ema)).__name__ == "VisionTransformer"
assert not torch.equal(both[0]["module.objective.student.model.head.weight"], whole.get_eval_model().head.weight)

images = torch.rand(8, 3, 32, 32)
whole.get_trainable_module().eval()
distillation = whole.get_trainable_module()
task_loss = whole((images - 0.5) / 0.5, torch.arange(8))
own = distillation(images, torch.arange(8), epoch=4 / 3)
torch.testing.assert_close(task_loss["loss"], own.loss, rtol=1e-4, atol=1e-5)
print(sorted(task_loss))
"""


def test_timms_task_trains_averages_and_resumes(place):
    task, patch = blocks("timm")
    assert run(task + TASK, place) == "['ce', 'contrast', 'loss', 'output']\n"
    compile(patch, "train.py", "exec")
