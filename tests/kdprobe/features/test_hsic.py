import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kdprobe.errors import AnalysisError
from kdprobe.features.gram import centred_gram
from kdprobe.features.hsic import biased_hsic, comparable, double_centre, rbf, u_centre, unbiased_hsic
from tests import goldens, references

GOLDEN = np.load(goldens.FOLDER / "hsic_cka.npz")
HSIC_CASES = [i for i in range(int(GOLDEN["n_cases"])) if f"c{i}_hsic_xy" in GOLDEN and GOLDEN[f"c{i}_x"].ndim == 2]


def normal(*shape, seed=0, mean=0.0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).add(mean).to(dtype)


@pytest.mark.parametrize("case", HSIC_CASES)
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-7), (torch.float32, 1e-5)])
def test_exact_rational_values(case, dtype, rtol):
    x, y = (torch.from_numpy(GOLDEN[f"c{case}_{name}"]).to(dtype) for name in "xy")
    gram_x, gram_y = centred_gram(x), centred_gram(y)
    for name, one, other in (("xy", gram_x, gram_y), ("xx", gram_x, gram_x), ("yy", gram_y, gram_y)):
        np.testing.assert_allclose(float(unbiased_hsic(one, other)), GOLDEN[f"c{case}_hsic_{name}"], rtol=rtol)


@pytest.mark.parametrize("case", HSIC_CASES)
def test_grams_of_uncentred_features_are_centred_first(case):
    x, y = (torch.from_numpy(GOLDEN[f"c{case}_{name}"]).double() for name in "xy")
    found = float(unbiased_hsic(x @ x.T, y @ y.T))
    np.testing.assert_allclose(found, GOLDEN[f"c{case}_hsic_xy"], rtol=1e-7)


@pytest.mark.parametrize("n", [4, 5, 7])
def test_equals_the_average_over_all_quadruples(n):
    x, y = normal(n, 3, mean=2), normal(n, 5, seed=1)
    found = float(unbiased_hsic(x @ x.T, y @ y.T))
    assert found == pytest.approx(references.unbiased_hsic(x, y), rel=1e-10)


def test_biased_equals_its_definition():
    x, y = normal(9, 3, mean=2), normal(9, 5, seed=1)
    assert float(biased_hsic(x @ x.T, y @ y.T)) == pytest.approx(references.biased_hsic(x.numpy(), y.numpy()))


def test_independent_features_have_no_unbiased_but_much_biased_similarity():
    x, y = normal(64, 512), normal(64, 512, seed=1)
    one, other = centred_gram(x), centred_gram(y)
    for hsic, low, high in ((unbiased_hsic, -0.05, 0.05), (biased_hsic, 0.8, 0.95)):
        ratio = float(hsic(one, other) / torch.sqrt(hsic(one, one) * hsic(other, other)))
        assert low < ratio < high


@settings(max_examples=30, deadline=None)
@given(st.integers(4, 12), st.integers(1, 40), st.floats(-100, 100), st.floats(0.01, 100))
def test_shift_and_scale(n, d, shift, scale):
    x, y = normal(n, d), normal(n, 6, seed=1)
    before = float(unbiased_hsic(centred_gram(x), centred_gram(y)))
    after = float(unbiased_hsic(centred_gram(scale * x + shift), centred_gram(y)))
    size = (
        float(unbiased_hsic(centred_gram(x), centred_gram(x)) * unbiased_hsic(centred_gram(y), centred_gram(y))) ** 0.5
    )
    assert after == pytest.approx(scale**2 * before, rel=1e-6, abs=1e-9 * scale**2 * size)


def test_u_centred_rows_sum_to_zero_without_the_diagonal():
    centred = u_centre(normal(3, 6, 6) + normal(3, 6, 6).mT)
    assert torch.allclose(centred.sum(-1), torch.zeros(3, 6, dtype=torch.float64), atol=1e-12)
    assert (centred.diagonal(dim1=-2, dim2=-1) == 0).all()


def test_a_gram_matrix_is_not_changed():
    gram = normal(6, 6) @ normal(6, 6).T
    before = gram.clone()
    unbiased_hsic(gram, gram)
    assert torch.equal(gram, before)


def test_centred_gram_is_that_of_mean_free_rows_over_many_blocks():
    x = normal(8, 100_003, mean=3)
    expected = (x - x.mean(0)) @ (x - x.mean(0)).T
    assert torch.allclose(centred_gram(x), expected, rtol=1e-12, atol=1e-8)
    assert torch.allclose(centred_gram(x.float()), expected, rtol=1e-5, atol=0.5)
    assert centred_gram(x.float()).dtype == torch.float64


@pytest.mark.parametrize("mean", [10, 100, 1000])
def test_a_large_mean_costs_no_digits(mean):
    x, y = normal(64, 2000), normal(64, 300, seed=1)
    y[:, :150] += x[:, :150]
    exact = float(unbiased_hsic(centred_gram((x + mean).float().double()), centred_gram(y)))
    found = float(unbiased_hsic(centred_gram((x + mean).float()), centred_gram(y.float())))
    assert found == pytest.approx(exact, rel=1e-5)


def test_an_outlying_first_sample_costs_no_digits():
    x = normal(32, 500)
    x[0] *= 1000
    exact = centred_gram(x.float().double())[1:, 1:]
    assert torch.allclose(centred_gram(x.float())[1:, 1:], exact, rtol=1e-4, atol=float(exact.diagonal().mean()) * 1e-4)


@pytest.mark.parametrize("value", [0.0, 0.1, 12345.678])
def test_features_that_do_not_vary_give_exact_zeros(value):
    assert (centred_gram(torch.full((7, 1000), value)) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_first(dtype):
    x = normal(8, 5000, mean=1).to(dtype)
    assert torch.allclose(centred_gram(x), centred_gram(x.double()), rtol=1e-4, atol=1e-2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(centred_gram(x), centred_gram(x.clone()))
        assert torch.allclose(centred_gram(x), centred_gram(x.double()), rtol=1e-4, atol=1e-2)


def test_the_order_of_memory_does_not_matter():
    x = normal(6, 3, 5, 7, dtype=torch.float32)
    last = x.contiguous(memory_format=torch.channels_last)
    assert torch.allclose(centred_gram(x), centred_gram(last), rtol=1e-5, atol=1e-4)


def test_products_beyond_float32_are_made_in_float64():
    x = normal(5, 10, dtype=torch.float32) * 1e30
    assert torch.isfinite(centred_gram(x)).all()


def test_non_finite_features_are_counted():
    x = normal(5, 10)
    x[1, 2], x[3, 3], x[3, 4] = float("nan"), float("inf"), float("-inf")
    with pytest.raises(AnalysisError, match="1 NaN and 2 infinite values among 50 features"):
        centred_gram(x)


def test_too_few_samples_and_unequal_sizes():
    gram = torch.eye(3)
    with pytest.raises(AnalysisError, match="at least 4 samples, but got 3"):
        unbiased_hsic(gram, gram)
    with pytest.raises(AnalysisError, match=r"got \[5, 5\] and \[4, 4\]"):
        biased_hsic(torch.eye(5), torch.eye(4))


def test_rbf_equals_its_definition_and_ignores_scale():
    x = normal(9, 4)
    np.testing.assert_allclose(rbf(centred_gram(x)), references.rbf(x.numpy()), rtol=1e-10)
    np.testing.assert_allclose(rbf(centred_gram(7 * x)), rbf(centred_gram(x)), rtol=1e-10)
    assert (rbf(torch.zeros(5, 5)) == 1).all()


def test_comparable_products_are_hsic():
    one, other = centred_gram(normal(7, 3)), centred_gram(normal(7, 4, seed=1))
    for name, hsic in (("unbiased", unbiased_hsic), ("biased", biased_hsic)):
        product = (comparable(one, "linear", name) * comparable(other, "linear", name)).sum()
        assert float(product) == pytest.approx(float(hsic(one, other)))
    with pytest.raises(AnalysisError, match="no kernel 'rbv'; did you mean 'rbf'"):
        comparable(one, "rbv")
    with pytest.raises(AnalysisError, match="no kernel 'rfb'; did you mean 'rbf'"):
        comparable(torch.eye(5), "rfb")
    with pytest.raises(AnalysisError, match="no estimator of HSIC 'biassed'; did you mean 'biased'"):
        comparable(one, "linear", "biassed")


def test_double_centring_is_centring_of_features():
    x = normal(6, 4, mean=3)
    assert torch.allclose(double_centre(x @ x.T), centred_gram(x))
