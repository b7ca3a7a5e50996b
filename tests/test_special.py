"""Functions with removable singularities, against 40-digit arithmetic; exponentials at the ends of the floats."""

import mpmath
import pytest
import torch

from reparam.special import exprel, log1prel, normal_exp, normal_range

EXACT = {
    exprel: lambda t: mpmath.expm1(t) / t if t else mpmath.mpf(1),
    log1prel: lambda t: mpmath.log1p(t) / t if t else mpmath.mpf(1),
}
POINTS = [-0.9, -0.26, -0.24, -1e-3, -1e-9, 0.0, 1e-12, 1e-5, 0.1, 0.24, 0.26, 0.9, 0.999, 1.001, 3.0, 20.0]


def derivative(exact, t, order):
    """By Taylor coefficients, which mpmath finds by differences at high precision; away from zero where the formula divides."""
    with mpmath.workdps(60):
        return float(mpmath.diff(exact, mpmath.mpf(t) + (mpmath.mpf(10) ** -40 if t == 0 else 0), order, h=mpmath.mpf(10) ** -15))


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("f", EXACT, ids=lambda f: f.__name__)
def test_values_and_derivatives(f, order):
    t = torch.tensor(POINTS, dtype=torch.float64, requires_grad=True)
    y = f(t)
    for _ in range(order):
        (y,) = torch.autograd.grad(y.sum(), t, create_graph=True)
    exact = torch.tensor([derivative(EXACT[f], p, order) for p in POINTS], dtype=torch.float64)
    # Beyond the series each derivative cancels a digit or two.
    assert torch.allclose(y, exact, rtol=4e-16 * 40**order, atol=0)


@pytest.mark.parametrize("f", EXACT, ids=lambda f: f.__name__)
def test_single_precision(f):
    t = torch.cat([torch.linspace(-0.9, 2.0, 10_001), torch.tensor([0.0, 1e-30, -1e-30])])
    error = f(t).double() / f(t.double()) - 1
    assert error.abs().max() < 4e-7
    assert f(t.bfloat16().float()).isfinite().all()


def test_large_arguments():
    assert torch.allclose(exprel(torch.tensor([-1e4, -100.0])), torch.tensor([1e-4, 1e-2]))
    assert torch.allclose(log1prel(torch.tensor(1e30)), torch.tensor(30 * 2.302585e-30))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_exponentials_saturate_with_zero_gradient(dtype):
    info = torch.finfo(dtype)
    log_x = torch.tensor([-1e5, -1.0, 0.0, 3.0, 1e5, float("inf"), -float("inf")], dtype=dtype, requires_grad=True)
    x = normal_exp(log_x)
    assert x.isfinite().all()
    assert (x >= info.tiny).all()
    assert float(x[0].detach()) < 1.001 * info.tiny
    assert float(x[4].detach()) > 0.999 * info.max
    (slope,) = torch.autograd.grad((1e3 * x).sum(), log_x)
    assert torch.equal(slope, torch.where(log_x.abs() < 10, 1e3 * x, 0.0))


def test_range():
    x = torch.tensor([0.0, 1e-45, 1.0, float("inf")], requires_grad=True)
    y = normal_range(x)
    info = torch.finfo(torch.float32)
    assert y.tolist() == [info.tiny, info.tiny, 1.0, info.max]
    assert torch.autograd.grad(y.sum(), x)[0].tolist() == [0.0, 0.0, 1.0, 0.0]
