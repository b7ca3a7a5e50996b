"""What a distribution promises beside its path, one function a property."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from reparam.noise import EXPONENTIAL, NORMAL, Kind
from reparam.paths import path, rsample
from reparam.paths.path import bounds
from reparam.stats import mean_test
from reparam.testing.subject import Found, Property, Subject, log_density_of_noise, unvalidated, worst

__all__ = ["DISTRIBUTION_PROPERTIES"]


def _nodes(kind: Kind) -> tuple[Tensor, Tensor]:
    """Nodes and weights of a trapezoidal rule over the whole range of the noise, exact to rounding for smooth integrands."""
    t = torch.arange(-4.2, 6.5, 0.004, dtype=torch.float64)
    if kind is EXPONENTIAL:  # the double exponential rule of Takahasi and Mori (1974) for a half line
        eps = torch.exp(t - torch.exp(-t))
        return eps, 0.004 * eps * (1 + torch.exp(-t))
    if kind is NORMAL:
        eps = torch.arange(-38.0, 38.0, 0.01, dtype=torch.float64)
        return eps, torch.full_like(eps, 0.01)
    t = torch.arange(-2.8, 2.8, 0.002, dtype=torch.float64)
    eps = torch.special.expit(math.pi * torch.sinh(t))
    return eps, 0.002 * math.pi * torch.cosh(t) * eps * torch.special.expit(-math.pi * torch.sinh(t))


class _Integral:
    """Integrals over a univariate law, through its noise: the path changes variables, and need not be right for that."""

    def __init__(self, s: Subject) -> None:
        d = s.law()
        p = path(d)
        nodes, weights = _nodes(p.noise.kind)
        grid = (-1, *[1] * len(p.noise.shape))
        eps = nodes.reshape(grid).expand(-1, *p.noise.shape).clone().requires_grad_()
        x = p.push(eps)
        (stretch,) = torch.autograd.grad(x.sum(), eps)
        self.x, self._weights = x.detach(), weights.reshape(grid)
        # Where samples are held at the ends of the floats, the variables do not change.
        self._stretch = stretch.abs()
        with unvalidated():
            self.log_density = d.log_prob(self.x)
        self._base = torch.exp(log_density_of_noise(p.noise.kind, eps.detach()))

    def of_density(self) -> Tensor:
        """Of `p(x) dx`: one, for a density."""
        # Ends without mass, where a float64 may have no room left for the sample.
        within = (self._weights * self._base > 1e-20) & (self._stretch > 0)
        return (self._weights * torch.where(within, torch.exp(self.log_density + self._stretch.log()), 0.0)).sum(0)

    def mean(self, f: Tensor) -> Tensor:
        """Of `f(x)` over the noise."""
        mass = self._weights * self._base
        # Far out, where a float64 has no room left for the law, `f` may be infinite: that much of the mass is below rounding.
        known = f.isfinite() | (mass > 1e-15)
        return (mass * torch.where(known & (mass > 0), f, 0.0)).sum(0)


def normalisation(s: Subject) -> Found:
    """The density of a univariate law integrates to one, to 1e-7."""
    if s.one_value_each() is None:
        yield None, "not a univariate law with one value of noise; see density"
        return
    total = _Integral(s).of_density()
    holds, _, at = worst(total - 1, 1e-7)
    yield holds, f"the integral of exp(log_prob) is {float(total.flatten()[at]):.9g}, wanted 1"


def cumulative(s: Subject) -> Found:
    """The law's own `cdf` is the given one, its slope is the density, and `icdf` is its inverse."""
    p = s.one_value_each()
    if p is None:
        yield None, "not a univariate law with one value of noise"
        return
    d = s.law()
    x = p.push(p.noise.draw((200,), source=s.fresh())).requires_grad_()
    try:
        u = d.cdf(x)
    except NotImplementedError:
        yield None, "the law has no cdf of its own"
        return
    if s.cdf is not None:
        given = torch.as_tensor(s.cdf(x.detach(), *s.parameters), dtype=torch.float64)
        holds, _, at = worst(u.detach() - given, 1e-7 * given + 1e-12)
        yield holds, f"cdf = {float(u.detach().flatten()[at]):.8g}, wanted {float(given.flatten()[at]):.8g}"
    (slope,) = torch.autograd.grad(u.sum(), x)
    x, u = x.detach(), u.detach()
    density = d.log_prob(x).exp()
    holds, _, at = worst(slope - density, 1e-6 * density + 1e-12)
    yield holds, f"the slope of cdf is {float(slope.flatten()[at]):.8g}, the density {float(density.flatten()[at]):.8g}"
    try:
        back = d.icdf(u)
    except NotImplementedError:
        yield None, "the law has no icdf"
        return
    # A rounded probability stands for values that differ by its spacing over the density.
    allowed = 1e-6 * x.abs() + 1e-9 + 4e-16 / density.clamp(min=1e-300)
    holds, _, at = worst(back - x, allowed)
    yield holds, f"icdf(cdf({float(x.flatten()[at]):.7g})) = {float(back.flatten()[at]):.7g}"


def moments(s: Subject) -> Found:
    """`mean`, `variance` and `entropy`: by quadrature to 1e-6 for a univariate law, else against samples."""
    d = s.law()
    univariate = s.one_value_each() is not None
    integral = _Integral(s) if univariate else None
    x = integral.x if integral is not None else rsample(d, (s.draws,), source=s.fresh())
    for name in ("mean", "variance", "entropy"):
        try:
            wanted = d.entropy() if name == "entropy" else getattr(d, name)
        except NotImplementedError:
            yield None, f"the law has no {name}"
            continue
        if not wanted.isfinite().all():
            yield None, f"the {name} is not finite: {float(wanted.flatten()[0])}"
            continue
        if name == "entropy":
            with unvalidated():
                value = -d.log_prob(x)
        else:
            value = x if name == "mean" else (x - d.mean) ** 2
        if integral is None:
            yield from _against_samples(name, value, wanted)
            continue
        found = integral.mean(value)
        # Heavy tails that reach beyond the noise of float64 are in no sum over it.
        rest = (integral.mean(torch.where(integral._base < 1e-250, value, 0.0))).abs()
        if bool((rest > 1e-8 * found.abs()).any()):
            yield None, f"the {name} has too much of its mass in a far tail for quadrature"
            continue
        holds, _, at = worst(found - wanted, 1e-6 * (wanted.abs() + integral.mean(x.abs()).clamp(max=1e6)))
        yield holds, f"{name} = {float(wanted.flatten()[at]):.8g}, by quadrature {float(found.flatten()[at]):.8g}"


def _against_samples(name: str, value: Tensor, wanted: Tensor) -> Found:
    columns, truths = value.reshape(len(value), -1), wanted.flatten()
    truths = truths.expand(columns.shape[1])
    for column, truth in zip(columns.T, truths, strict=True):
        verdict = mean_test(column, float(truth), alpha=1e-9 / len(truths), name=name)
        if not verdict:
            yield False, f"{verdict}, wanted {float(truth):.7g}, n = {len(column)}", verdict.alpha
            return
    yield True, f"{name} within noise: catches errors of {verdict.detectable:.2g}, n = {len(value)}", 1e-9


def mode(s: Subject) -> Found:
    """No sample is denser than the mode."""
    d = s.law()
    try:
        peak = d.mode
    except NotImplementedError:
        yield None, "the law has no mode"
        return
    with unvalidated():
        top, others = d.log_prob(peak), d.log_prob(rsample(d, (2000,), source=s.fresh()))
    if not top.isfinite().all():
        yield None, "the density at the mode is not finite"
        return
    above = float((others - top).max())
    yield above <= 1e-9 * (1 + float(top.abs().max())), f"a sample is denser by {max(above, 0.0):.3g} nats, wanted 0"


def outside_the_support(s: Subject) -> Found:
    """Without validation the log density outside the support is minus infinity, and of NaN it is NaN."""
    with unvalidated():
        d = s.law()
        if d.event_shape:
            yield None, "not a univariate law"
            return
        lower, upper = bounds(d.support)
        for name, bound, sign in (("below", lower, -1.0), ("above", upper, 1.0)):
            if bound is not None:
                far = torch.as_tensor(bound, dtype=torch.float64)
                x = (far + sign * (1 + far.abs())).expand(d.batch_shape)
                found = d.log_prob(x)
                yield bool((found == -math.inf).all()), f"log_prob {name} the support is {float(found.flatten()[0])}, wanted -inf"
        nothing = d.log_prob(torch.full(d.batch_shape, math.nan, dtype=torch.float64))
        yield bool(nothing.isnan().all()), f"log_prob of NaN is {float(nothing.flatten()[0])}, wanted NaN"


def divergence(s: Subject) -> Found:
    """The registered KL divergence of the law from itself is zero."""
    try:
        found = kl_divergence(s.law(), s.law())
    except NotImplementedError:
        yield None, "no KL divergence is registered"
        return
    holds, _, at = worst(found, 1e-9)
    yield holds, f"KL(p, p) = {float(found.flatten()[at]):.3g}, wanted 0"


DISTRIBUTION_PROPERTIES: tuple[Property, ...] = (normalisation, cumulative, moments, mode, outside_the_support, divergence)
