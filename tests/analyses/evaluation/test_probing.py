"""Features judged by simple classifiers: against formulas, and from checkpoints to results."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from analyses.commands.evaluate import evaluate as command
from analyses.evaluation import judge_by_probe, probing
from analyses.evaluation.accuracy import evaluate
from analyses.evaluation.classifiers import linear_probe, nearest_neighbours
from analyses.evaluation.predictions import judge
from figures.report.evaluation import evaluation_panels
from kdprobe import load
from kdprobe.data import View, load_data
from kdprobe.errors import AnalysisError, ConfigError, DataError, ModelError
from kdprobe.models import ModelInfo, attach, create, model_info, save
from kdprobe.results import check_result, load_result

DIGITS = "tests.tiny:digits"


def blobs(n=240, d=6, distance=3.0, n_classes=4, seed=0):
    """Images of classes in balls around points, with labels, and as many test images."""
    generator = torch.Generator().manual_seed(seed)
    middles = distance * torch.randn(n_classes, d, generator=generator)
    labels = torch.arange(2 * n) % n_classes
    features = middles[labels] + torch.randn(2 * n, d, generator=generator)
    return features[:n], labels[:n], features[n:], labels[n:]


def test_the_linear_probe_learns_what_is_there_at_any_scale():
    x, y, shown, wanted = blobs()
    found = linear_probe(x, y, shown, n_classes=4)
    assert (found.probabilities.argmax(1) == wanted.numpy()).mean() > 0.97
    np.testing.assert_allclose(found.probabilities.sum(1), 1)
    assert found.converged
    scale = torch.tensor([1e-3, 1, 5, 1e4, 1, 1])
    moved = linear_probe(x * scale + 7, y, shown * scale + 7, n_classes=4)
    np.testing.assert_allclose(moved.probabilities, found.probabilities, atol=1e-2)
    constant = torch.cat([x, torch.ones(len(x), 1)], 1), torch.cat([shown, torch.ones(len(shown), 1)], 1)
    np.testing.assert_allclose(
        linear_probe(constant[0], y, constant[1], n_classes=4).probabilities, found.probabilities, atol=1e-9
    )
    other = linear_probe(x, y + 2, shown, n_classes=7)
    assert other.probabilities[:, [0, 1, 6]].tolist() == np.zeros((240, 3)).tolist()


def test_c_is_chosen_on_training_images_alone():
    generator = torch.Generator().manual_seed(0)
    x, y, shown, _ = blobs(n=120, distance=0.6)
    noise = torch.randn(len(x), 200, generator=generator), torch.randn(len(shown), 200, generator=generator)
    noisy, noisy_shown = torch.cat([x, noise[0]], 1), torch.cat([shown, noise[1]], 1)
    found = linear_probe(noisy, y, noisy_shown, n_classes=4)
    assert found.strength < 1 == found.converged
    again = linear_probe(noisy, y, noisy_shown.flip(0), n_classes=4)
    assert again.strength == found.strength
    np.testing.assert_array_equal(again.probabilities, found.probabilities[::-1])
    clear = linear_probe(*blobs(distance=30)[:3], n_classes=4, strengths=(0.1, 1, 10))
    assert clear.strength == 10  # all are right about the held-out images, and this one is surest


def test_training_images_are_shown_as_the_test_images_are(tmp_path):
    noise = np.random.default_rng(0)
    for number in range(12):
        pixels = noise.integers(0, 256, (48, 48, 3), dtype=np.uint8)
        for split in ("train", "test"):
            folder = tmp_path / split / "ab"[number % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).resize((64, 64)).save(folder / f"{number}.png")
    model = create("resnet8", n_classes=2, image_size=32)
    save(attach(model, replace(model_info(model), view=View(0.5, "bilinear", "center"))), tmp_path / "one.safetensors")
    for view in (View(), View(crop_pct=0.7)):
        options = {"probe": "knn", "neighbours": 1, "view": view}
        ((one,), _) = judge_by_probe(tmp_path / "one.safetensors", f"folder:{tmp_path}", **options)
        assert one.data.train.images.equal(one.data.test.images)
        assert one.logits.argmax(1).tolist() == one.data.test.labels.tolist()  # the nearest image is itself


def test_a_probe_that_does_not_converge_says_so(monkeypatch):
    from analyses.evaluation import classifiers

    monkeypatch.setattr(classifiers, "_ITERATIONS", 2)
    assert not linear_probe(*blobs()[:3], n_classes=4).converged


def test_neighbours_vote_as_in_scikit_learn():
    x, y, shown, _ = blobs(distance=1.0)
    found = nearest_neighbours(x, y, shown, n_classes=4, neighbours=7, temperature=0.1)
    reference = KNeighborsClassifier(7, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.1))
    np.testing.assert_allclose(found, reference.fit(x.double(), y).predict_proba(shown.double()), atol=1e-12)
    one = nearest_neighbours(x, y, x * 5, n_classes=5, neighbours=1)
    assert (one.argmax(1) == y.numpy()).all()
    assert (one[:, 4] == 0).all()


def test_features_that_vary_by_rounding_alone_do_not_reach_a_linear_probe():
    x, y, shown, _ = blobs()
    plain = linear_probe(x, y, shown, n_classes=4)
    noise = 3.7 * (1 + 1e-7 * torch.randn(480, 60, generator=torch.Generator().manual_seed(0)))
    one_apart = torch.full((480, 60), 3.7e9)
    one_apart[0] *= 1 + 2e-7
    one_apart[240:] *= 1 + 4e-7
    for rounded in (noise, one_apart):
        found = linear_probe(torch.cat([x, rounded[:240]], 1), y, torch.cat([shown, rounded[240:]], 1), n_classes=4)
        np.testing.assert_allclose(found.probabilities, plain.probabilities, atol=1e-9)


def test_neighbours_that_are_equally_alike_share_the_votes_in_any_order():
    x, y, shown, _ = blobs()
    x, y = x[:20].relu()[torch.arange(240) % 20], torch.arange(240) % 7 % 3
    shown = torch.cat([shown, torch.zeros(1, 6)])
    found = nearest_neighbours(x, y, shown, n_classes=3, neighbours=20)
    order = torch.randperm(240, generator=torch.Generator().manual_seed(0))
    np.testing.assert_allclose(nearest_neighbours(x[order], y[order], shown, n_classes=3), found, atol=1e-12)
    np.testing.assert_allclose(found[-1], torch.bincount(y) / 240, atol=1e-6)  # like none, and so like all
    two = nearest_neighbours(
        torch.tensor([[1.0, 0], [0, 1], [1, 1], [1, 1]]),
        torch.tensor([0, 1, 0, 1]),
        torch.tensor([[2.0, 0]]),
        n_classes=2,
        neighbours=2,
    )  # the second neighbour is half of each class
    late = np.exp((0.5**0.5 - 1) / 0.07)
    np.testing.assert_allclose(two, [[(1 + late / 2) / (1 + late), late / 2 / (1 + late)]])


def test_what_no_probe_can_learn_is_refused():
    x, y, shown, _ = blobs(n=20)
    for probe in (linear_probe, nearest_neighbours):
        with pytest.raises(AnalysisError, match=r"but the training images are all of one class"):
            probe(x, 0 * y, shown, n_classes=4)
    with pytest.raises(AnalysisError, match=r"21 nearest neighbours were asked for, but there are 20 training images"):
        nearest_neighbours(x, y, shown, n_classes=4, neighbours=21)
    with pytest.raises(DataError, match=r"cannot be taken from class 3"):
        linear_probe(x, torch.tensor([0, 1, 2] * 6 + [2, 3]), shown, n_classes=4)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A network with a head of three classes, and the same without."""
    folder = tmp_path_factory.mktemp("nets")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = create("resnet10t", n_classes=3, image_size=16)
    save(model, folder / "head.safetensors")
    model.reset_classifier(0)
    save(attach(model, replace(model_info(model), n_classes=0)), folder / "headless.safetensors")
    return [str(folder / "head.safetensors"), str(folder / "headless.safetensors")]


@pytest.mark.slow
def test_a_head_makes_no_difference(checkpoints):
    for probe in ("linear", "knn"):
        judged, how = judge_by_probe(checkpoints, DIGITS, probe=probe)
        assert torch.equal(judged[0].logits, judged[1].logits)
        assert (how["kind"], how["n_images"], how["dimension"]) == (probe, [96] * 2, [512] * 2)
        result = evaluate(judged, probe=how)
        check_result(result)
        assert result.arrays["accuracy"][0, 0] > 0.4
        assert result.arrays["accuracy"][0, 1] < result.arrays["accuracy"][0, 0] < result.arrays["accuracy"][0, 2]
    data = load_data(DIGITS, image_size=16)
    x, y = probing.pooled_features(
        next(probing.open_networks(checkpoints[1], DIGITS)), data.train, batch_size=100, workers=0, quiet=True
    )
    assert torch.equal(y, data.train.labels)
    model = load(checkpoints[1])
    with torch.no_grad():
        shown = model(model_info(model).normalise(data.train.images[-3:].float() / 255))
    torch.testing.assert_close(x[-3:], shown, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_the_command_says_how_it_judged(checkpoints, tmp_path: Path):
    def run(*words):
        arguments = ["--checkpoint", checkpoints[1], "--data", DIGITS, "--out", str(tmp_path), "--device", "cpu"]
        return CliRunner().invoke(command, [*arguments, *words], catch_exceptions=False, standalone_mode=False)

    text = run("--probe", "knn", "--neighbours", "3", "--against", checkpoints[0]).stdout
    assert "headless, kNN: votes of the 3 nearest of 96 training images, 512 features" in text
    assert "accuracy - head, kNN" in text
    result = load_result(tmp_path / "evaluation-knn.npz", kind="evaluation")
    assert result.facts["probe"]["neighbours"] == 3
    assert result.facts["names"] == ["headless, kNN", "head, kNN"]
    assert (tmp_path / "reliability-knn.png").exists()
    panel = evaluation_panels([("knn", result)])[0]
    assert "headless, kNN: votes of the 3 nearest of 96 training images" in panel.charts[0].caption
    with pytest.raises(ConfigError, match="--neighbours is for --probe knn"):
        run("--probe", "linear", "--neighbours", "3")
    with pytest.raises(
        AnalysisError, match=r"has no classifier, so it answers nothing; kdprobe evaluate judges its features"
    ):
        judge(checkpoints[1], DIGITS)


class Odd(nn.Module):
    """Its pooled features are made by `pooled`, and its classifier may not run."""

    def __init__(self, pooled, runs=True):
        super().__init__()
        self.fc, self.pooled, self.runs = nn.Linear(3, 10), pooled, runs

    def get_classifier(self):
        return self.fc

    def forward(self, x):
        pooled = self.pooled(x.mean((2, 3)))
        return self.fc(pooled) if self.runs else nn.functional.linear(pooled, self.fc.weight)


def test_features_that_are_not_there_are_refused():
    data = load_data("digits", image_size=8)
    asked = {"batch_size": 256, "workers": 0, "quiet": True}

    def opened(model):
        attach(model, ModelInfo("odd", 10, 8))
        return probing.Opened("odd", "runs/odd", model, "digits", data, torch.device("cpu"))

    with pytest.raises(ModelError, match=r"the classifier of Odd did not run"):
        probing.pooled_features(opened(Odd(nn.Identity(), runs=False)), data.test, **asked)
    broken = Odd(lambda x: torch.where(x > x.mean(), x / 0, x))
    with pytest.raises(
        AnalysisError, match=r"features of runs/odd are NaN or infinite for \d+ of 359 images of digits"
    ):
        probing.pooled_features(opened(broken), data.test, **asked)


def test_a_data_set_of_one_class_is_refused(checkpoints, tmp_path: Path):
    from PIL import Image

    for split in ("train", "test"):
        for number in range(3):
            path = tmp_path / split / "only" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (number, 0, 0)).save(path)
    with pytest.raises(AnalysisError, match=r"needs images of at least two classes, but folder:.* has 1"):
        judge_by_probe(checkpoints[1], f"folder:{tmp_path}", probe="linear")
