import numpy as np
import pytest
import torch
from scipy.stats import t

from analyses.knowledge.adjusted import adjusted_share, basis_of
from analyses.knowledge.coordinates import coordinates
from analyses.knowledge.decomposition import decompose
from analyses.knowledge.groups import SampleGroups
from analyses.knowledge.layers import decompose_layers
from analyses.knowledge.pair import measure_pair
from analyses.knowledge.result import compare, comparison_table, knowledge_summary, knowledge_table
from analyses.paired_features import LayerFeatures
from kdprobe.errors import AnalysisError, Undefined
from kdprobe.results import check_result
from tests.planted import independent, planted


def share_of(target, source, *, seed=0, **options):
    """What `source` explains of `target`."""
    order = torch.randperm(len(target), generator=torch.Generator().manual_seed(seed))
    return adjusted_share(coordinates(target), *basis_of(coordinates(source)), order, name="student", **options)


def refitted(target, source):
    """The same by numpy's least squares, for any rank of the source."""
    x, y = (z.numpy() - z.numpy().mean(0) for z in (source, target))
    rest, rank = y - x @ np.linalg.lstsq(x, y, rcond=None)[0], np.linalg.matrix_rank(x)
    return 1 - ((rest**2).sum() / (len(x) - rank - 1)) / ((y**2).sum() / (len(x) - 1))


def noisy_copies(n, width, noise, *, seed):
    """Features, and the same with independent noise of that variance: 1 / (1 + noise) of these is general."""
    generator = torch.Generator().manual_seed(seed)
    spectrum = torch.arange(1, width + 1, dtype=torch.float64) ** -0.5
    one, error = torch.randn(2, n, width, generator=generator, dtype=torch.float64) * spectrum
    return one, one + noise**0.5 * error


@pytest.mark.parametrize("lonely", [False, True])
def test_leaving_out_a_group_is_fitting_without_it(lonely):
    teacher, student = planted(70, 9, 12, shared=0.5, noise=0.3)
    if lonely:  # a direction that goes with one sample's group
        student[:, 3] = 0.0
        student[17, 3] = 2.0
    order = torch.randperm(70, generator=torch.Generator().manual_seed(0))
    found = share_of(teacher, student)
    assert found.value == pytest.approx(refitted(teacher, student), abs=1e-12)
    without = []
    for group in order.tensor_split(20):
        rest = [i for i in range(70) if i not in group.tolist()]
        without.append(refitted(teacher[rest], student[rest]))
    half = t.ppf(0.975, 19) * np.sqrt(19 / 20 * np.square(without - np.mean(without)).sum())
    assert found.high - found.value == pytest.approx(half, rel=1e-9)
    assert found.value - found.low == pytest.approx(half, rel=1e-9)


@pytest.mark.parametrize(("n", "width", "noise"), [(100, 40, 0.25), (60, 25, 3.0)])
def test_the_share_is_the_populations(n, width, noise):
    truth = 1 / (1 + noise)
    found = [share_of(*noisy_copies(n, width, noise, seed=seed)[::-1]) for seed in range(40)]
    assert np.mean([share.value for share in found]) == pytest.approx(truth, abs=0.01)
    assert np.mean([share.low <= truth <= share.high for share in found]) >= 0.92


def test_independent_networks_share_nothing_on_average():
    found = [share_of(*independent(100, 50, seed=seed)) for seed in range(30)]
    assert np.mean([share.value for share in found]) == pytest.approx(0, abs=0.01)
    assert min(share.value for share in found) < 0
    assert np.mean([share.low <= 0 <= share.high for share in found]) >= 0.92


def test_an_identical_network_shares_all():
    teacher = planted(90, 12, 12, shared=0.5, noise=0.3)[0]
    assert decompose(teacher, 3 * teacher - 7).teacher.fraction.ends == pytest.approx((1, 1, 1), abs=1e-12)


@pytest.mark.parametrize(("n", "width", "used"), [(120, 119, 40), (120, 118, 40), (120, 300, 40), (120, 89, 89)])
def test_too_few_samples_give_a_lower_bound_that_says_so(n, width, used):
    copy, noisy = noisy_copies(n, width, 0.25, seed=1)
    found = decompose(noisy, copy)
    share, support = found.fractions["teacher_general"], found.student.support
    assert support == (n, min(n - 1, width), used, pytest.approx(support.held))
    assert share.lower_bound == support.lower_bound == (used == 40)
    if share.lower_bound:
        assert 0.4 < share.value < 0.8
        assert share.low < 0.8
        assert share.reason == (
            f"a lower bound: 120 independent samples are too few for all {min(119, width)} components of the student's "
            f"features; this is what the leading 40 explain, which hold {100 * support.held:.1f} % of their variance"
        )
        rest = found.fractions["teacher_specific"]
        assert not rest.lower_bound
        assert rest.reason.startswith("an upper bound: 120 independent")
    else:
        assert share.reason == ""
        assert share.low < 0.8 < share.high


def test_few_degrees_of_freedom_are_told():
    copy, noisy = noisy_copies(30, 5, 0.25, seed=1)
    share = share_of(noisy, copy)
    assert (share.bound, share.reason) == (
        "",
        "n - d - 1 = 24 degrees of freedom are few, so the interval is wide",
    )


@pytest.mark.parametrize(
    "changed",
    [
        lambda x: torch.cat([x, x[:, :7] + x[:, 7:14]], 1),
        lambda x: torch.cat([x, torch.full((len(x), 1), 3.1)], 1),
        lambda x: x.half(),
        lambda x: x.float() + 1e3,
        lambda x: x + 1e6,
    ],
    ids=["rank-deficient", "a constant column", "float16", "float32 off zero", "far off zero"],
)
def test_how_features_are_stored_changes_nothing(changed):
    copy, noisy = noisy_copies(120, 20, 0.25, seed=1)
    plain, other = decompose(noisy, copy), decompose(changed(noisy), changed(copy))
    assert other.student.support.rank == 20
    target = plain.teacher.fraction if changed(noisy).shape == noisy.shape else share_of(changed(noisy), copy)
    assert other.teacher.fraction.ends == pytest.approx(target.ends, abs=2e-3)


def copies(n=120, width=40, count=6):
    """Independent networks' features of images that were shown several times."""
    generator = torch.Generator().manual_seed(0)
    index = torch.randperm(n * count, generator=generator) % n
    return *(x[index] + 0.1 * torch.randn(len(index), width, generator=generator) for x in independent(n, width)), index


def test_copies_of_an_image_count_once():
    teacher, student, index = copies()
    apart, together = decompose(teacher, student), decompose(teacher, student, groups=index + 5)
    assert apart.teacher.fraction.low > 0.1
    assert together.teacher.fraction.low < 0 < together.teacher.fraction.high
    assert (together.teacher.support.n, together.dimension, together.groups.count) == (120, 0, 120)
    kept = {int(image): number for number, fold in enumerate(together.folds) for image in index[fold]}
    assert all(kept[int(image)] == number for number, fold in enumerate(together.folds) for image in index[fold])
    assert sorted(torch.cat(together.folds).tolist()) == list(range(720))
    cka = measure_pair("a", "b", together).numbers["cka"][0]
    assert cka[1] < 0 < cka[2]
    assert measure_pair("a", "b", apart).numbers["cka"][0, 0] > cka[0] + 0.1


def test_a_group_counts_by_its_mean():
    groups = SampleGroups.of([7, 3, 7, 3, 9], 5)
    rows = torch.tensor([[1.0], [2.0], [3.0], [6.0], [5.0]])
    assert groups.means(rows).tolist() == [[4.0], [2.0], [5.0]]
    assert groups.samples(torch.tensor([2, 0])).tolist() == [4, 1, 3]
    assert not groups.single
    assert SampleGroups.of([4, 2, 9], 3).means(rows[:3]) is not None
    assert SampleGroups.of([4, 2, 9], 3).samples(torch.tensor([2, 0])).tolist() == [2, 0]


@pytest.mark.parametrize("groups", [[1, 2], torch.tensor([0.5, 1.0, 2.0])])
def test_groups_are_whole_numbers(groups):
    with pytest.raises(AnalysisError, match="groups must be a whole number for each of the 3 samples, but are torch"):
        SampleGroups.of(groups, 3)


def test_groups_may_have_names():
    assert SampleGroups.of(["p1", "p0", "p1"], 3).codes.tolist() == [1, 0, 1]
    with pytest.raises(AnalysisError, match="groups must be a whole number, or a name, for each of the 3 samples"):
        SampleGroups.of(["p1", 3, "p0"], 3)


def test_few_groups_are_refused():
    teacher, student, index = copies()
    with pytest.raises(AnalysisError, match="3 groups are too few for 5 folds; at least 20 are needed"):
        decompose(teacher, student, groups=index % 3)


def test_a_target_that_varies_in_one_group_alone_is_undefined():
    target = torch.zeros(100, 1)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    target[order[:3], 0] = torch.tensor([1.0, 2.0, 3.0])
    with pytest.raises(Undefined, match="all variance is in 5 of 100 samples; take more samples"):
        share_of(target, independent(100, 4)[0])


def test_results_say_what_limits_them():
    teacher, student, index = copies(n=60, width=50, count=2)
    few, _ = decompose_layers(
        LayerFeatures({"a": teacher}, {"b": student}, index % 3, index, {"teacher": "t", "student": "s", "data": "d"}),
        [("a", "b")],
        probes=False,
    )
    check_result(few)
    assert few.facts["n_independent"] == 60
    assert few.facts["teacher_lower_bound"] == few.facts["student_sample_limited"] == [True]
    assert [few.arrays[f"teacher_{name}"].item() for name in ("rank", "used")] == [50, 20]
    text = knowledge_summary(few)
    assert "t and s by adjusted, 120 samples of d, of which 60 are independent" in text
    assert text.count(">= ") == 2
    assert "a and b, teacher general share: a lower bound: 60 independent samples are too few for all 50" in text
    assert text.endswith("from these samples, and its variance is not the share.")
    table = knowledge_table(few)
    noted = table[table.note != ""]
    assert noted.quantity.tolist() == ["share"] * 4
    assert noted.note.str.contains("lower bound|upper bound").all()
    both = compare(["x", "y"], [few, few])
    check_result(both)
    assert comparison_table(both).lower_bound.all()
