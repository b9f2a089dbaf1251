"""Rounding is not variation: ranks, ties, constant features and scales, against float64 and truths by construction."""

from inspect import unwrap

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from analyses.cka.networks import HSICSums, minibatch_cka
from analyses.knowledge import decompose
from analyses.knowledge.coordinates import coordinates
from analyses.knowledge.layers import decompose_layers
from analyses.knowledge.result import knowledge_summary, knowledge_table
from analyses.paired_features import LayerFeatures
from analyses.similarity import canonical_correlations, files_similarity, procrustes, pwcca, rsa, svcca
from analyses.similarity.canonical import basis
from analyses.similarity.distances import tied_ranks
from analyses.similarity.measure import FeatureSet
from kdprobe.errors import AnalysisError, Undefined
from kdprobe.features.gram import centred_gram
from kdprobe.features.rounding import most_rounding, precision_of, rounding_of
from kdprobe.features.store import FeatureStore, Network


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shift", [0.0, 5.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_no_direction(shift: float, dtype: torch.dtype) -> None:
    z, w, y = normal(300, 8), normal(8, 256, seed=1), normal(300, 12, seed=2)
    computed = (z @ w + shift).to(dtype)  # in float32, whatever it is held in
    assert len(canonical_correlations(computed, y)) == 8
    truth = (z.double() @ w.double(), y.double())
    for measure in (svcca, pwcca):
        assert measure(computed, y) == pytest.approx(measure(*truth), abs=2e-3)
    back = pwcca(y, computed)
    assert back == pytest.approx(pwcca(*truth[::-1]), abs=2e-3)
    made = coordinates(computed)
    assert made.values.shape[1] == 8
    torch.testing.assert_close(made.restore(made.values), made.centred(), rtol=0, atol=1e-3)


@pytest.mark.parametrize("n", [500, 20_000])
def test_more_samples_hide_no_direction(n: int) -> None:
    z = normal(n, 64).double()
    teacher = (z + normal(n, 64, seed=1)).float()
    student = (z * torch.arange(1, 65) ** -1.5).float()  # 1 to .002, as spectra of networks fall
    found = decompose(teacher, student)
    assert found.student.support.rank == 64
    general = found.fractions["teacher_general"]
    assert general.low < 0.5 < general.high
    assert pwcca(teacher, student) == pytest.approx(pwcca(teacher.double(), z), abs=1e-6)


@pytest.mark.parametrize("size", [1e3, 1e6, 1e7])
def test_a_large_channel_hides_no_other(size: float) -> None:
    z = normal(2000, 20).double()
    teacher = (z + normal(2000, 20, seed=1)).float()
    student = torch.cat([size * z[:, :1], z[:, 1:]], 1).float()
    assert coordinates(student).values.shape[1] == 20
    general = [decompose(teacher, one).fractions["teacher_general"].value for one in (student, z.float())]
    assert general[0] == pytest.approx(general[1], abs=1e-6)
    assert pwcca(teacher, student) == pytest.approx(pwcca(teacher, z), abs=1e-6)
    if size < 1e7:
        summed = torch.cat([student, student[:, :1] + student[:, 1:2]], 1)  # rounded to the size of the large one
        assert coordinates(summed).values.shape[1] == 20
        assert basis(FeatureSet(summed)).rank == 20


@pytest.mark.parametrize("size", [1e3, 1e6, 1e7])
@pytest.mark.parametrize("width", [256, 1000])
def test_a_large_channel_hides_no_other_of_a_wide_layer(size: float, width: int) -> None:
    x = normal(200, width)
    x[:, 3] *= size
    made = coordinates(x)
    assert made.values.shape[1] == 199
    torch.testing.assert_close(made.restore(made.values), made.centred(), rtol=0, atol=1e-9 * size)
    assert basis(FeatureSet(x)).rank == 199
    low = torch.cat([size * normal(200, 8)[:, :1], (normal(200, 8) @ normal(8, width, seed=1))], 1)
    assert coordinates(low).values.shape[1] == 8  # the large one is among these eight


@pytest.mark.parametrize("inputs", ["normal", "positive", "one large"])
@pytest.mark.parametrize("shape", [(300, 8, 64), (4000, 64, 128), (300, 512, 700)])
def test_sums_of_products_have_no_more_directions_than_their_inputs(shape: tuple[int, int, int], inputs: str) -> None:
    n, k, d = shape
    x = normal(n, k)
    if inputs == "positive":
        x = (x + 3).relu()
    if inputs == "one large":
        x[:, 0] *= 1000
    y = torch.nn.functional.linear(x, normal(d, k, seed=1) / k**0.5, normal(d, seed=2))
    rank = min(k, n - 1)
    assert coordinates(y).values.shape[1] == rank
    assert basis(FeatureSet(y)).rank == rank


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_channels_that_are_dead_count_for_nothing(dtype: torch.dtype) -> None:
    z, y = normal(200, 20), normal(200, 8, seed=1)
    alive = torch.relu(z @ normal(20, 60, seed=2)).to(dtype)
    wide = torch.zeros(200, 512, dtype=dtype)
    wide[:, ::8][:, :60] = alive
    one, other = (decompose(x, y).fractions for x in (wide, alive))
    for name in one:
        assert one[name].value == pytest.approx(other[name].value, abs=1e-9)


@pytest.mark.parametrize("size", [1e200, 1e-200])
def test_sizes_whose_squares_no_number_holds_are_refused(size: float) -> None:
    x = normal(200, 5).double()
    for pair in ((size * x, x), (x, size * x)):
        with pytest.raises(AnalysisError, match=r"values of up to \d\.\d*e.\d+, whose squares float64 cannot hold"):
            decompose(*pair)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("widened", [False, True])
@pytest.mark.parametrize("eps", [1.2, 2.0, 5.0])  # standard deviation, in units of eps
def test_halves_that_vary_little_are_measured_whole(dtype: torch.dtype, widened: bool, eps: float) -> None:
    z = normal(320, 16).double()
    spread = torch.rand(64, generator=torch.Generator().manual_seed(3)).double() * 1.2 + 0.4
    signal = (z @ normal(16, 64, seed=1).double() / 4) * spread
    x = (1.1 + signal * eps * torch.finfo(dtype).eps).to(dtype)
    y = torch.tanh(z @ normal(16, 24, seed=2).double()).float()
    given = x.float() if widened else x
    exact = x.double() + 1e-12 * normal(320, 64, seed=4).double()  # so that it is not taken for halves
    stored = [one.unflatten(0, (5, 64)) for one in (given, exact, y)]
    assert minibatch_cka(stored[0], stored[2]) == pytest.approx(minibatch_cka(stored[1], stored[2]), abs=2e-3)
    for measure in (procrustes, rsa):
        assert measure(given, y) == pytest.approx(measure(exact, y), abs=2e-3)
    one, other = (decompose(given, y).fractions, decompose(exact, y).fractions)
    for name in ("teacher_general", "student_general"):
        assert one[name].value == pytest.approx(other[name].value, abs=0.04)


def test_halves_keep_their_directions() -> None:
    z, w = normal(400, 8), normal(8, 128, seed=1)
    assert basis(FeatureSet((z @ w).half())).rank == 8
    assert basis(FeatureSet((z @ w).half().float(), torch.float16)).rank == 8
    assert basis(FeatureSet(normal(1500, 64).half())).rank == 64
    assert precision_of((z @ w).double()) == torch.float32
    assert precision_of(z.double() @ w.double()) == torch.float64


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("wide", [torch.float32, torch.float64])
@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_widened_halves_are_halves(half, wide, shift) -> None:
    z, w, y = normal(300, 8), normal(8, 64, seed=1), normal(300, 12, seed=2)
    for x in (z @ w + shift, (z @ w + shift).relu()):
        held = x.to(half).to(wide)
        assert precision_of(held) == half
        assert pwcca(held, y) == pwcca(x.to(half), y)
    assert basis(FeatureSet((z @ w).to(half).to(wide))).rank == 8
    equal = (normal(1, 9).abs() + 3).expand(32, 9) + 0.002 * (normal(32, 9) > 0)
    with pytest.raises(Undefined, match="is the same for all samples but for rounding"):
        minibatch_cka(equal.half().to(wide)[None], y[None, :32])


def test_exact_numbers_are_no_halves() -> None:
    one_hot, counts = torch.eye(10)[torch.arange(300) % 10], torch.arange(300) * 7 % 2000
    rare = (torch.arange(300) % 150 == 0).float()
    sparse = (normal(300, 6) * 4).round().relu()
    pixels = torch.randint(0, 256, (300, 5), generator=torch.Generator().manual_seed(1)) / 256
    mixed = torch.cat([counts[:, None].float(), rare[:, None]], 1)
    for x, rank in ((one_hot, 9), (sparse, 6), (pixels, 5), (mixed, 2)):
        assert precision_of(x) == torch.float32
        assert basis(FeatureSet(x)).rank == rank
        assert basis(FeatureSet(x.double())).rank == rank


@pytest.mark.parametrize("mean", [1e5, 8e5, 1e6, 1.2e6, 1.5e6, 3e6])
def test_a_mean_far_above_the_spread_takes_nothing_away(mean) -> None:
    x, y = normal(4, 32, 20).double(), normal(4, 32, 15, seed=1).double()
    y += x[..., :15]
    stored = (x + mean).float()
    assert minibatch_cka(stored, y) == pytest.approx(minibatch_cka(stored.double() - mean, y), abs=1e-6)


@pytest.mark.parametrize("measure", [svcca, pwcca, procrustes, rsa])
def test_what_is_no_features_is_one_line(measure) -> None:
    measure = unwrap(measure)  # without the check of annotations that only tests have
    x, y = normal(50, 4), normal(50, 3, seed=1)
    assert measure(x.numpy(), y.numpy()) == measure(x, y)
    whole = (4 * x).round().int()
    assert measure(whole, y) == measure(whole.double(), y)
    for wrong, said in (
        (torch.zeros(50), "x must have at least 2 dimensions, but has the shape"),
        (torch.zeros(0, 4), "x must not be empty, but has the shape"),
        (x + 1j, r"x must be of real numbers, but is of type torch\.complex64"),
        ("abc", "x must be a tensor or an array of numbers, but is of type str"),
    ):
        with pytest.raises(AnalysisError, match=said):
            measure(wrong, y)
    with pytest.raises(AnalysisError, match="similarity needs at least 4 samples, but got 2"):
        measure(x[:2], y[:2])


def test_whole_numbers_have_a_cka() -> None:
    x, y = (8 * normal(4, 32, 5)).int(), normal(4, 32, 5) + normal(4, 32, 5, seed=1)
    assert unwrap(minibatch_cka)(x, y) == minibatch_cka(x.double(), y)
    with pytest.raises(AnalysisError, match="x must not be empty"):
        unwrap(minibatch_cka)(x[:, :0], y[:, :0])


def test_a_huge_constant_hides_nothing() -> None:
    x, y = normal(100, 6), normal(100, 5, seed=1)
    beside = torch.cat([x, torch.full((100, 1), 1e8)], 1)
    for measure in (svcca, pwcca, procrustes, rsa):
        assert measure(beside, y) == pytest.approx(measure(x, y))
    assert minibatch_cka(beside[None], y[None]) == pytest.approx(minibatch_cka(x[None], y[None]))


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-23, 1e-15, 1e15, 1e30, 1e37])
def test_the_scale_does_not_matter(scale: float) -> None:
    x, y = normal(3, 32, 8), normal(3, 32, 6, seed=1) + normal(3, 32, 8)[..., :6]
    assert minibatch_cka(x * scale, y) == pytest.approx(minibatch_cka(x, y), abs=1e-3)
    for measure in (svcca, pwcca, procrustes, rsa):
        assert measure(x[0] * scale, y[0]) == pytest.approx(measure(x[0], y[0]), abs=1e-3)


@pytest.mark.parametrize("scale", [1e-300, 1e-100, 1e100, 1e300])
def test_the_scale_of_float64_does_not_matter(scale: float) -> None:
    x, y = (normal(3, 32, 8, seed=seed).double() + normal(3, 32, 8).double() for seed in (1, 2))
    assert minibatch_cka(x * scale, y) == pytest.approx(minibatch_cka(x, y))
    for measure in (svcca, pwcca, procrustes, rsa):
        assert measure(x[0] * scale, y[0]) == pytest.approx(measure(x[0], y[0]))
    with pytest.raises(AnalysisError, match="the squares of their products are out of float64's range; scale them"):
        centred_gram(x[0] * scale)


def test_equal_rows_are_undefined_whatever_rounding_adds() -> None:
    generator, y = torch.Generator().manual_seed(2), normal(4, 16, 7)
    for dtype in (torch.float16, torch.float32, torch.float64):
        eps = torch.finfo(dtype).eps
        x = (torch.rand(1, 1, 9, generator=generator) + 1).to(dtype).expand(4, 16, 9).clone()
        x += torch.randint(0, 2, x.shape, generator=generator) * eps  # one unit in the last place
        with pytest.raises(Undefined, match="is the same for all samples but for rounding"):
            minibatch_cka(x, y)
        for measure in (svcca, pwcca, procrustes, rsa, canonical_correlations):
            with pytest.raises(
                Undefined, match="the same for all samples but for rounding, so that similarity is undef"
            ):
                measure(x[0], y[0])
        with pytest.raises(Undefined, match="is the same for all 16 samples but for rounding"):
            coordinates(x[0])
    x = y + 1e4  # 8e-8 of it is less than its rounding, 1e-4 more
    assert minibatch_cka(x, y) == pytest.approx(1, abs=1e-4)


def test_features_that_vary_are_not_said_to_be_constant() -> None:
    one_differs = torch.zeros(1, 12, 5)
    one_differs[0, 3] = normal(5)
    for x in (one_differs + normal(5), torch.eye(12)[None], 1e-20 * torch.eye(12)[None]):
        with pytest.raises(Undefined, match="an unbiased HSIC of 0 with itself although it varies"):
            minibatch_cka(x, normal(1, 12, 4))
        sums = HSICSums(estimator="biased")
        sums.add({"x": centred_gram(x[0])}, {"y": centred_gram(normal(12, 4))})
        assert not sums.result().undefined
        for measure in (pwcca, procrustes):
            if x is one_differs:
                assert 0 < measure(x[0], normal(12, 4)) < 1


def test_ties_are_ties_in_every_order() -> None:
    rng = np.random.default_rng(1)
    one = rng.integers(0, 10, 60)
    other = np.where(rng.random(60) < 0.3, rng.integers(0, 10, 60), one)
    pairs = np.triu_indices(60, 1)
    truth = spearmanr(*[(c[:, None] != c[None])[pairs].astype(int) for c in (one, other)]).statistic
    for shift, dtype in ((0.0, torch.float64), (0.0, torch.float32), (7.3, torch.float32), (1e3, torch.float64)):
        x, y = (torch.from_numpy(0.1 * np.eye(10)[c] + shift).to(dtype) for c in (one, other))
        for turn in (torch.arange(60), torch.from_numpy(rng.permutation(60))):
            assert rsa(x[turn], y[turn], ranks=True) == pytest.approx(truth, abs=1e-9)
    with pytest.raises(Undefined, match="all distances between samples are the same but for rounding"):
        rsa(0.1 * torch.eye(12), normal(12, 4))


def test_ranks_within_a_tolerance() -> None:
    values = np.array([1.0, 3.0, 1.0 + 1e-9, 2.0, 3.0 - 1e-9])
    assert tied_ranks(values, 1e-8).tolist() == [1.5, 4.5, 1.5, 3.0, 4.5]
    assert tied_ranks(values, 0.0).tolist() == [1.0, 5.0, 2.0, 3.0, 4.0]
    dense = np.linspace(0, 1, 1001)
    assert spearmanr(tied_ranks(dense, 0.01), dense).statistic > 0.9999, "a chain of near values is not one tie"


@pytest.mark.parametrize("measure", [svcca, pwcca, canonical_correlations])
def test_few_samples_are_refused_or_remarked_on(measure) -> None:
    name = {svcca: "SVCCA", pwcca: "PWCCA"}.get(measure, "CCA")
    said = f"{name} is 1 whatever the features are: 40 samples in 60 and 50 dimensions"
    wide = torch.linalg.qr(normal(60, 60))[0][:40], torch.linalg.qr(normal(50, 50, seed=1))[0][:40]
    if measure is not svcca:
        with pytest.raises(Undefined, match=said):
            measure(normal(40, 60), normal(40, 50, seed=1))
    else:
        with pytest.raises(Undefined, match=said):
            svcca(*wide, variance=1.0)
    with pytest.warns(
        UserWarning, match=rf"\d+ of \d+ correlations in {name} are 1 whatever the features are: 40 samp"
    ):
        measure(normal(40, 30), normal(40, 20, seed=1))
    measure(normal(80, 30), normal(80, 20, seed=1))


def test_procrustes_of_few_samples_has_a_remark() -> None:
    with pytest.warns(UserWarning, match="40 samples in 400 and 500 dimensions leave no direction of the samples out"):
        assert procrustes(normal(40, 400), normal(40, 500, seed=1)) > 0.9
    with pytest.raises(AnalysisError, match="similarity needs finite features"):
        procrustes(normal(8, 2) / 0, normal(8, 2))


@pytest.fixture
def dump(tmp_path):
    x, index = normal(64, 10), torch.arange(64)
    layers = {
        "teacher": {"alive": x, "dead": torch.zeros(64, 6), "wide": normal(64, 90, seed=3)},
        "student": {"s": normal(64, 8, seed=1), "flat": torch.full((64, 3), 0.1)},
    }
    with FeatureStore.create(tmp_path / "f.h5", {"teacher": Network("t"), "student": Network("s")}, batch_size=64) as f:
        f.append(index, index % 3, layers)
    return tmp_path / "f.h5"


def test_a_dead_layer_is_named_and_the_others_are_measured(dump) -> None:
    found = files_similarity([dump], "pwcca", reduce="flatten")
    assert np.isnan(found.arrays["matrix"]).tolist() == [[False, True], [True, True], [True, True]]
    reasons = {(cell["teacher_layer"], cell["student_layer"]): cell["reason"] for cell in found.facts["undefined"]}
    assert reasons["dead", "s"].startswith("teacher layer 'dead': the features are the same for all samples")
    assert reasons["alive", "flat"].startswith("student layer 'flat': the features are the same for all samples")
    assert reasons["wide", "s"].startswith("PWCCA is 1 whatever the features are: 64 samples in 90 and 8 dimensions")
    remarked = files_similarity([dump], "procrustes", teacher_layers="wide", student_layers="s", reduce="flatten")
    assert not remarked.facts["remarks"]
    with pytest.raises(Undefined, match="no pair of layers has a value; teacher layer 'dead'"):
        files_similarity([dump], "rsa", teacher_layers="dead", reduce="flatten")


def test_decompose_leaves_a_dead_layer_out() -> None:
    x = normal(80, 6)
    teacher = {"alive": x, "dead": torch.zeros(80, 4)}
    features = LayerFeatures(
        teacher, {"s": x[:, :3] + normal(80, 3, seed=1)}, torch.arange(80) % 2, torch.arange(80),
        {"teacher": "t", "student": "s", "data": "digits"},
    )  # fmt: skip
    result, examples = decompose_layers(features, [("alive", "s"), ("dead", "s")], probes=False, n_images=2)
    assert result.facts["teacher_layers"] == ["alive"]
    assert examples is not None
    assert examples.facts["teacher_layer"] == "alive"
    (cell,) = result.facts["left_out"]
    assert (cell["teacher_layer"], cell["student_layer"]) == ("dead", "s")
    assert "dead and s are left out: the teacher's feature is the same for all 80 samples" in knowledge_summary(result)
    assert knowledge_table(result).query("quantity == 'left out'")["teacher_layer"].tolist() == ["dead"]
    with pytest.raises(
        Undefined, match="teacher layer 'dead' and student layer 's': the teacher's feature is the same"
    ):
        decompose_layers(features, [("dead", "s")])


@pytest.mark.parametrize("scale", [0.0, 1e-44, 1e-20, 1.0, 1e30])
def test_the_quick_bound_on_rounding_is_one(scale):
    row = scale * torch.randn(257)
    for precision in (torch.float16, torch.bfloat16, torch.float32):
        assert most_rounding(row, precision) >= 4 * float(rounding_of(row, precision).norm())
