"""Gamma and what is made of it."""

from __future__ import annotations

import numpy as np
import scipy.special as sp
import scipy.stats as st
import torch.distributions as td

from cases.case import Case
from reparam.distributions.chi import Chi
from reparam.distributions.generalized_normal import GeneralizedNormal
from reparam.distributions.log_gamma import LogGamma
from reparam.distributions.nakagami import Nakagami


class LogGammaLaw:
    """In logarithms, by the leading term of the lower tail where `x` is below the floats."""

    def __init__(self, a, rate):
        self.a, self.shift = a, np.log(rate)

    def cdf(self, x):
        y = np.asarray(x + self.shift)
        return np.where(y < -600, np.exp(self.a * y - sp.gammaln(self.a + 1)), sp.gammainc(self.a, np.exp(np.maximum(y, -600))))

    def ppf(self, p):
        with np.errstate(divide="ignore"):
            small = (np.log(p) + sp.gammaln(self.a + 1)) / self.a
            return np.where(small < -40, small, np.log(sp.gammaincinv(self.a, p))) - self.shift

    def isf(self, q):
        return np.log(sp.gammainccinv(self.a, q)) - self.shift


class GeneralizedNormalLaw:
    """scipy's own quantile loses the middle."""

    def __init__(self, loc, scale, power):
        self.loc, self.scale, self.power = loc, scale, power

    def cdf(self, x):
        return st.gennorm.cdf(x, self.power, self.loc, self.scale)

    def ppf(self, p):
        return self.loc - self.scale * sp.gammainccinv(1 / self.power, 2 * p) ** (1 / self.power)

    def isf(self, q):
        above = self.scale * sp.gammainccinv(1 / self.power, np.minimum(2 * q, 1)) ** (1 / self.power)
        below = self.scale * sp.gammaincinv(1 / self.power, np.maximum(2 * q - 1, 0)) ** (1 / self.power)
        return self.loc + np.where(q < 0.5, above, -below)


def _gamma(a, rate):
    return st.gamma(a, scale=1 / rate)


UNIVARIATE = [
    # Below 0.1, no float32 holds the lower quantiles.
    Case("gamma, .01", td.Gamma, (0.01, 1.5), _gamma, single=False, half=False, draws=30_000),
    Case("gamma, .3", td.Gamma, (0.3, 2.5), _gamma, draws=30_000),
    Case("gamma, 1", td.Gamma, (1.0, 1.5), _gamma, draws=30_000),
    Case("gamma, 5", td.Gamma, (5.0, 0.2), _gamma, draws=30_000),
    Case("gamma, 100", td.Gamma, (100.0, 1.5), _gamma, draws=30_000),
    Case("gamma, 1e4", td.Gamma, (1e4, 1.5), _gamma, draws=30_000),
    Case("chi2", td.Chi2, (3.5,), st.chi2, draws=30_000),
    Case("inverse gamma", td.InverseGamma, (2.5, 1.3), lambda a, r: st.invgamma(a, scale=r), falling=True, draws=30_000),
    Case("log-gamma, 1e-3", LogGamma, (1e-3, 1.5), LogGammaLaw, draws=30_000),
    Case("log-gamma, 2", LogGamma, (2.0, 1.5), LogGammaLaw, draws=30_000),
    Case("nakagami", Nakagami, (0.8, 2.0), lambda m, s: st.nakagami(m, scale=np.sqrt(s)), draws=30_000),
    Case("chi", Chi, (2.5,), st.chi, draws=30_000),
    Case("generalized normal, 0.7", GeneralizedNormal, (0.3, 1.5, 0.7), GeneralizedNormalLaw, draws=30_000),
    Case("generalized normal, 4", GeneralizedNormal, (0.3, 1.5, 4.0), GeneralizedNormalLaw, draws=30_000),
]

VECTOR: list[Case] = []

EXTREME = [
    Case("gamma 1e-6", td.Gamma, (1e-6, 1.0)),
    Case("gamma .01", td.Gamma, (0.01, 1.0)),
    Case("gamma 1e5", td.Gamma, (1e5, 1.0)),
    Case("gamma 1e8", td.Gamma, (1e8, 1.0)),
    Case("inverse gamma .01", td.InverseGamma, (0.01, 1.0)),
    Case("log-gamma 1e-6", LogGamma, (1e-6, 1.0)),
    Case("log-gamma 1e-30", LogGamma, (1e-30, 1.0)),
    Case("log-gamma 1e8", LogGamma, (1e8, 1.0)),
    Case("chi 1e-3", Chi, (1e-3,)),
    Case("nakagami 1e5", Nakagami, (1e5, 1.0)),
    Case("generalized normal, nearly uniform", GeneralizedNormal, (0.0, 1.0, 1e4)),
    Case("generalized normal, heavy", GeneralizedNormal, (0.0, 1.0, 0.1)),
]
