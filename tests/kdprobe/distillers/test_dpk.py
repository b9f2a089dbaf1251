import pytest
import torch
import torch.nn.functional as F

from kdprobe.distillers import DISTILLERS, Progress
from kdprobe.distillers.dpk import WindowAttention, hybrid, prior_loss, similarity
from kdprobe.models.stages import Features, Shapes
from tests.goldens import leaf


def _features(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _unbiased_cka(x, y):
    """Term by term over quadruples of different samples."""
    grams = [features @ features.T for features in (x, y)]
    n = len(x)

    def hsic(k, m):
        total, count = 0.0, 0
        for i in range(n):
            for j in range(n):
                for q in range(n):
                    for r in range(n):
                        if len({i, j, q, r}) == 4:
                            total += float(k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]))
                            count += 1
        return total / count

    return hsic(grams[0], grams[1]) / (hsic(grams[0], grams[0]) * hsic(grams[1], grams[1])) ** 0.5


def test_similarity_is_unbiased_cka():
    base = _features(6, 5, 0)
    other = base @ _features(5, 7, 1) + 0.3 * _features(6, 7, 2)
    expected = _unbiased_cka(base, other)
    assert 0 < expected < 1
    assert float(similarity(base, other)) == pytest.approx(expected, abs=1e-9)
    assert float(similarity(base + 100, base * 3)) == pytest.approx(1.0)


def test_similarity_is_undefined_for_few_or_equal_samples():
    assert similarity(_features(3, 5, 0), _features(3, 5, 1)).isnan()
    assert similarity(torch.ones(6, 5), _features(6, 5, 1)).isnan()


def test_hybrid_takes_the_marked_places():
    student, teacher = torch.zeros(2, 3, 2, 2), torch.ones(2, 3, 2, 2)
    mixed = hybrid(student, teacher, torch.tensor([[True, False], [False, True]]))
    assert mixed[1, 2].tolist() == [[1, 0], [0, 1]]


def test_the_target_is_standardised_over_channels():
    teacher = torch.randn(2, 6, 3, 3, generator=torch.Generator().manual_seed(0))
    target = F.layer_norm(teacher.movedim(1, -1), (6,)).movedim(-1, 1)
    assert prior_loss(target, teacher * 5 + 2) < 1e-6
    student = leaf(torch.zeros(2, 6, 3, 3))
    prior_loss(student, torch.zeros(2, 6, 3, 3)).backward()
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("size", [(8, 8), (7, 7), (2, 2), (4, 6)])
def test_windows_fit_any_grid(size):
    assert WindowAttention(6, size, 2)(torch.rand(2, *size, 6)).shape == (2, *size, 6)


SHAPES = Shapes("net", ("s.0", "s.1", "s.2"), ((4, 8, 8), (8, 4, 4), (8, 2, 2)), 8, 3, None, 0)


def _maps(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return Features(torch.zeros(n, 3), maps=tuple(torch.randn(n, *shape, generator=generator) for shape in SHAPES.maps))


def _method(**options):
    torch.manual_seed(0)
    kind = DISTILLERS["dpk"]
    return kind(kind.Options(**options), SHAPES, SHAPES)


def test_the_two_deepest_pairs_are_used_and_follow_cka():
    method = _method()
    assert method.pairs == ((1, 1), (2, 2))
    labels = torch.zeros(8).long()
    method(_maps(8, 0), _maps(8, 1), labels, Progress(0, 1))
    after = method.similarity.clone()
    assert (after != 0.5).all()
    assert (after < 0.6).all()
    method.eval()(_maps(8, 0), _maps(8, 1), labels, Progress(0, 1))
    assert torch.equal(method.similarity, after)


@pytest.mark.parametrize(("prior", "teaches"), [(1.0, False), (0.0, True)])
def test_a_fixed_ratio_of_one_shows_the_teacher_alone(prior, teaches):
    student = Features(torch.zeros(4, 3), maps=tuple(leaf(maps) for maps in _maps(4, 0).maps))
    method = _method(prior_ratio=prior)
    method(student, _maps(4, 1), torch.zeros(4).long(), Progress(0, 1))["prior"].backward()
    assert bool(student.maps[2].grad.any()) is teaches


def test_a_batch_of_one_leaves_the_similarity():
    method = _method()
    assert method(_maps(1, 0), _maps(1, 1), torch.zeros(1).long(), Progress(0, 1))["prior"].isfinite()
    assert (method.similarity == 0.5).all()
