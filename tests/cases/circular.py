"""Laws on circles and spheres, and those of the normal tails."""

from __future__ import annotations

import numpy as np
import scipy.special as sp
import scipy.stats as st
import torch
import torch.distributions as td
from scipy.interpolate import CubicHermiteSpline
from scipy.optimize import brentq

from cases.case import Case
from reparam.distributions.exponentially_modified_normal import ExponentiallyModifiedNormal
from reparam.distributions.hyperspherical_uniform import unit
from reparam.distributions.inverse_gaussian import InverseGaussian
from reparam.distributions.power_spherical import PowerSpherical
from reparam.distributions.projected_normal import ProjectedNormal
from reparam.distributions.skew_normal import SkewNormal
from reparam.distributions.von_mises_fisher import VonMisesFisher


class AngleLaw:
    """The density exp(kappa cos t) sin(t)**n on (0, pi), integrated panel by panel."""

    def __init__(self, kappa, n):
        self.kappa, self.n = kappa, n
        self.mode = np.arctan2(np.sqrt(n), np.sqrt(max(kappa, 1e-3)))
        knots = np.linspace(0, np.pi, 4001)
        pieces = self.integral(knots[:-1], knots[1:], 1)
        self.total = pieces.sum()
        self.spline = CubicHermiteSpline(knots, np.append(0.0, pieces.cumsum()) / self.total, self.density(knots) / self.total)

    def density(self, t):
        shift = self.kappa * (np.cos(t) - np.cos(self.mode))
        return np.exp(shift) * (np.sin(t) / max(np.sin(self.mode), 1e-9)) ** self.n if self.n else np.exp(shift)

    def integral(self, low, high, panels):
        nodes, weights = np.polynomial.legendre.leggauss(20)
        low, high = np.asarray(low)[..., None], np.asarray(high)[..., None]
        total = 0.0
        for k in range(panels):
            start, width = low + (high - low) * k / panels, (high - low) / panels
            total = total + (weights * self.density(start + width * (nodes + 1) / 2)).sum(-1) * width[..., 0] / 2
        return total

    def cdf(self, t):
        return self.spline(t)

    def ppf(self, p):
        return np.vectorize(lambda p: self._solve(lambda t: self.integral(0.0, t, 40), p))(p)

    def isf(self, q):
        return np.vectorize(lambda q: self._solve(lambda t: self.integral(t, np.pi, 40), q))(q)

    def _solve(self, tail, p):
        low, high = 1e-18, np.pi * (1 - 1e-16)

        def off(t):
            return np.log(max(tail(t), 1e-300) / self.total) - np.log(min(p, 1.0))

        return np.pi / 2 if off(low) * off(high) >= 0 else brentq(off, low, high, xtol=1e-16, rtol=1e-14)


class VonMisesLaw:
    """From the law of the angle to its location, in (-pi, pi) around that."""

    def __init__(self, loc, kappa):
        self.loc, self.angle = loc, AngleLaw(kappa, 0)

    def cdf(self, x):
        y = np.remainder(x - self.loc + np.pi, 2 * np.pi) - np.pi
        return (1 + np.sign(y) * self.angle.cdf(np.abs(y))) / 2

    def ppf(self, p):
        return self.loc - self.angle.isf(2 * np.asarray(p))

    def isf(self, q):
        return self.loc + self.angle.isf(2 * np.asarray(q))


class TailsLaw:
    """A law from the logs of its two tails: quantiles by bisection."""

    def ppf(self, p):
        return np.vectorize(lambda p: brentq(lambda y: self.log_tails(y)[0] - np.log(p), *self.ends, xtol=1e-15, rtol=1e-14))(p)

    def isf(self, q):
        return np.vectorize(lambda q: brentq(lambda y: self.log_tails(y)[1] - np.log(q), *self.ends, xtol=1e-15, rtol=1e-14))(q)

    def cdf(self, x):
        return np.exp(self.log_tails(x)[0])


class InverseGaussianLaw(TailsLaw):
    """Both tails in scaled error functions."""

    def __init__(self, loc, concentration):
        self.loc, self.phi, self.ends = loc, concentration / loc, (loc * 1e-9, loc * 1e9)

    def log_tails(self, x):
        s = np.sqrt(x / self.loc)
        a, b = np.sqrt(self.phi) * (s - 1 / s), np.sqrt(self.phi) * (s + 1 / s)
        lower = np.logaddexp(sp.log_ndtr(a), 2 * self.phi + sp.log_ndtr(-b))
        ratios = (sp.erfcx(np.maximum(a, 0) / np.sqrt(2)) - sp.erfcx(b / np.sqrt(2))) / 2
        upper = -(np.asarray(a) ** 2) / 2 + np.log(np.maximum(ratios, 1e-300))
        return lower, np.where(np.asarray(a) > 0, upper, np.log1p(-np.minimum(np.exp(lower), 1 - 1e-16)))


class SkewNormalLaw:
    """From Owen's function in the middle; the narrow tail by an integral."""

    rule = np.polynomial.legendre.leggauss(300)

    def __init__(self, loc, scale, a):
        self.loc, self.scale, self.a = loc, scale, a

    def cdf(self, x):
        z = (x - self.loc) / self.scale
        return sp.ndtr(z) - 2 * sp.owens_t(z, self.a)

    def _log_lower(self, z, a):
        nodes, weights = self.rule
        t = z - 15 * (nodes + 1)
        return np.log((weights * 15 * 2 * np.exp(-(t**2) / 2 + sp.log_ndtr(a * t)) / np.sqrt(2 * np.pi)).sum())

    def _quantile(self, p, a):
        return np.vectorize(lambda p: brentq(lambda z: self._log_lower(z, a) - np.log(p), -12.0, 12.0, xtol=1e-15, rtol=1e-14))(p)

    def ppf(self, p):
        return self.loc + self.scale * self._quantile(p, self.a)

    def isf(self, q):
        return self.loc - self.scale * self._quantile(q, -self.a)


UNIVARIATE: list[Case] = [
    Case("von mises", td.VonMises, (0.0, 3.0), VonMisesLaw, draws=100_000),
    Case("von mises, concentrated", td.VonMises, (0.0, 40.0), VonMisesLaw, draws=100_000),
    Case("von mises, flat", td.VonMises, (0.0, 0.05), VonMisesLaw, draws=100_000),
    Case("inverse gaussian", InverseGaussian, (1.3, 2.0), InverseGaussianLaw, draws=100_000),
    Case("inverse gaussian, heavy", InverseGaussian, (1.5, 0.1), InverseGaussianLaw, draws=100_000),
    Case("inverse gaussian, narrow", InverseGaussian, (1.5, 50.0), InverseGaussianLaw, draws=100_000),
    Case("skew normal", SkewNormal, (0.3, 1.5, 2.0), SkewNormalLaw, draws=30_000),
    Case("skew normal, negative", SkewNormal, (0.3, 1.5, -0.7), SkewNormalLaw, draws=30_000),
]


def _across(x, loc):
    """Of the direction at a right angle to loc: one component of a uniform direction, or its angle."""
    axes = torch.linalg.svd(loc.unsqueeze(0)).Vh[1:]
    u = unit(x @ axes.mT)
    half = (len(loc) - 2) / 2
    return torch.from_numpy(sp.betainc(half, half, ((1 + u[..., 0]) / 2).clamp(0, 1).numpy())) if half else u[..., 0]


def _around(angle_cdf):
    """Scores of laws on spheres: of the angle from loc in one half of the rows, of the direction across in the other."""

    def scores(x, v, k):
        loc = unit(v)
        sine = torch.linalg.vector_norm(x - (x @ loc).unsqueeze(-1) * loc, dim=-1)
        angle = torch.atan2(sine, x @ loc)
        law = torch.from_numpy(np.asarray(angle_cdf(angle.numpy(), float(k), len(loc))))
        return law if len(loc) == 2 else torch.cat([law[::2], _across(x[1::2], loc)])

    return scores


_fisher_scores = _around(lambda t, k, d: AngleLaw(k, d - 2).cdf(t))
_power_scores = _around(lambda t, k, d: sp.betainc((d - 1) / 2, (d - 1) / 2 + k, np.sin(t / 2) ** 2))


def _projected_scores(x, loc):
    """Across is uniform, and the cosine c is the law of (m + z) / sqrt((m + z)^2 + R^2): by quadrature over R."""
    m = float(torch.linalg.vector_norm(loc))
    axis = loc / m
    c = (x[::2] @ axis).clamp(-1, 1).numpy()
    nodes, weights = np.polynomial.legendre.leggauss(200)
    r = (nodes + 1) * 5  # the length across is of Rayleigh's law in three dimensions
    cot = c / np.sqrt(1 - c**2)
    law = sum(w * 5 * q * np.exp(-(q**2) / 2) * sp.ndtr(cot * q - m) for q, w in zip(r, weights, strict=True))
    return torch.cat([torch.from_numpy(law), _across(x[1::2], axis)])


def fisher(v, k):
    return VonMisesFisher(v, k, validate_args=False)


def power(v, k):
    return PowerSpherical(v, k, validate_args=False)


LOC = [0.3, -1.0, 2.0]
LONG = [0.1 * (i % 7 - 3) + 0.05 for i in range(50)]

VECTOR: list[Case] = [
    Case("von mises-fisher", fisher, (LOC, 2.0), scores=_fisher_scores, pull=False, draws=100_000),
    Case("von mises-fisher, circle", fisher, ([-1.0, 0.2], 1.5), scores=_fisher_scores, pull=False, draws=100_000),
    Case("von mises-fisher, 5", fisher, ([*LOC, 0.1, -0.5], 20.0), scores=_fisher_scores, pull=False, draws=100_000),
    Case("von mises-fisher, 50", fisher, (LONG, 30.0), scores=_fisher_scores, pull=False, draws=20_000),
    Case("power spherical", power, (LOC, 2.0), scores=_power_scores, pull=False, draws=100_000),
    Case("projected normal", ProjectedNormal, (LOC,), scores=_projected_scores, pull=False),
    Case(
        "exponentially modified normal",
        ExponentiallyModifiedNormal,
        (0.3, 1.5, 0.7),
        scores=lambda x, m, s, r: torch.from_numpy(st.exponnorm(1 / float(r * s), float(m), float(s)).cdf(x.numpy())),
        pull=False,
    ),
    Case("power spherical, circle", power, ([1.0, -0.2], 30.0), scores=_power_scores, pull=False, draws=100_000),
]

EXTREME: list[Case] = [
    Case("von mises 1e-6", td.VonMises, (0.0, 1e-6)),
    Case("von mises 1e8", td.VonMises, (0.0, 1e8)),
    *[
        Case(f"von mises-fisher, {len(v)} dimensions, {k:g}", fisher, (v, k))
        for v in ([1.0, 0.0], [0.0, 0.0, -1.0], LONG)
        for k in (1e-6, 1e8)
    ],
    Case("inverse gaussian, very heavy", InverseGaussian, (1.0, 1e-4)),
    Case("inverse gaussian, very narrow", InverseGaussian, (1.0, 1e6)),
    Case("skew normal, half", SkewNormal, (0.0, 1.0, 1e4)),
    Case("skew normal, other half", SkewNormal, (0.0, 1.0, -1e4)),
    Case("exponentially modified normal, fast", ExponentiallyModifiedNormal, (0.0, 1.0, 1e4)),
    Case("projected normal, far", ProjectedNormal, ([1e3, 0.0, 10.0],)),
    Case("power spherical 1e-6", power, (LOC, 1e-6)),
    Case("power spherical 1e6", power, (LOC, 1e6)),
]
