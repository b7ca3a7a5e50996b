"""The incomplete beta function in logits and Student's t: values and derivatives against high precision."""

import importlib.util
import json
import math
from pathlib import Path

import mpmath as mp
import pytest
import torch

from reparam.special.beta import (
    betainc,
    digamma_difference,
    log_betainc,
    log_betaincc,
    logit_beta_log_density,
    logit_beta_quantile,
    logit_beta_slopes,
)
from reparam.special.student import log_student_cdf, log_student_sf, student_log_density, student_quantile, student_slope

ORACLE = Path(__file__).parent / "oracle" / "beta"
TRUTH = torch.tensor(json.loads(ORACLE.with_suffix(".json").read_text()), dtype=torch.float64)
A, B, Y, LOWER, UPPER, BY_A, BY_B = TRUTH.T


def double(*values):
    return [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in values]


def oracle():
    spec = importlib.util.spec_from_file_location("oracle_beta", ORACLE.with_suffix(".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_oracle(rows):
    module = oracle()
    for row in rows.tolist():
        assert module.truth(*row[:3]) == pytest.approx(row[3:], rel=1e-13)


def test_the_table_is_what_the_oracle_says():
    check_oracle(TRUTH[(A < 10) & (B < 10) & (Y.abs() < 15)][::40])


@pytest.mark.slow
def test_the_whole_table_is_what_the_oracle_says():
    check_oracle(TRUTH)


def test_tails():
    """Absolute errors of logs; where one of the parameters is tiny the tail of the other side is a small difference."""
    for found, truth in ((log_betainc(A, B, Y), LOWER), (log_betaincc(A, B, Y), UPPER)):
        error = (found - truth).abs() / (1 + truth.abs())
        assert error.max() < 1e-10
        assert error[torch.minimum(A, B) >= 0.3].max() < 1e-12


def test_slopes_in_the_parameters_and_their_signs():
    by_a, by_b = logit_beta_slopes(A, B, Y)
    assert (by_a > 0).all()
    assert (by_b < 0).all()
    for found, truth in ((by_a, BY_A), (by_b, BY_B)):
        error = (found / truth - 1).abs()
        assert error.max() < 2e-9
        assert error.median() < 1e-13


def test_quantiles():
    hazard = -UPPER
    found = logit_beta_quantile(A, B, hazard)
    spread = torch.exp(UPPER - logit_beta_log_density(A, B, Y)) * hazard  # what a relative error of the hazard does
    error = (found - Y).abs()
    assert (error / (1e-9 * (1 + Y.abs()) + 4e-16 * spread)).max() < 1


def test_single_precision():
    """Arguments that float32 holds: the result is that of float64, rounded."""
    a, b, y = (t.float() for t in (A, B, Y))
    for f in (log_betainc, log_betaincc, lambda *v: logit_beta_slopes(*v)[0], lambda *v: logit_beta_slopes(*v)[1]):
        exact = f(a.double(), b.double(), y.double())
        assert ((f(a, b, y).double() - exact).abs() <= 6e-7 * exact.abs() + 1e-30).float().mean() > 0.97
        assert torch.allclose(f(a, b, y).double(), exact, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("shape", [1e-4, 0.3, 1.0, 7.0, 1e5])
def test_closed_forms(shape):
    """Beta(a, 1) has `I = x^a`, so `dx/da = -x log x / a`; Beta(1, b) by symmetry."""
    a = torch.tensor(shape, dtype=torch.float64)
    y = torch.linspace(-30, 30, 41, dtype=torch.float64) + a.log()
    log_x = torch.nn.functional.logsigmoid(y)
    one = torch.ones_like(a)
    expected = -log_x / a / torch.sigmoid(-y)
    assert torch.allclose(log_betainc(a, one, y), a * log_x, rtol=1e-10, atol=1e-12)
    assert torch.allclose(logit_beta_slopes(a, one, y)[0], expected, rtol=1e-9)
    assert torch.allclose(logit_beta_slopes(one, a, -y)[1], -expected, rtol=1e-9)


def test_both_sides_of_the_switch_agree():
    values = torch.tensor([1e-4, 1e-2, 1.0, 50.0, 1e5], dtype=torch.float64)
    a, b = (t.flatten() for t in torch.meshgrid(values, values, indexing="ij"))
    switch = torch.log1p(a) - torch.log1p(b)
    below, above = ([*logit_beta_slopes(a, b, switch + d), log_betainc(a, b, switch + d)] for d in (-1e-13, 1e-13))
    for low, high in zip(below, above, strict=True):
        assert torch.allclose(low, high, rtol=2e-9, atol=2e-9)


@pytest.mark.parametrize(("a", "b", "y"), [(0.3, 0.7, -2.0), (2.0, 3.0, 0.3), (5.0, 50.0, -2.0), (0.05, 4.0, 1.0)])
def test_derivatives_to_second_order(a, b, y):
    for f in (log_betainc, log_betaincc, logit_beta_slopes, logit_beta_log_density):
        assert torch.autograd.gradcheck(f, double(a, b, y), check_forward_ad=True)
        assert torch.autograd.gradgradcheck(f, double(a, b, y), atol=1e-4)
    assert torch.autograd.gradcheck(logit_beta_quantile, double(a, b, 0.4), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(logit_beta_quantile, double(a, b, 0.4), atol=1e-4)


def test_parameters_at_the_ends_of_the_floats():
    values = torch.tensor([1e-6, 1e-3, 1.0, 1e3, 1e8], dtype=torch.float64)
    hazards = torch.tensor([0.0, 1e-300, 1e-12, 0.01, 0.7, 14.0, 700.0], dtype=torch.float64)
    a, b, hazard = torch.broadcast_tensors(values[:, None, None], values[:, None], hazards)
    y = logit_beta_quantile(a, b, hazard)
    by_a, by_b = logit_beta_slopes(a, b, y)
    assert y.isfinite().all()
    assert (y.diff(dim=-1) > 0).all()
    assert (by_a.isfinite() & (by_a > 0) & by_b.isfinite() & (by_b < 0)).all()


def test_in_values():
    a, b, x = double(2.0, 3.0, [0.0, 1e-10, 0.3, 1 - 1e-10, 1.0])
    value = betainc(a, b, x)
    exact = [float(mp.betainc(2, 3, 0, v, regularized=True)) for v in x.tolist()]
    assert torch.allclose(value, torch.tensor(exact, dtype=torch.float64), rtol=1e-12)
    (slope,) = torch.autograd.grad(value.sum(), x)
    assert torch.allclose(slope, 12 * x * (1 - x) ** 2, rtol=1e-10, atol=1e-25)


def test_digamma_differences():
    for z in (1e-6, 0.3, 2.0, 90.0, 1e8):
        for d in (1e-8, 0.1, 3.0, 1e6):
            with mp.workdps(50):
                exact = float(mp.psi(0, mp.mpf(z) + mp.mpf(d)) - mp.psi(0, mp.mpf(z)))
            assert float(digamma_difference(*double(z, d)).detach()) == pytest.approx(exact, rel=4e-15)


def test_transforms():
    a, b, y = (v.detach() for v in double([2.0, 0.5], [3.0, 1.5], [0.1, -0.4]))
    every = torch.func.vmap(torch.func.grad(log_betainc, argnums=(0, 1, 2)))(a, b, y)
    leaves = double([2.0, 0.5], [3.0, 1.5], [0.1, -0.4])
    for found, wanted in zip(every, torch.autograd.grad(log_betainc(*leaves).sum(), leaves), strict=True):
        assert torch.allclose(found, wanted)
    assert torch.func.hessian(log_betainc)(a[0], b[0], y[0]).isfinite()
    assert log_betainc(a[:0], b[:0], y[:0]).shape == (0,)


# Student's t


def student_truth(df, t):
    """`log P(T > t)` and `dt/d df` at fixed probability, for `t > 0`."""
    with mp.workdps(60):
        df, t = mp.mpf(df), mp.mpf(t)

        def tail(df):
            return mp.betainc(df / 2, mp.mpf(1) / 2, 0, df / (df + t * t), regularized=True) / 2

        h = df * mp.mpf(10) ** -20
        log_density = mp.loggamma((df + 1) / 2) - mp.loggamma(df / 2) - mp.log(mp.pi * df) / 2
        log_density -= (df + 1) / 2 * mp.log1p(t * t / df)
        slope = (tail(df + h) - tail(df - h)) / (2 * h) / mp.exp(log_density)
        return float(mp.log(tail(df))), float(slope), float(log_density)


@pytest.mark.parametrize(("df", "accuracy"), [(1e-3, 1e-12), (0.5, 1e-12), (3.0, 1e-11), (30.0, 1e-10), (1e3, 1e-9), (1e5, 2e-8)])
def test_student(df, accuracy):
    """The derivative in the degrees of freedom is the difference of two numbers that is smaller by them."""
    for t in (0.05, 0.7, 2.0, 5.0):
        log_tail, slope, density = student_truth(df, t)
        d, at = double(df, t)
        assert float(log_student_sf(d, at).detach()) == pytest.approx(log_tail, abs=1e-12)
        assert float(log_student_cdf(d, -at).detach()) == pytest.approx(log_tail, abs=1e-12)
        assert float(log_student_cdf(d, at).exp().detach()) == pytest.approx(1 - math.exp(log_tail), rel=1e-12)
        assert float(student_slope(d, at).detach()) == pytest.approx(slope, rel=accuracy)
        assert float(student_log_density(d, at).detach()) == pytest.approx(density, abs=1e-13)
        back = student_quantile(d, -log_student_sf(d, at).detach())
        assert float(back.detach()) == pytest.approx(t, rel=1e-10)
        assert float(torch.autograd.grad(back, d)[0]) == pytest.approx(slope, rel=10 * accuracy)


def test_student_to_second_order():
    for f in (log_student_sf, student_slope, student_log_density):
        assert torch.autograd.gradcheck(f, double(3.0, [-1.0, 0.4, 2.0]))
        assert torch.autograd.gradgradcheck(f, double(3.0, [-1.0, 0.4, 2.0]), atol=1e-4)
    assert torch.autograd.gradgradcheck(student_quantile, double(3.0, [0.2, 0.9, 4.0]), atol=1e-4)
    assert torch.autograd.grad(log_student_sf(*(v := double(3.0, 0.0))), v[1])[0] == pytest.approx(-2 * 0.36755259694786)


def test_student_of_few_degrees_of_freedom_saturates():
    df = torch.tensor(1e-3, dtype=torch.float64, requires_grad=True)
    t = student_quantile(df, torch.tensor([1e-6, 0.6, 0.7, 20.0], dtype=torch.float64))
    assert t.isfinite().all()
    assert torch.autograd.grad(t.sum(), df)[0].isfinite()
