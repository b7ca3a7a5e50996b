"""The incomplete gamma functions, their derivatives and quantile, against 120-digit arithmetic (oracle/gamma.py)."""

import importlib.util
import json
from pathlib import Path

import mpmath as mp
import pytest
import torch

from reparam.special.gamma import (
    gammainc,
    gammaincc,
    log_gamma_density,
    log_gamma_hazard,
    log_gamma_quantile,
    log_gamma_slope,
    log_gammainc,
    log_gammaincc,
)

ORACLE = Path(__file__).parent / "oracle" / "gamma.py"
ROWS = json.loads(ORACLE.with_suffix(".json").read_text())
EPS = 2.0**-53


def table(dtype=torch.float64):
    """The columns, where the upper tail is not one to the last digit."""
    rows = torch.tensor([r for r in ROWS if r[3] != 0], dtype=torch.float64)
    return rows.T


def oracle():
    spec = importlib.util.spec_from_file_location("oracle_gamma", ORACLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def worst(found, truth, conditioning=0.0):
    """The largest relative error, net of what an error in the last place of the arguments makes."""
    return float(((found - truth).abs() - 8 * EPS * conditioning).clamp(min=0).div(truth.abs()).max())


def gradients(f, a, y):
    a, y = a.clone().requires_grad_(), y.clone().requires_grad_()
    value = f(a, y)
    return value.detach(), *torch.autograd.grad(value.sum(), (a, y))


def recomputed(rows):
    module = oracle()
    for expected in rows:
        for found, truth in zip(module.row(*expected[:2]), expected, strict=True):
            assert mp.almosteq(found, truth, rel_eps=1e-14)


def test_the_table_is_what_its_script_computes():
    recomputed(ROWS[::40])


@pytest.mark.slow
def test_all_of_the_table_is_what_its_script_computes():
    recomputed(ROWS)


def test_tails():
    a, y, log_p, log_q, *_ = table()
    upper, lower = -log_gamma_hazard(a, y), log_gammainc(a, y.exp())
    _, by_shape, by_value = gradients(log_gamma_hazard, a, y)
    conditioning = y.abs() * by_value.abs() + a * by_shape.abs()
    assert worst(upper, log_q, conditioning) < 1e-11
    held = y > -700  # where x is a float, of which the log is y but for an ulp
    x = y.exp()
    assert worst(log_gammaincc(a, x)[held], log_q[held], conditioning[held]) < 1e-11
    ratio = (log_q - log_p).exp()
    assert worst(lower[held], log_p[held], (conditioning * ratio)[held]) < 1e-10
    assert worst(gammainc(a, x)[held], log_p.exp()[held], (conditioning * ratio * log_p.exp())[held]) < 1e-11
    assert worst(gammaincc(a, x)[held], log_q.exp()[held], (conditioning * log_q.exp())[held]) < 1e-11


def test_slope_in_the_shape():
    a, y, _, _, slope, in_shape, in_value = table()
    found, found_in_shape, found_in_value = gradients(log_gamma_slope, a, y)
    assert (found > 0).all()
    assert worst(found, slope, y.abs() * in_value.abs() + a * in_shape.abs()) < 1e-11
    # Its own derivatives cancel, the more so the narrower or the longer the law.
    assert worst(found_in_shape, in_shape, (slope / a + y.abs()) * 1e3) < 1e-8
    assert worst(found_in_value, in_value, (slope * y.abs().clamp(min=1)) * 1e3) < 1e-8


def test_derivatives_of_the_tails():
    a, y, log_p, log_q, slope, *_ = table()
    log_density = log_gamma_density(a, y)
    for f, sign, tail in ((log_gamma_hazard, 1, log_q), (lambda a, y: log_gammainc(a, y.exp()), 1, log_p)):
        keep = y > -700
        value, in_shape, in_value = (v[keep] for v in gradients(f, a, y))
        rate = (log_density - tail)[keep].exp()
        loose = rate * (a * y.abs() + a * slope + (a - y.exp()).abs() * y.abs() + 20)[keep]
        assert worst(in_value, sign * rate, loose) < 1e-10
        assert worst(-in_shape, sign * rate * slope[keep], loose * slope[keep]) < 1e-10
        assert value.isfinite().all()


def test_quantile():
    a, y, _, log_q, slope, *_ = table()
    hazard = -log_q
    found, in_shape, in_hazard = gradients(log_gamma_quantile, a, hazard)
    # An error in the last place of the hazard moves the quantile by so much.
    moved = (log_q - log_gamma_density(a, y)).exp() * hazard
    assert worst(found, y, moved + y.abs() + a * slope) < 1e-10
    assert worst(in_shape, slope, slope * (1 + (a * moved) + a.sqrt())) < 1e-8
    assert worst(in_hazard * hazard, moved, moved * (2 + a * y.abs())) < 1e-8


def test_quantile_inverts_the_hazard():
    a = torch.logspace(-6, 8, 57, dtype=torch.float64).unsqueeze(-1)
    hazard = torch.cat([torch.logspace(-30, 2, 65, dtype=torch.float64), torch.tensor([0.6931, 0.6932, 300.0, 690.0])])
    y = log_gamma_quantile(a, hazard)
    assert y.isfinite().all()
    assert (y[:, 1:65] > y[:, :64]).all()
    back, _, slope = gradients(log_gamma_hazard, a.expand_as(y), y)
    # In units of what an error in the last place of the quantile or of log x - log a makes.
    assert ((back - hazard).abs() <= 64 * EPS * (hazard + slope * y.abs().clamp(min=1.0))).all()


@pytest.mark.parametrize("shape", [1e-6, 1e-4, 0.01, 0.3, 0.9, 1.0, 1.3, 1.4427, 2.0, 3.0, 8.0, 9.99, 10.01, 50.0, 1e4])
def test_formulas_agree_where_they_meet(shape):
    """Values and derivatives to second order, on both sides of every switch between the formulas."""
    a = torch.tensor(shape, dtype=torch.float64)
    for switch in (torch.digamma(a), torch.digamma(a + 1).clamp(max=torch.tensor(2.0).double().log()), torch.log(a)):
        jets = []
        for side in (-1, 1):
            y = switch + side * 1e-9 * switch.abs().clamp(min=1) / (1 + a)
            x, b = y.clone().requires_grad_(), a.clone().requires_grad_()
            h, g = log_gamma_hazard(b, x), log_gamma_slope(b, x)
            first = torch.autograd.grad(h, (b, x), create_graph=True)
            second = torch.autograd.grad(first[1], (b, x), retain_graph=True)
            bends = torch.autograd.grad(g, (b, x))
            jets.append(torch.stack([h, *first, *second, g, *bends]).detach())
        below, above = jets
        # They differ by their own next derivatives, over so short a way.
        assert torch.allclose(below, above, rtol=1e-7, atol=1e-300), (below, above)


def test_stirling_takes_over_smoothly():
    a = torch.tensor([10.0 - 1e-12, 10.0 + 1e-12], dtype=torch.float64)
    for y in (-3.0, 0.0, 2.3, 3.0):
        below, above = log_gamma_density(a, torch.tensor(y, dtype=torch.float64))
        assert abs(float(below - above)) < 2e-11 * max(1.0, abs(y))


def test_far_from_the_middle():
    a, x = torch.tensor([1000.0, 0.1, 0.1, 1e8], dtype=torch.float64), torch.tensor([1.0, 1e4, 1e300, 1e7], dtype=torch.float64)
    assert torch.allclose(log_gammainc(a[:1], x[:1]), torch.tensor(-5913.127178988828, dtype=torch.float64), rtol=1e-13)
    # Q = x^(a-1) exp(-x) (1 + (a-1)/x + ...) / Gamma(a)
    q = -x[1] - 0.9 * x[1].log() - torch.lgamma(a[1]) + torch.log1p(-0.9 / x[1] + 0.9 * 1.9 / x[1] ** 2)
    assert torch.allclose(log_gammaincc(a[1], x[1]), q, rtol=1e-14)
    assert torch.allclose(log_gammaincc(a[2], x[2]), -x[2], rtol=1e-12)
    for f in (gammainc, gammaincc, log_gammainc, log_gammaincc):
        b, z = a.clone().requires_grad_(), x.clone().requires_grad_()
        value = f(b, z)
        assert not value.isnan().any()
        for slope in torch.autograd.grad(value.sum(), (b, z)):
            assert not slope.isnan().any()


def test_ends():
    x = torch.tensor([0.0, torch.inf, torch.nan])
    a = torch.tensor(2.5, requires_grad=True)
    assert gammainc(a, x)[:2].tolist() == [0.0, 1.0]
    assert gammaincc(a, x)[:2].tolist() == [1.0, 0.0]
    assert log_gammainc(a, x)[:2].tolist() == [-torch.inf, 0.0]
    assert log_gammaincc(a, x)[:2].tolist() == [0.0, -torch.inf]
    assert all(f(a, x)[2].isnan() for f in (gammainc, gammaincc, log_gammainc, log_gammaincc))
    assert torch.autograd.grad(gammainc(a, x[:2]).sum(), a)[0] == 0
    assert gammainc(2.5, x[:0]).shape == (0,)
    assert gammainc(torch.tensor(2), torch.tensor(1)).dtype == torch.get_default_dtype()


def test_single_precision_is_rounded_once():
    a, y, *_ = table()
    a, y = a.float(), y.float().clamp(-80, 80)
    for f in (log_gamma_hazard, log_gamma_slope, log_gamma_density):
        wide = f(a.double(), y.double())
        assert f(a, y).dtype == torch.float32
        assert torch.equal(f(a, y), wide.float())


def test_every_derivative_by_differences():
    a = torch.tensor([0.02, 0.6, 1.5, 4.0, 30.0], dtype=torch.float64, requires_grad=True)
    y = torch.tensor([-20.0, 0.4, -1.0, 2.0, 3.3], dtype=torch.float64, requires_grad=True)
    hazard = torch.tensor([1.0, 0.01, 0.5, 3.0, 20.0], dtype=torch.float64, requires_grad=True)
    for f in (log_gamma_slope, log_gamma_hazard, log_gamma_density):
        assert torch.autograd.gradcheck(f, (a, y), check_forward_ad=True, eps=1e-7, rtol=1e-5)
        assert torch.autograd.gradgradcheck(f, (a, y), eps=1e-7, rtol=1e-5)
    for f in (gammainc, gammaincc, log_gammainc, log_gammaincc):
        assert torch.autograd.gradgradcheck(lambda a, y, f=f: f(a, y.exp()), (a, y), eps=1e-7, rtol=1e-5)
    assert torch.autograd.gradgradcheck(log_gamma_quantile, (a, hazard), eps=1e-7, rtol=1e-5)

    def third(a, y):
        (first,) = torch.autograd.grad(log_gamma_slope(a, y).sum(), a, create_graph=True)
        return torch.autograd.grad(first.sum(), a, create_graph=True)[0]

    assert torch.autograd.gradcheck(third, (a, y), eps=1e-7, rtol=1e-4)


def test_transforms():
    a = torch.tensor([0.3, 2.0, 40.0], dtype=torch.float64)
    y = torch.tensor([-3.0, 1.0, 3.8], dtype=torch.float64)
    for f in (log_gamma_slope, log_gamma_hazard, lambda a, y: log_gamma_quantile(a, y.exp())):
        first = torch.func.grad(f)
        assert torch.allclose(torch.func.vmap(first)(a, y), gradients(f, a, y)[1])
        seconds = torch.stack([torch.func.grad(first)(*pair) for pair in zip(a, y, strict=True)])
        assert torch.allclose(torch.func.vmap(torch.func.hessian(f))(a, y), seconds)


@pytest.mark.filterwarnings("default")  # torch's compiler warns of its own doings
def test_compiles():
    a, y = torch.tensor([0.3, 2.0, 40.0], requires_grad=True), torch.tensor([-3.0, 1.0, 3.8])
    compiled = torch.compile(log_gamma_slope, fullgraph=True, backend="aot_eager")(a, y)
    assert torch.allclose(compiled, log_gamma_slope(a, y))
    assert torch.allclose(
        torch.autograd.grad(compiled.sum(), a)[0], torch.autograd.grad(log_gamma_slope(a, y).sum(), a)[0], rtol=1e-4
    )
