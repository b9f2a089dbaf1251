import itertools
import re

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from analyses.knowledge import canonical
from analyses.knowledge.canonical import leading_directions, shared_pairs
from analyses.knowledge.coordinates import coordinates
from analyses.knowledge.decomposition import decompose
from analyses.knowledge.dropkd import load_dropkd, reconstruct
from analyses.knowledge.fold_sums import PENALTIES, choose_penalty, trainings
from analyses.knowledge.folds import explained, interval, split_samples
from analyses.knowledge.probes import probe_accuracy
from kdprobe.distillers.dropkd import DropKD, DropKDOptions
from kdprobe.errors import AnalysisError
from kdprobe.models import create
from kdprobe.models.checkpoint import save_tensors
from kdprobe.models.stages import measure
from kdprobe.training.saving import save_auxiliary
from tests.planted import independent, planted, rotation

METHODS = ["adjusted", "ridge"]


def general(found):
    """Shares of both networks, and those that are predicted out of fold."""
    sides = (found.teacher, found.student)
    return np.array([side.fraction.value for side in sides] + [np.mean(side.by_fold) for side in sides])


@pytest.mark.parametrize("widths", [(20, 30), (20, 300), (400, 300)])
def test_general_and_specific_add_up_to_the_centred_feature(widths):
    teacher, student = planted(120, *widths, shared=0.5, noise=0.1)
    found = decompose(teacher + 5, student - 3)
    for part, rest, feature in (
        (found.teacher_general, found.teacher_specific, teacher),
        (found.student_general, found.student_specific, student),
    ):
        assert part.shape == rest.shape == feature.shape
        torch.testing.assert_close(part + rest, feature - feature.mean(0), rtol=0, atol=1e-14)


def test_fractions_are_those_of_the_parts_and_sum_to_one():
    teacher, student = planted(200, 12, 15, shared=0.5, noise=0.1)
    found = decompose(teacher, student, method="ridge")
    centred = teacher - teacher.mean(0)
    direct, total = 0.0, 0.0
    for fold in found.folds:
        rest = [i for i in range(200) if i not in set(fold.tolist())]
        direct += float(found.teacher_specific[fold].square().sum())
        total += float((centred[fold] - centred[rest].mean(0)).square().sum())
    assert found.fractions["teacher_specific"].value == pytest.approx(direct / total, abs=1e-12)
    for who in ("teacher", "student"):
        whole, rest = found.fractions[f"{who}_general"], found.fractions[f"{who}_specific"]
        assert whole.value + rest.value == pytest.approx(1, abs=1e-15)
        assert rest.low == 1 - whole.high
        assert rest.high == 1 - whole.low
        assert whole.low < whole.value < whole.high


@pytest.mark.parametrize("widths", [(9, 14), (9, 90), (90, 9)])
def test_ridge_is_scikit_learns_ridge_in_float64(widths):
    teacher, student = planted(60, *widths, shared=0.5, noise=0.3)
    found = decompose(teacher, student, folds=4)
    for fold, penalties in zip(found.folds, found.penalties, strict=True):
        held_out = fold.numpy()
        training = np.setdiff1d(np.arange(60), held_out)
        for target, source, part, relative in (
            (teacher, student, found.teacher_general, penalties[1]),
            (student, teacher, found.student_general, penalties[0]),
        ):
            x, y = source.numpy(), target.numpy()
            centred = x[training] - x[training].mean(0)
            largest = np.linalg.svd(centred, compute_uv=False)[0] ** 2
            oracle = Ridge(alpha=relative * largest, solver="svd").fit(x[training], y[training])
            expected = oracle.predict(x[held_out]) - y.mean(0)
            np.testing.assert_allclose(part[fold].numpy(), expected, atol=1e-9 * np.abs(y).max() * 60)


def test_the_penalty_has_the_least_generalised_cross_validation_error():
    teacher, student = planted(50, 7, 9, shared=0.5, noise=0.5)
    fold = next(trainings(teacher - teacher.mean(0), student - student.mean(0), split_samples(50, 5)))
    training = [i for i in range(50) if i not in set(fold.held_out.tolist())]
    x, y = (z[training] - z[training].mean(0) for z in (student, teacher))
    largest = float(torch.linalg.matrix_norm(x, 2)) ** 2
    scores = []
    for penalty in PENALTIES * largest:
        hat = x @ torch.linalg.solve(x.T @ x + penalty * torch.eye(9, dtype=x.dtype), x.T)
        left = torch.eye(40, dtype=x.dtype) - hat
        scores.append(float((left @ y).square().sum() / (left.trace() - 1) ** 2))  # one degree is the mean's
    assert fold.penalties[1] / largest == pytest.approx(float(PENALTIES[int(np.argmin(scores))]))


def test_equal_errors_give_the_strongest_penalty():
    squares = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert choose_penalty(squares, torch.zeros(2, dtype=torch.float64), total=0.0, n=10) == pytest.approx(2e6)


@pytest.mark.parametrize(
    ("n", "width"),
    [(200, 60), pytest.param(1000, 512, marks=pytest.mark.slow), pytest.param(500, 2048, marks=pytest.mark.slow)],
)
def test_independent_features_share_nothing(n, width):
    for seed in range(2):
        found = decompose(*independent(n, width, seed=seed))
        assert np.abs(general(found)).max() < 0.02
        assert found.dimension == 0


@pytest.mark.parametrize("shared", [0.25, 0.5, 0.75])
@pytest.mark.parametrize("noise", [0.05, 0.05**0.5])
@pytest.mark.parametrize(
    ("n", "widths"),
    [
        (1000, (64, 96)),
        (4000, (64, 64)),
        pytest.param(1000, (512, 512), marks=pytest.mark.slow),
        pytest.param(4000, (512, 64), marks=pytest.mark.slow),
    ],
)
def test_planted_fractions_and_dimension_are_found(shared, noise, n, widths):
    found = decompose(*planted(n, *widths, shared=shared, noise=noise, seed=1))
    assert np.abs(general(found) - shared / (1 + noise**2)).max() < 0.04
    assert found.dimension == 10


def test_a_rotated_and_scaled_copy_is_general():
    teacher = planted(600, 40, 40, shared=0.5, noise=0.3)[0]
    found = decompose(teacher, 3 * teacher @ rotation(40) + 100)
    assert general(found).min() > 0.99
    assert found.dimension == 40


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("widths", [(20, 30), (200, 30)])
def test_rotation_shift_and_scale_change_nothing(method, widths):
    teacher, student = planted(150, *widths, shared=0.5, noise=0.2)
    base = decompose(teacher, student, method=method)
    moved = (
        decompose(1e-3 * teacher @ rotation(widths[0]) + 7, student, method=method),
        decompose(teacher, 1e3 * student @ rotation(widths[1]) - 50, method=method),
    )
    for other in moved:
        assert other.dimension == base.dimension
        for name, fraction in base.fractions.items():
            np.testing.assert_allclose(other.fractions[name].ends, fraction.ends, atol=1e-6)


def test_teacher_and_student_trade_places():
    teacher, student = planted(150, 20, 30, shared=0.5, noise=0.2)
    one, other = decompose(teacher, student), decompose(student, teacher)
    np.testing.assert_allclose(general(one), general(other)[[1, 0, 3, 2]], atol=1e-12)


def test_the_seed_makes_the_folds():
    teacher, student = planted(100, 10, 10, shared=0.5, noise=0.2)
    one, same, other = (decompose(teacher, student, seed=seed) for seed in (3, 3, 4))
    assert one.fractions == same.fractions
    assert one.fractions != other.fractions


def test_features_of_100_000_values_go_by_gram_matrices():
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(60, 5, generator=generator) @ torch.randn(5, 100_000, generator=generator)
    found = decompose(teacher, teacher[:, :50])
    assert found.teacher.whole.values.shape[1] <= 60
    assert general(found).min() > 0.99
    assert found.teacher_general.shape == (60, 100_000)


def test_what_does_not_hold_out_of_fold_is_negative():
    values = torch.tensor([[1.0], [-1.0], [2.0], [-2.0]], dtype=torch.float64)
    folds = list(torch.arange(4).tensor_split(2))
    errors, totals = explained(values, -values, 0.0, folds)
    assert (1 - errors / totals).tolist() == [-3.0, -3.0]


def test_the_specific_part_is_as_large_as_the_specific_share():
    teacher, student = planted(203, 20, 30, shared=0.5, noise=0.05)
    found = decompose(teacher, student, method="ridge")
    for side in (found.teacher, found.student):
        left = side.specific.square().sum() / (side.whole.values - side.means).square().sum()
        assert left.item() == pytest.approx(side.fraction.rest().value, rel=1e-9)
        assert torch.equal(side.explained + side.means, side.general)


@pytest.mark.parametrize("groups", [None, torch.arange(203) // 2])
def test_what_each_sample_adds_is_together_the_share_of_what_can_be_predicted(groups):
    teacher, student = planted(203, 20, 30, shared=0.5, noise=0.05)
    predicted, found = (decompose(teacher, student, method=name, groups=groups) for name in ("ridge", "adjusted"))
    for who, given, part in (
        ("teacher", teacher, found.teacher_general),
        ("student", student, found.student_general),
    ):
        values, general = given.double().numpy(), (part + given.double().mean(0)).numpy()  # in the features' own axes
        means = np.empty_like(values)
        for fold in found.folds:
            means[fold] = np.delete(values, fold.numpy(), axis=0).mean(0)
        errors, totals = (np.square(values - known).sum(1) for known in (general, means))
        by_sample = getattr(found, who).by_sample
        np.testing.assert_allclose(by_sample[1], errors / totals.mean(), rtol=1e-8)
        np.testing.assert_allclose(by_sample[0], (totals - errors) / totals.mean(), rtol=1e-8, atol=1e-10)
        share = getattr(predicted, who).fraction.value
        assert by_sample.mean(1).tolist() == pytest.approx([share, 1 - share], rel=1e-9)
        assert share < getattr(found, who).fraction.value  # which corrects for what few samples do not teach


def test_what_a_rotated_copy_leaves_is_no_constant():
    features = planted(203, 8, 8, shared=0.5, noise=0.1)[0]
    found = decompose(features, features @ rotation(8)).teacher
    assert found.specific.square().sum() < 1e-6 * found.whole.values.square().sum()


def test_coordinates_have_the_features_inner_products_and_lead_back():
    features = torch.randn(12, 40, generator=torch.Generator().manual_seed(0)) + 3
    found = coordinates(features)
    centred = features.double() - features.double().mean(0)
    torch.testing.assert_close(found.values @ found.values.T, centred @ centred.T)
    torch.testing.assert_close(found.restore(found.values), centred)
    assert found.values.shape == (12, 11)


def test_folds_hold_each_sample_once():
    folds = split_samples(23, 5, seed=1)
    assert sorted(itertools.chain(*(fold.tolist() for fold in folds))) == list(range(23))
    assert sorted(map(len, folds)) == [4, 4, 5, 5, 5]


def test_the_interval_is_students_over_folds():
    value, low, high = interval(0.5, [0.4, 0.5, 0.6])
    assert (value, high - value) == (0.5, pytest.approx(4.302652729911275 * 0.1 / 3**0.5))
    assert low == pytest.approx(1 - high)


def test_chance_is_all_that_independent_variates_reach():
    generator = torch.Generator().manual_seed(0)
    shared = torch.randn(100, 1, generator=generator, dtype=torch.float64)
    noise = torch.randn(2, 100, 9, generator=generator, dtype=torch.float64)
    pairs = [(torch.cat([shared, noise[0]], 1), torch.cat([shared, noise[1]], 1))] * 2
    found, correlations = shared_pairs(pairs)
    assert found.tolist() == [True] + [False] * 9
    expected = [np.corrcoef(pairs[0][0][:, i], pairs[0][1][:, i])[0, 1] for i in range(10)]
    np.testing.assert_allclose(correlations, expected, atol=1e-12)


def test_pairs_after_the_first_that_fails_do_not_count():
    generator = torch.Generator().manual_seed(0)
    one = torch.randn(100, 3, generator=generator, dtype=torch.float64)
    other = torch.cat([one[:, :1], torch.randn(100, 1, generator=generator), one[:, 2:]], 1)
    found, correlations = shared_pairs([(one, other)])
    assert found.tolist() == [True, False, False]
    assert float(correlations[2]) == pytest.approx(1)


def test_leading_directions_of_a_large_matrix_are_its_singular_vectors(monkeypatch):
    matrix = rotation(60)[:, :40] * torch.logspace(0, -6, 40, dtype=torch.float64) @ rotation(40, seed=1)
    exact = leading_directions(matrix)
    monkeypatch.setattr(canonical, "FULL_RANK", 10)
    monkeypatch.setattr(canonical, "N_LEADING", 8)
    for one, other in zip(leading_directions(matrix), exact, strict=True):
        assert one.shape[1] == 8
        np.testing.assert_allclose((one * other[:, :8]).sum(0).abs(), 1, atol=1e-8)


def test_probes_read_what_is_there():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 4
    clear = torch.eye(4, dtype=torch.float64)[labels] + 0.01 * torch.randn(200, 4, generator=generator)
    noise = torch.randn(200, 4, generator=generator, dtype=torch.float64)
    folds = split_samples(200, 5)
    assert probe_accuracy(clear - clear.mean(0), labels, folds)[0] == 1.0
    value, low, high = probe_accuracy(noise, labels, folds)
    assert low < value < high < 0.5
    np.testing.assert_allclose(probe_accuracy(1e4 * noise @ rotation(4), labels, folds), (value, low, high))


@pytest.mark.parametrize(
    ("features", "labels", "message"),
    [
        (torch.zeros(20, 3), torch.arange(20) % 2, "this part is zero for all samples"),
        (torch.ones(20, 3), torch.full((20,), 7), "a classifier needs two classes, but all training labels are 7"),
    ],
)
def test_a_probe_needs_something_to_read(features, labels, message):
    with pytest.raises(AnalysisError, match=message):
        probe_accuracy(features.double(), labels, split_samples(20, 5))


def bad_inputs():
    teacher, student = independent(40, 6)
    late = torch.zeros(40, 6)
    late[split_samples(40, 5)[0]] = 1.0
    holed, endless = teacher.clone(), teacher.clone()
    holed[3, 2] = float("nan")
    endless[3, :2] = float("inf")
    return [
        (
            (teacher, student[:39]),
            {},
            "same samples in the same order, but the teacher has 40 samples and the student 39",
        ),
        ((teacher[:9], student[:9]), {}, "9 samples are too few for 5 folds; at least 20 are needed"),
        ((teacher, student), {"folds": 1}, "2 are needed, not 1"),
        ((holed, student), {}, "1 of 240 values of the teacher's feature are NaN or infinite"),
        ((teacher, endless), {}, "2 of 240 values of the student's feature are NaN or infinite"),
        ((teacher, torch.full((40, 6), 0.1)), {}, "the student's feature is the same for all 40 samples"),
        ((late[:, :1] * torch.arange(40)[:, None], student), {}, "teacher's feature varies in one fold only"),
        ((teacher, student), {"method": "rigde"}, "no method 'rigde' of decomposition; did you mean 'ridge'?"),
        ((teacher, student), {"method": "dropkd"}, "dropkd needs the trained encoders and decoders"),
    ]


@pytest.mark.parametrize(("features", "options", "message"), bad_inputs())
def test_bad_input_is_told_in_one_sentence(features, options, message):
    with pytest.raises(AnalysisError, match=re.escape(message)) as caught:
        decompose(*features, **options)
    assert "\n" not in str(caught.value)


def test_a_fold_like_the_mean_of_the_others_has_no_variance():
    values = torch.tensor([[0.0], [0.0], [1.0], [-1.0]], dtype=torch.float64)
    with pytest.raises(AnalysisError, match="features of a whole fold equal the mean of the others"):
        explained(values, values, 0.0, list(torch.arange(4).tensor_split(2)))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A DropKD method with its file, and maps of both networks."""
    torch.manual_seed(0)
    student, teacher = (create(name, n_classes=10, image_size=32).eval() for name in ("resnet8", "resnet20"))
    method = DropKD(DropKDOptions(dim=8), measure(student), measure(teacher)).eval()
    path = tmp_path_factory.mktemp("run") / "auxiliary.safetensors"
    save_auxiliary(method, {"name": "dropkd", "dim": 8}, path)
    return method, path, torch.randn(30, 64, 8, 8), torch.randn(30, 64, 8, 8)


def test_dropkd_keeps_what_its_decoder_gives(trained):
    method, path, teacher, student = trained
    found = decompose(teacher, student, method="dropkd", auxiliary=path, rates=(0.0, 0.0), folds=3)
    assert found.dimension is None
    network = method.teacher_projections[0]
    with torch.inference_mode():
        decoded = network.decoder(network.encoder(teacher)).flatten(1).double()
    target = torch.nn.functional.batch_norm(teacher, None, None, training=True).flatten(1).double()
    torch.testing.assert_close(found.teacher_general, decoded - target.mean(0), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.teacher_general + found.teacher_specific, target - target.mean(0))
    share = found.teacher.fraction.value
    assert found.teacher.by_sample.mean(1).tolist() == pytest.approx([share, 1 - share], rel=1e-9)


def test_dropkd_masks_follow_rate_and_seed(trained):
    _, path, teacher, student = trained
    method = load_dropkd(path.parent)
    one, same, other = (reconstruct(teacher, student, method, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one.teacher, same.teacher)
    assert not torch.equal(one.teacher, other.teacher)
    spread = [
        (
            reconstruct(teacher, student, method, rates=(rate, 0.0), n_masks=1, seed=0).teacher
            - reconstruct(teacher, student, method, rates=(0.0, 0.0)).teacher
        ).norm()
        for rate in (0.1, 0.5, 0.9)
    ]
    assert spread == sorted(spread)


@pytest.mark.parametrize(
    ("options", "maps", "message"),
    [
        ({"stage": 1}, slice(None), "this DropKD run has stage pairs 0 to 0, but not 1"),
        ({"rates": (0.5, 1.0)}, slice(None), "dropout rates must be in [0, 1), but are 0.5 and 1"),
        ({}, slice(0, 9), "dropkd needs the teacher's maps [n, 64, h, w], as in its training, but got [30, 9, 8, 8]"),
    ],
)
def test_dropkd_refuses_what_was_not_trained(trained, options, maps, message):
    method, _, teacher, student = trained
    with pytest.raises(AnalysisError, match=re.escape(message)):
        reconstruct(teacher[:, maps], student, method, **options)


def test_dropkd_needs_its_own_modules(tmp_path):
    path = tmp_path / "auxiliary.safetensors"
    save_tensors({}, path, {"format": "kdprobe-auxiliary", "version": 1, "method": {"name": "fitnet"}})
    with pytest.raises(AnalysisError, match="holds the modules of fitnet, but those of dropkd are needed"):
        load_dropkd(path)
