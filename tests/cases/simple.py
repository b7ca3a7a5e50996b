"""The univariate laws that torch lacks."""

from __future__ import annotations

import numpy as np
import scipy.special as sp
import scipy.stats as st

import reparam.distributions as rd
from cases.case import Case


class LogisticLaw:
    """scipy's own upper quantile loses the middle."""

    def __init__(self, loc, scale):
        self.loc, self.scale = loc, scale

    def cdf(self, x):
        return sp.expit((x - self.loc) / self.scale)

    def ppf(self, p):
        return self.loc + self.scale * sp.logit(p)

    def isf(self, q):
        return self.loc - self.scale * sp.logit(q)


class MappedLaw:
    """A rising function of another law."""

    def __init__(self, base, forward, back):
        self.base, self.forward, self.back = base, forward, back

    def cdf(self, x):
        return self.base.cdf(self.back(x))

    def ppf(self, p):
        return self.forward(self.base.ppf(p))

    def isf(self, q):
        return self.forward(self.base.isf(q))


class TriangularLaw:
    """scipy's own quantile loses the upper tail."""

    def __init__(self, low, high, peak):
        self.low, self.high, self.peak = low, high, peak
        self.width = high - low
        self.below = (peak - low) / self.width

    def cdf(self, x):
        return st.triang(self.below, self.low, self.width).cdf(x)

    def ppf(self, p):
        rising = np.sqrt(p * self.below)
        falling = (self.below + (1 - self.below) * p) / (1 + np.sqrt((1 - p) * (1 - self.below)))
        return self.low + self.width * np.where(p < self.below, rising, falling)

    def isf(self, q):
        falling = np.sqrt(q * (1 - self.below))
        rising = (1 - self.below + self.below * q) / (1 + np.sqrt((1 - q) * self.below))
        return self.high - self.width * np.where(q < 1 - self.below, falling, rising)


class MaxwellLaw:
    def __init__(self, scale):
        self.scale = scale

    def cdf(self, x):
        return sp.gammainc(1.5, (x / self.scale) ** 2 / 2)

    def ppf(self, p):
        return self.scale * np.sqrt(2 * sp.gammaincinv(1.5, p))

    def isf(self, q):
        return self.scale * np.sqrt(2 * sp.gammainccinv(1.5, q))


class FrechetLaw:
    def __init__(self, scale, concentration):
        self.scale, self.c = scale, concentration

    def cdf(self, x):
        return np.exp(-((x / self.scale) ** -self.c))

    def ppf(self, p):
        return self.scale * (-np.log(p)) ** (-1 / self.c)

    def isf(self, q):
        return self.scale * (-np.log1p(-q)) ** (-1 / self.c)


class ExtremeValueLaw:
    def __init__(self, loc, scale, concentration):
        self.loc, self.scale, self.c = loc, scale, concentration

    def cdf(self, x):
        return st.genextreme(-self.c, self.loc, self.scale).cdf(x)

    def _value(self, g):
        return self.loc + self.scale * (g if self.c == 0 else np.expm1(self.c * g) / self.c)

    def ppf(self, p):
        return self._value(-np.log(-np.log(p)))

    def isf(self, q):
        return self._value(-np.log(-np.log1p(-q)))


class MoyalLaw:
    def __init__(self, loc, scale):
        self.loc, self.scale = loc, scale

    def cdf(self, x):
        return sp.erfc(np.exp((self.loc - x) / self.scale / 2) / np.sqrt(2))

    def ppf(self, p):
        return self.loc - 2 * self.scale * np.log(-sp.ndtri(p / 2))

    def isf(self, q):
        return self.loc - 2 * self.scale * np.log(np.sqrt(2) * sp.erfinv(q))


class SecantLaw:
    def __init__(self, loc, scale):
        self.loc, self.scale = loc, scale

    def cdf(self, x):
        return np.arctan(np.exp((x - self.loc) / self.scale)) * 2 / np.pi

    def ppf(self, p):
        return self.loc + self.scale * np.log(np.tan(np.pi / 2 * p))

    def isf(self, q):
        return self.loc - self.scale * np.log(np.tan(np.pi / 2 * q))


class LomaxLaw:
    def __init__(self, scale, concentration):
        self.scale, self.c = scale, concentration

    def cdf(self, x):
        return -np.expm1(-self.c * np.log1p(x / self.scale))

    def ppf(self, p):
        return self.scale * np.expm1(-np.log1p(-p) / self.c)

    def isf(self, q):
        return self.scale * np.expm1(-np.log(q) / self.c)


def sinh_arcsinh(loc, scale, skewness, tailweight):
    return MappedLaw(
        st.norm(),
        lambda z: loc + scale * np.sinh((np.arcsinh(z) + skewness) * tailweight),
        lambda x: np.sinh(np.arcsinh((x - loc) / scale) / tailweight - skewness),
    )


def johnson_su(gamma, delta, loc, scale):
    return MappedLaw(
        st.norm(),
        lambda z: loc + scale * np.sinh((z - gamma) / delta),
        lambda x: gamma + delta * np.arcsinh((x - loc) / scale),
    )


UNIVARIATE = [
    Case("logistic", rd.Logistic, (0.4, 1.3), LogisticLaw),
    Case("log-logistic", rd.LogLogistic, (1.5, 2.5), lambda s, c: MappedLaw(LogisticLaw(np.log(s), 1 / c), np.exp, np.log)),
    Case("asymmetric laplace", rd.AsymmetricLaplace, (0.4, 1.3, 0.6), lambda m, s, k: st.laplace_asymmetric(k, m, s)),
    Case("asymmetric laplace, long below", rd.AsymmetricLaplace, (0.4, 1.3, 3.0), lambda m, s, k: st.laplace_asymmetric(k, m, s)),
    Case("triangular", rd.Triangular, (-1.5, 4.0, 0.5), TriangularLaw),
    Case("triangular, late", rd.Triangular, (-1.5, 4.0, 3.9), TriangularLaw),
    Case("rayleigh", rd.Rayleigh, (1.7,), lambda s: st.rayleigh(scale=s)),
    Case("maxwell", rd.Maxwell, (1.7,), MaxwellLaw, draws=100_000),
    Case("gompertz", rd.Gompertz, (0.7, 1.5), lambda c, b: st.gompertz(c, scale=1 / b)),
    Case("gompertz, young", rd.Gompertz, (1e-4, 0.3), lambda c, b: st.gompertz(c, scale=1 / b)),
    Case("sinh-arcsinh", rd.SinhArcsinh, (0.4, 1.3, 0.5, 1.4), sinh_arcsinh),
    Case("sinh-arcsinh, light", rd.SinhArcsinh, (0.4, 1.3, -0.8, 0.5), sinh_arcsinh),
    Case("johnson su", rd.JohnsonSU, (0.7, 1.4, 0.3, 1.2), johnson_su),
    Case("logit-normal", rd.LogitNormal, (0.4, 1.3), lambda m, s: MappedLaw(st.norm(m, s), sp.expit, sp.logit)),
    Case("tanh-normal", rd.TanhNormal, (0.3, 0.6), lambda m, s: MappedLaw(st.norm(m, s), np.tanh, np.arctanh)),
    Case("frechet", rd.Frechet, (1.5, 2.5), FrechetLaw),
    Case("extreme value, heavy", rd.GeneralizedExtremeValue, (0.3, 1.2, 0.4), ExtremeValueLaw),
    Case("extreme value, bounded", rd.GeneralizedExtremeValue, (0.3, 1.2, -0.4), ExtremeValueLaw),
    Case("extreme value, zero", rd.GeneralizedExtremeValue, (0.3, 1.2, 0.0), ExtremeValueLaw),
    Case("extreme value, nearly zero", rd.GeneralizedExtremeValue, (0.3, 1.2, 1e-9), ExtremeValueLaw),
    Case("moyal", rd.Moyal, (0.4, 1.3), MoyalLaw),
    Case("hyperbolic secant", rd.HyperbolicSecant, (0.4, 1.3), SecantLaw),
    Case("lomax", rd.Lomax, (1.5, 2.5), LomaxLaw),
]

VECTOR: list[Case] = []

EXTREME = [
    Case("logistic, narrow", rd.Logistic, (1e6, 1e-3)),
    Case("log-logistic, flat", rd.LogLogistic, (1.0, 0.02)),
    Case("asymmetric laplace, one-sided", rd.AsymmetricLaplace, (0.0, 1.0, 1e4)),
    Case("triangular, peak at the low end", rd.Triangular, (1.0, 2.0, 1.0)),
    Case("triangular, peak at the high end", rd.Triangular, (-1.0, 0.0, 0.0)),
    Case("rayleigh, wide", rd.Rayleigh, (1e30,)),
    Case("maxwell, wide", rd.Maxwell, (1e30,)),
    Case("gompertz, very young", rd.Gompertz, (1e-20, 1.0)),
    Case("gompertz, old", rd.Gompertz, (1e10, 1.0)),
    Case("sinh-arcsinh, heavy", rd.SinhArcsinh, (0.0, 1.0, 0.5, 10.0)),
    Case("sinh-arcsinh, light", rd.SinhArcsinh, (0.0, 1.0, 0.5, 0.05)),
    Case("johnson su, heavy", rd.JohnsonSU, (0.5, 0.1, 0.0, 1.0)),
    Case("logit-normal, wide", rd.LogitNormal, (0.0, 20.0)),
    Case("logit-normal, high", rd.LogitNormal, (12.0, 2.0)),
    Case("tanh-normal, saturated", rd.TanhNormal, (0.0, 5.0)),
    Case("tanh-normal, to one side", rd.TanhNormal, (6.0, 1.0)),
    Case("frechet, flat", rd.Frechet, (1.0, 0.05)),
    Case("frechet, steep", rd.Frechet, (1.3, 1e6)),
    Case("extreme value, very heavy", rd.GeneralizedExtremeValue, (0.0, 1.0, 10.0)),
    Case("extreme value, bounded", rd.GeneralizedExtremeValue, (0.0, 1.0, -2.0)),
    Case("moyal, narrow", rd.Moyal, (1e3, 1e-3)),
    Case("hyperbolic secant, wide", rd.HyperbolicSecant, (0.0, 1e30)),
    Case("lomax, flat", rd.Lomax, (1.0, 0.02)),
    Case("lomax, thin", rd.Lomax, (1.0, 1e6)),
]
