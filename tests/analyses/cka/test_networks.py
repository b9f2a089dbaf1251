import dataclasses
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from analyses.cka.intervals import half_widths, missing_interval
from analyses.cka.networks import check_networks, cka, minibatch_cka
from analyses.cka.result import CKAResult
from analyses.cka.stored import files_cka
from analyses.cka.sums import HSICSums
from analyses.jackknife import jackknife_t
from analyses.similarity.null import calibrate_pairs, random_orders
from kdprobe.data import Batch
from kdprobe.errors import AnalysisError, CaptureError, ConfigError, ResultError, StoreError
from kdprobe.features import dump as dumping
from kdprobe.features.capturing import capture
from kdprobe.features.gram import centred_gram
from kdprobe.features.store import FeatureStore, Network
from kdprobe.models.checkpoint import save
from kdprobe.models.creation import create
from tests import goldens, references
from tests.benchmarks.populations import cka_coverage, linear

GOLDEN = np.load(goldens.FOLDER / "hsic_cka.npz")
CASES = [i for i in range(int(GOLDEN["n_cases"])) if GOLDEN[f"c{i}_x"].ndim == 3]


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Net(nn.Module):
    def __init__(self, width=4, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.layer1 = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.layer2 = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True))
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(width, 3)

    def forward(self, x):
        return self.fc(self.dropout(self.layer2(self.layer1(x)).mean((2, 3))))


def batches(n=40, size=8, *, image_size=8, order=None):
    images = torch.rand(n, 3, image_size, image_size, generator=torch.Generator().manual_seed(0))
    return [Batch(images[i], i % 3, i) for i in (torch.arange(n) if order is None else order).split(size)]


@pytest.fixture(scope="module")
def images():
    return normal(5, 12, 3, 8, 8).float()


@pytest.fixture(scope="module")
def nets():
    torch.manual_seed(0)
    teacher = create("vit_tiny_patch16_224", n_classes=3, image_size=16, args={"patch_size": 8, "depth": 2})
    return {"teacher": teacher, "student": create("resnet8", n_classes=5, image_size=16)}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-7), (torch.float32, 1e-5)])
def test_exact_rational_values(case, dtype, rtol):
    x, y = (torch.from_numpy(GOLDEN[f"c{case}_{name}"]).to(dtype) for name in "xy")
    np.testing.assert_allclose(minibatch_cka(x, y), GOLDEN[f"c{case}_cka"], rtol=rtol)


def test_equals_the_definition():
    x, y = normal(3, 6, 4), normal(3, 6, 5, seed=1)
    assert minibatch_cka(x, y) == pytest.approx(references.minibatch_cka(x, y), rel=1e-10)


def test_invariances_and_their_limits():
    x, y = normal(4, 10, 5), normal(4, 10, 5, seed=1)
    rotation = torch.linalg.qr(normal(5, 5, seed=2)).Q
    assert minibatch_cka(x, x) == pytest.approx(1)
    assert minibatch_cka(x, 3 * x @ rotation + 7) == pytest.approx(1)
    assert minibatch_cka(x, y) == pytest.approx(minibatch_cka(y, x))
    assert minibatch_cka(x, x @ torch.diag(torch.tensor([9.0, 1, 1, 1, 1], dtype=torch.float64))) < 0.9


def test_independent_features_are_not_alike():
    assert abs(minibatch_cka(normal(20, 64, 512), normal(20, 64, 512, seed=1))) < 0.01


def test_unequal_features_and_features_that_do_not_vary():
    with pytest.raises(AnalysisError, match=r"but have the shapes \[2, 5, 3\] and \[2, 6, 3\]"):
        minibatch_cka(normal(2, 5, 3), normal(2, 6, 3))
    with pytest.raises(AnalysisError, match="at least 4 samples, but got 3"):
        minibatch_cka(normal(2, 3, 3), normal(2, 3, 3))
    with pytest.raises(AnalysisError, match="CKA is undefined: student layer 'y' is the same for all samples"):
        minibatch_cka(normal(2, 5, 3), torch.ones(2, 5, 3, dtype=torch.float64))


@pytest.mark.slow
def test_matrix_equals_minibatch_cka_of_each_pair(images):
    teacher, student = Net().eval(), Net(6, seed=1).eval()
    result = cka(teacher, student, images, teacher_layers="stages", student_layers=["layer2", "layer1.1", "fc"])
    assert (result.teacher_layers, result.student_layers) == (["layer1", "layer2"], ["layer1.1", "layer2", "fc"])

    def features(model, layer):
        taken = []
        with torch.no_grad(), capture(model, layer) as features:
            for batch in images:
                model(batch)
                taken.append(features[layer].double())
        return torch.stack(taken)

    for i, row in enumerate(result.teacher_layers):
        for j, column in enumerate(result.student_layers):
            expected = minibatch_cka(features(teacher, row), features(student, column))
            assert result.matrix[i, j] == pytest.approx(expected, rel=1e-5)
            assert result.low[i, j] <= result.matrix[i, j] <= result.high[i, j]
    assert not result.undefined
    assert (result.facts["n_samples"], result.facts["n_minibatches"], result.facts["teacher"]) == (60, 5, "Net")


def test_a_layer_and_the_in_place_relu_behind_it_differ(images):
    net = Net().eval()
    result = cka(net, net, images, teacher_layers="layer1.1", student_layers="layer1.2")
    assert result.matrix[0, 0] < 0.99


def test_one_shuffling_loader_is_fair(images):
    loader = DataLoader(TensorDataset(images.flatten(0, 1)), batch_size=12, shuffle=True)
    result = cka(Net(), Net(), loader, teacher_layers="all", student_layers="all")
    assert np.allclose(np.diag(result.matrix), 1)
    assert (result.low <= result.matrix + 1e-6).all()  # intervals are of what float32 keeps of each minibatch


def test_two_loaders_must_show_the_same_images(images):
    data = TensorDataset(images.flatten(0, 1))
    shuffling = DataLoader(data, batch_size=12, shuffle=True)
    with pytest.raises(AnalysisError, match="two loaders that shuffle show different images"):
        cka(Net(), Net(), DataLoader(data, batch_size=12), student_loader=shuffling)
    other = batches(order=torch.arange(39, -1, -1))
    with pytest.raises(AnalysisError, match="minibatch 0 holds different images for the student"):
        cka(*(create("resnet8", n_classes=3, image_size=8) for _ in range(2)), batches(), student_loader=other)
    with pytest.raises(AnalysisError, match="minibatch 4 holds different images for the student"):
        cka(Net(), Net(), list(images), student_loader=list(images[:4]))


def test_short_minibatches_are_left_out_and_counted(images):
    flat = images.flatten(0, 1)
    result = cka(Net(), Net(seed=1), flat[:51].split(12))
    assert (result.facts["n_samples"], result.facts["n_left_out"], result.facts["n_minibatches"]) == (48, 3, 4)
    assert np.array_equal(result.matrix, cka(Net(), Net(seed=1), flat[:48].split(12)).matrix)
    with pytest.raises(AnalysisError, match="needs a minibatch of at least 4 samples, but there were 3 samples"):
        cka(Net(), Net(), [flat[:3]])
    with pytest.raises(AnalysisError, match="but there were 0 samples"):
        cka(Net(), Net(), [])


def test_layers_that_do_not_vary_are_undefined_with_a_reason(images, tmp_path):
    teacher = Net()
    nn.init.constant_(teacher.layer1[1].weight, 0)
    result = cka(teacher, Net(seed=1), images, teacher_layers=["layer1.1", "layer1.0"])
    assert np.isnan(result.matrix).tolist() == [[False, False], [True, True]]
    assert np.isnan(result.low).tolist() == np.isnan(result.high).tolist() == [[False, False], [True, True]]
    reason = "teacher layer 'layer1.1' is the same for all samples but for rounding: its HSIC with itself is 0"
    pairs = [{"teacher_layer": "layer1.1", "student_layer": s, "reason": reason} for s in ("layer1", "layer2")]
    assert result.undefined == pairs
    assert result.to_frame()["undefined"].tolist() == ["", "", reason, reason]
    result.save(tmp_path / "cka.npz")
    assert reason in (tmp_path / "cka.csv").read_text()
    assert "2 cells undefined" in result.summary()


def test_non_finite_features_name_network_layer_and_minibatch(images):
    damaged = images.clone()
    damaged[2, 3, 0, 0, 0] = float("nan")
    with pytest.raises(AnalysisError, match=r"minibatch 2 of Net: layer 'layer1': \d+ NaN and 0 infinite"):
        cka(Net(), Net(), damaged)


def test_a_minibatch_must_be_a_tensor():
    with pytest.raises(AnalysisError, match="a minibatch must be a tensor or begin with one, but is dict"):
        cka(Net(), Net(), [{"image": 1}])
    with pytest.raises(CaptureError, match="no layer 'layer9' in Net"):
        cka(Net(), Net(), [], student_layers="layer9")


def test_sums_refuse_other_layers():
    gram = centred_gram(normal(6, 3))
    sums = HSICSums()
    sums.add({"a": gram}, {"b": gram})
    with pytest.raises(AnalysisError, match="minibatch 1 has other layers than those before it"):
        sums.add({"a": gram}, {"c": gram})


def test_p_values_tell_similar_from_independent():
    x, y = normal(6, 16, 5), normal(6, 16, 5, seed=1)
    sums = HSICSums(permutations=99)
    for one, other in zip(x, y, strict=True):
        grams = {"x": centred_gram(one)}
        sums.add(grams, {"same": centred_gram(one), "other": centred_gram(other), "flat": torch.zeros(16, 16)})
    result = sums.result()
    assert result.p_values[0, 0] == 0.01
    assert result.p_values[0, 1] > 0.05
    assert np.isnan(result.p_values[0, 2])
    assert result.to_frame()["p_value"].tolist()[:2] == result.p_values[0, :2].tolist()


def test_p_values_of_independent_features_are_uniform():
    below = 0
    for seed in range(60):
        sums = HSICSums(permutations=19)
        sums.add({"x": centred_gram(normal(12, 3, seed=seed))}, {"y": centred_gram(normal(12, 3, seed=seed + 1000))})
        below += sums.result().p_values[0, 0] <= 0.2
    assert 4 <= below <= 22


@pytest.mark.parametrize("reduce", ["gap", "mean", "tokens", lambda x: x[:, :2]])
def test_reducers(images, reduce):
    result = cka(Net(), Net(), images, reduce=reduce)
    assert np.allclose(np.diag(result.matrix), 1)


@pytest.mark.parametrize("options", [{"kernel": "rbf"}, {"estimator": "biased"}])
def test_kernels_and_estimators(images, options):
    result = cka(Net(), Net(seed=1), images, **options)
    plain = cka(Net(), Net(seed=1), images)
    assert not np.allclose(result.matrix, plain.matrix)
    assert result.facts | options == result.facts
    assert np.allclose(np.diag(cka(Net(), Net(), images, **options).matrix), 1)


def test_models_are_left_as_they_were(images):
    net = Net().train()
    cka(net, net, images)
    assert all(module.training for module in net.modules())
    assert sum(len(m._forward_hooks) for m in net.modules()) == 0


def test_saved_and_loaded(images, tmp_path):
    result = cka(Net(), Net(seed=1), images)
    result.save(tmp_path / "cka.npz")
    loaded = CKAResult.load(tmp_path / "cka.npz")
    for name in ("matrix", "low", "high", "hsic_xy", "hsic_xx", "hsic_yy"):
        assert np.array_equal(getattr(result, name), getattr(loaded, name))
    assert (loaded.facts, loaded.teacher_layers, loaded.provenance) == (
        result.facts,
        result.teacher_layers,
        result.provenance,
    )
    with pytest.raises(ResultError, match="there is no result"):
        CKAResult.load(tmp_path / "none.npz")


def test_what_was_found_shows_itself_as_its_result_does(images):
    result = cka(Net(), Net(seed=1), images)
    lowest, highest = result.matrix.min(), result.matrix.max()
    count = result.facts["n_samples"]
    assert repr(result) == (
        f"CKAResult({len(result.teacher_layers)} layers of Net x {len(result.student_layers)} layers of Net, {count} "
        f"samples, CKA {lowest:.3f} to {highest:.3f})"
    )
    nowhere = dataclasses.replace(result, matrix=np.full_like(result.matrix, np.nan), facts={})
    assert repr(nowhere).endswith("layers of the student, ? samples, CKA undefined)")
    assert result._repr_html_() == result.to_result()._repr_html_()
    own, stored = (one["teacher_layers student_layers"] for one in (result.to_frames(), result.to_result().to_frames()))
    assert own.equals(stored)
    assert own["matrix"].max() == highest
    axes = result.plot(names={result.teacher_layers[0]: "first"}, palette=["white", "#123456"])
    assert axes.get_yticklabels()[0].get_text() == "first"
    assert axes.images[0].cmap(1.0)[:3] == pytest.approx([0x12 / 255, 0x34 / 255, 0x56 / 255])


def test_xarray_gets_what_was_found_with_its_layers(images, monkeypatch):
    made = SimpleNamespace(Dataset=lambda variables, coords, attrs: SimpleNamespace(v=variables, c=coords, a=attrs))
    monkeypatch.setitem(sys.modules, "xarray", made)
    result = cka(Net(), Net(seed=1), images)
    found = result.to_xarray()
    assert found.v["matrix"][0] == ("teacher_layers", "student_layers")
    assert found.c["teacher_layers"] == result.teacher_layers
    assert found.a["kind"] == "cka"


def test_intervals_equal_the_definition():
    rng, sizes = np.random.default_rng(0), np.array([30, 30, 30, 8])
    xx, yy = rng.gamma(9, size=(4, 2)), rng.gamma(9, size=(4, 3))
    xy = rng.normal(4, size=(4, 2, 3))

    def value(kept, row, column):
        terms = [(sizes[i] * xy[i, row, column], sizes[i] * xx[i, row], sizes[i] * yy[i, column]) for i in kept]
        cross, one, other = np.sum(terms, axis=0)
        return cross / np.sqrt(one * other)

    halves = half_widths(xy, xx, yy, sizes=sizes.tolist(), confidence=0.9)
    for row, column in np.ndindex(2, 3):
        rest = np.array([value([i for i in range(4) if i != left_out], row, column) for left_out in range(4)])
        assert halves[row, column] == pytest.approx(jackknife_t(rest, sizes, 0.9))


def test_a_minibatch_that_outweighs_the_others_leaves_them_their_values():
    xx = np.array([[1e60], [2.0], [3.0], [4.0]])
    halves = half_widths(xx[..., None] / 2, xx, xx, sizes=[8] * 4)
    assert halves[0, 0] == pytest.approx(0, abs=1e-12)  # the ratio is 1/2 without any of them


def test_intervals_of_two_minibatches_are_not_known(images):
    result = cka(Net(), Net(seed=1), images[:2])
    assert not np.isnan(result.matrix).any()
    assert np.isnan(result.low).all()
    reason = "intervals need at least 3 minibatches, but there were 2"
    assert result.facts["no_interval"] == reason
    assert set(result.to_frame()["no_interval"]) == {reason}
    assert "nan" not in result.summary()
    assert f"no interval where none is shown: {reason}" in result.summary()
    assert ("samples are few" in result.summary()) == (result.facts["n_samples"] < 20)
    few = cka(Net(), Net(seed=1), images[:1, :8])
    assert "\n8 samples are few: chance alone makes CKA of them differ widely; give more images" in few.summary()
    assert re.search(r"8 samples in 1 minibatch\b", few.summary())
    whole = cka(Net(), Net(seed=1), images)
    assert whole.facts["no_interval"] == ""
    assert set(whole.to_frame()["no_interval"]) == {""}
    assert "no interval" not in whole.summary()


def test_a_layer_that_varies_in_one_minibatch_alone_has_no_interval():
    xx = np.array([[1.0], [0.0], [0.0], [0.0], [0.0]])
    half = half_widths(xx[..., None], xx, xx, sizes=[8] * 5)
    assert "without one of the minibatches, a layer has no positive HSIC" in missing_interval(np.ones((1, 1)), half, 5)
    assert missing_interval(np.full((1, 1), np.nan), half, 5) == ""  # an undefined value has its own reason


@pytest.mark.parametrize(("related", "rest"), [(True, 0), (False, 0), (True, 4)])
def test_intervals_cover_the_truth(related, rest):
    """Five minibatches of 20 from a population whose CKA is known; 120 draws: below 0.89 and above 0.99 is rare."""
    population = linear("", np.ones(6), noise=0.5, related=related)
    assert 0.89 <= cka_coverage(population, 5, 20, rest, 120) <= 0.99


def write_dump(models, path, *, data="digits", order=None, **options):
    def minibatches(_start, _stop):
        return (dict.fromkeys(models, batch) for batch in batches(30, image_size=16, order=order))

    dumping.write_dump(dumping.Dump(models, minibatches, 30, 8, data=data, **options), path)


@pytest.fixture
def dumps(nets, tmp_path):
    for content in ("features", "grams"):
        write_dump(nets, tmp_path / f"{content}.h5", content=content)
    for role, model in nets.items():
        write_dump({role: model}, tmp_path / f"{role}.h5")
    return tmp_path


@pytest.mark.filterwarnings("ignore:an older kdprobe")
def test_dumps_give_what_the_networks_give(nets, dumps):
    direct = cka(nets["teacher"], nets["student"], batches(30, image_size=16))
    for paths in (["features.h5"], ["grams.h5"], ["teacher.h5", "student.h5"]):
        stored = files_cka([dumps / path for path in paths])
        assert (stored.teacher_layers, stored.student_layers) == (direct.teacher_layers, direct.student_layers)
        np.testing.assert_allclose(stored.matrix, direct.matrix, rtol=1e-10)
        np.testing.assert_allclose(stored.low, direct.low, rtol=1e-8)
    chosen = files_cka([dumps / "features.h5"], student_layers="layer*", batch_size=15)
    assert chosen.matrix.shape == (2, 3)
    assert chosen.facts["n_minibatches"] == 2


@pytest.mark.filterwarnings("ignore:an older kdprobe")
def test_dumps_that_do_not_fit_together(nets, dumps):
    with pytest.raises(StoreError, match="holds only the teacher; give a second file"):
        files_cka([dumps / "teacher.h5"])
    with pytest.raises(StoreError, match="give one feature file or two, not 3"):
        files_cka([dumps / "teacher.h5"] * 3)
    student = {"student": nets["student"]}
    write_dump(student, dumps / "reverse.h5", order=torch.arange(29, -1, -1))
    with pytest.raises(StoreError, match="hold different samples or a different order"):
        files_cka([dumps / "teacher.h5", dumps / "reverse.h5"])
    write_dump(student, dumps / "b.h5", data="cifar")
    with pytest.raises(StoreError, match=r"is of 'digits', but .* is of 'cifar'"):
        files_cka([dumps / "teacher.h5", dumps / "b.h5"])


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for name, size in (("small", 32), ("large", 40)):
        save(create("resnet8", n_classes=10, image_size=size, data="tests.tiny:digits"), folder / f"{name}.safetensors")
    return folder


def run(*arguments):
    from analyses.commands.cka import cka as command

    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(command, words, catch_exceptions=False, standalone_mode=False)


@pytest.mark.slow
def test_command(checkpoints, tmp_path):
    given = ("--teacher", checkpoints / "large.safetensors", "--student", checkpoints / "small.safetensors")
    output = run(*given, "--out", tmp_path, "--quiet", "--student-layers", "layer*[0-9]", "--batch-size", 10).output
    assert "60 samples in 6 minibatches" in output
    result = CKAResult.load(tmp_path / "cka.npz")
    assert result.facts["data"] == "tests.tiny:digits"
    assert result.provenance["teacher"]["image_size"] == 40
    assert {"cka.npz", "cka.csv", "cka.pdf", "cka.png"} <= {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize("arguments", [(), ("--teacher", "a"), ("--features", "a.h5", "--student", "b")])
def test_command_needs_networks_or_dumps(arguments):
    with pytest.raises(ConfigError, match=r"give --teacher and --student, or --features|--features takes no --student"):
        run(*arguments)


@pytest.mark.slow
def test_command_with_permutations(checkpoints, tmp_path):
    given = ("--teacher", checkpoints / "small.safetensors", "--student", checkpoints / "small.safetensors")
    options = ("--permutations", 9, "--batch-size", 16, "--quiet")
    assert "60 samples in 4 minibatches" in run(*given, "--out", tmp_path, *options).output
    result = CKAResult.load(tmp_path / "cka.npz")
    assert np.allclose(np.diag(result.matrix), 1)
    assert (result.p_values == 0.1).all()


def test_the_null_is_cka_of_permuted_samples():
    x, y, wide = normal(3, 12, 4), normal(3, 12, 5, seed=1), normal(3, 12, 40, seed=2)
    y[..., :2] += x[..., :2]
    sums = HSICSums(permutations=19)
    for one, other, more in zip(x, y, wide, strict=True):
        sums.add(
            {"x": centred_gram(one)},
            {"y": centred_gram(other), "flat": torch.zeros(12, 12), "wide": centred_gram(more)},
        )
    found = sums.result(calibrated=True)
    orders = [list(random_orders(12, 19, seed=number)) for number in range(3)]
    null = np.array([
        [minibatch_cka(x, torch.stack([part[order[draw]] for part, order in zip(layer, orders, strict=True)]))
         for layer in (y, wide)]
        for draw in range(19)
    ])  # fmt: skip
    kept = [0, 2]
    expected = calibrate_pairs(found.matrix[:, kept], null[:, None])
    for name in ("null_mean", "null_deviation", "threshold", "score", "p_value", "p_adjusted"):
        actual = getattr(found.calibration.pairs, name)
        np.testing.assert_allclose(actual[:, kept], getattr(expected.pairs, name), rtol=1e-9, atol=1e-12)
        assert np.isnan(actual[0, 1])
        assert getattr(found.calibration.best, name) == pytest.approx(float(getattr(expected.best, name)))
    assert "of 2 pairs exceed their null of 19 random orders" in found.calibration.summary(["x"], ["y", "flat", "wide"])


def test_without_any_variation_there_is_nothing_to_calibrate():
    sums = HSICSums(permutations=19)
    sums.add({"x": torch.zeros(8, 8)}, {"y": torch.zeros(8, 8)})
    calibration = sums.result(calibrated=True).calibration
    assert np.isnan(calibration.best.p_value)
    assert calibration.summary(["x"], ["y"]) == "no pair has a value to set beside its null"


@pytest.mark.slow
def test_command_that_calibrates(checkpoints, tmp_path):
    given = ("--teacher", checkpoints / "small.safetensors", "--student", checkpoints / "small.safetensors", "--quiet")
    with pytest.raises(AnalysisError, match="calibration needs at least 19 permutations, but got 9"):
        run(*given, "--out", tmp_path / "few", "--calibrate", "--permutations", 9)
    assert not list(tmp_path.glob("few/*"))
    printed = run(*given, "--out", tmp_path, "--calibrate", "--permutations", 19, "--batch-size", 100).output
    assert "pairs exceed their null of 19 random orders of the samples (p <= 0.05 for all pairs together)" in printed
    found = CKAResult.load(tmp_path / "cka.npz")
    assert found.summary() in printed
    assert found.facts["permutations"] == found.calibration.permutations == 19
    assert np.diag(found.calibration.pairs.score) == pytest.approx(1)
    assert found.calibration.by_student.p_adjusted.tolist() == [0.05] * len(found.student_layers)
    columns = {"p_value", "null_mean", "null_deviation", "threshold", "calibrated", "p_adjusted"}
    assert columns <= set((tmp_path / "cka.csv").read_text().splitlines()[0].split(","))
    assert list(tmp_path.glob("cka.p*"))


def _correlated(n, seed, *, d=6):
    one, other, shared = torch.randn(3, n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return one + shared, other + shared


def _added(x, y, sizes, **options):
    sums = HSICSums(**options)
    for one, other in zip(x.split(sizes), y.split(sizes), strict=True):
        sums.add({"x": centred_gram(one)}, {"y": centred_gram(other)})
    return sums.result()


def test_a_minibatch_counts_by_its_samples():
    x, y = _correlated(94, 0)
    sizes = [30, 30, 30, 4]
    result = _added(x, y, sizes)
    weights = np.array(sizes) / 94
    xy, xx, yy = (weights @ part.reshape(4).astype(float) for part in (result.hsic_xy, result.hsic_xx, result.hsic_yy))
    assert result.matrix[0, 0] == pytest.approx(xy / np.sqrt(xx * yy), rel=1e-6)


@pytest.mark.slow
def test_a_short_last_minibatch_adds_little_noise():
    whole, with_rest = [], []
    for seed in range(60):
        x, y = _correlated(304, seed)
        whole.append(_added(x[:300], y[:300], [60] * 5).matrix.item())
        with_rest.append(_added(x, y, [60] * 5 + [4]).matrix.item())
    assert np.std(with_rest) < 1.3 * np.std(whole)


def test_a_short_last_minibatch_moves_the_interval_little():
    x, y = _correlated(124, 1)
    whole, with_rest = (_added(x[:n], y[:n], sizes) for n, sizes in ((120, [30] * 4), (124, [30] * 4 + [4])))
    width, other = (float(result.high[0, 0] - result.low[0, 0]) for result in (whole, with_rest))
    assert other == pytest.approx(width, rel=0.25)


@pytest.mark.slow
def test_processes_share_the_work_and_agree_with_one(checkpoints, tmp_path):
    given = ["cka", "--teacher", checkpoints / "large.safetensors", "--student", checkpoints / "small.safetensors"]
    given += ["--batch-size", "48", "--permutations", "9", "--quiet"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", "--nproc-per-node", "3"]
    torchrun += ["-m", "kdprobe"]
    for name, start in (("one", ["-m", "kdprobe"]), ("three", torchrun)):
        words = [sys.executable, *start, *map(str, given), "--out", str(tmp_path / name)]
        subprocess.run(words, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=300)
    one, three = (CKAResult.load(tmp_path / name / "cka.npz") for name in ("one", "three"))
    for name in ("matrix", "low", "high", "hsic_xy", "p_values"):
        np.testing.assert_allclose(getattr(three, name), getattr(one, name), rtol=1e-10)
    assert three.facts == one.facts


@pytest.mark.parametrize(
    ("one", "other", "message"),
    [
        (("a", 1.0), ("b", 1.0), "is of images with the sha256 a, but .* of images with the sha256 b"),
        (("a", 1.0), ("a", 0.5), r"images were shown with crop_pct 1\.0 for .*, but with crop_pct 0\.5 for"),
        (("a", 1.0), ("a", 1.0), None),
    ],
)
def test_dumps_are_of_the_same_images_shown_alike(tmp_path, one, other, message):
    paths = [tmp_path / "teacher.h5", tmp_path / "student.h5"]
    for path, (images, crop) in zip(paths, (one, other), strict=True):
        network = Network("net", "", {"image_size": 8, "crop_pct": crop}, images)
        with FeatureStore.create(path, {path.stem: network}, data=f"folder:{path.stem}", batch_size=8) as writer:
            writer.append(torch.arange(8), torch.zeros(8).long(), {path.stem: {"fc": torch.randn(8, 3)}})
    if message is None:
        files_cka(paths)  # wherever the data lay
        return
    with pytest.raises(StoreError, match=message):
        files_cka(paths)


def test_arguments_in_another_order_are_told_and_one_file_is_enough(tmp_path):
    model = create("resnet8", n_classes=10, image_size=16)
    loader = [torch.rand(8, 3, 16, 16)]
    with pytest.raises(
        AnalysisError, match=r"the student must be a torch.nn.Module, but is of type list; the order is"
    ):
        check_networks(teacher=model, student=loader)
    with pytest.raises(
        AnalysisError, match=r"a dump is of a teacher, a student or both, but got networks named \['cnn'\]"
    ):
        dumping.Dump.over({"cnn": model}, loader)
    dumping.write_dump(dumping.Dump.over({"teacher": model, "student": model}, loader, reduce="gap"), tmp_path / "f.h5")
    assert files_cka(str(tmp_path / "f.h5")).matrix.diagonal() == pytest.approx(1)
