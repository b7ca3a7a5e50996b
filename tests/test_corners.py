"""Corners of single laws: where a float overflows or two large numbers cancel."""

import mpmath
import pytest
import torch

import reparam as rp
from reparam.distributions import Chi, JohnsonSU, LogGamma, Nakagami, SinhArcsinh, TruncatedNormal


@pytest.mark.parametrize("df", [0.3, 5.0, 199.0, 201.0, 1e4, 1e6, 1e8])
def test_the_variance_of_many_degrees_of_freedom(df):
    with mpmath.workdps(40):
        k = mpmath.mpf(df)
        exact = k - 2 * mpmath.exp(2 * (mpmath.loggamma((k + 1) / 2) - mpmath.loggamma(k / 2)))
        relative = float(exact / k)
    variance = Chi(torch.tensor(df, dtype=torch.float64)).variance
    assert abs(float(variance) - float(exact)) <= 1e-10 * float(exact)
    assert abs(float(Nakagami(torch.tensor(df / 2, dtype=torch.float64), 1.0).variance) - relative) <= 1e-10 * relative


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_distribution_function_of_a_log_gamma_is_one_where_its_value_overflows(dtype):
    a = torch.tensor(2.0, dtype=dtype, requires_grad=True)
    below = LogGamma(a, torch.ones((), dtype=dtype)).cdf(torch.tensor([100.0, 710.0, 1e6], dtype=dtype))
    assert (below == 1).all()
    assert torch.autograd.grad(below.sum(), a)[0] == 0


@pytest.mark.parametrize(
    ("law", "parameters", "eps"), [(JohnsonSU, (0.0, 0.05, 0.0, 1.0), 4.6), (SinhArcsinh, (0.0, 1.0, 0.5, 30.0), 6.0)]
)
def test_samples_beyond_the_floats_are_held_without_gradient(law, parameters, eps):
    leaves = [torch.tensor(p, requires_grad=True) for p in parameters]
    x = rp.path(law(*leaves)).push(torch.tensor([0.1, eps]))
    assert x.isfinite().all()
    for slope in torch.autograd.grad(x[1], leaves, retain_graph=True):
        assert slope.isfinite()
    assert all(slope != 0 for slope in torch.autograd.grad(x[0], leaves[:2]))


def test_means_of_symmetric_laws_with_heavy_tails():
    assert JohnsonSU(0.0, 0.05, 3.0, 1.0).mean == 3
    assert SinhArcsinh(0.0, 1.0, 0.5, 30.0).variance == torch.inf


def test_a_truncated_normal_has_slopes_at_its_bounds():
    loc = torch.tensor(0.0, requires_grad=True)
    below = TruncatedNormal(loc, 1.0, -1.0, 2.0).cdf(torch.tensor([-1.0, 2.0]))
    assert below.tolist() == [0.0, 1.0]
    assert torch.autograd.grad(below.sum(), loc)[0] == 0
