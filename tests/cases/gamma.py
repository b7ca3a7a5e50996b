"""Gamma and what is made of it."""

from __future__ import annotations

import warnings

import numpy as np
import scipy.special as sp
import scipy.stats as st
import torch
import torch.distributions as td

from cases.case import Case
from reparam.distributions.chi import Chi
from reparam.distributions.generalized_normal import GeneralizedNormal
from reparam.distributions.inverse_wishart import InverseWishart
from reparam.distributions.log_gamma import LogGamma
from reparam.distributions.nakagami import Nakagami


class LogGammaLaw:
    """In logarithms, by the leading term of the lower tail where `x` is below the floats."""

    def __init__(self, a, rate):
        self.a, self.shift = a, np.log(rate)

    def cdf(self, x):
        y = np.asarray(x + self.shift)
        return np.where(y < -600, np.exp(self.a * y - sp.gammaln(self.a + 1)), sp.gammainc(self.a, np.exp(np.maximum(y, -600))))

    def _solved(self, x, p):
        with np.errstate(divide="ignore"):
            small = (np.log(p) + sp.gammaln(self.a + 1)) / self.a
            return np.where(small < -40, small, np.log(x)) - self.shift

    def ppf(self, p):
        return self._solved(sp.gammaincinv(self.a, p), p)

    def isf(self, q):
        return self._solved(sp.gammainccinv(self.a, q), 1 - q)


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


def _quiet_wishart(df, factor):
    with warnings.catch_warnings(action="ignore"):  # torch expects singular samples
        return td.Wishart(df, scale_tril=factor)


def _bartlett(triangle, df):
    """Uniform values from a Wishart matrix with unit scale as its Cholesky factor: its entries are independent."""
    size = triangle.shape[-1]
    freedom = df - np.arange(size)
    squares = triangle.diagonal(dim1=-2, dim2=-1).square().numpy()
    rows, columns = np.tril_indices(size, -1)
    return torch.cat(
        [
            torch.from_numpy(st.chi2.cdf(squares, freedom)).flatten(),
            torch.special.ndtr(triangle[..., rows, columns]).flatten(),
        ]
    )


def _wishart_scores(x, df, factor):
    return _bartlett(torch.linalg.solve_triangular(factor, torch.linalg.cholesky(x), upper=False), float(df))


def _inverse_wishart_scores(x, df, factor):
    """Through the inverse matrix, by a route that the path does not take."""
    precision = torch.linalg.inv(torch.linalg.cholesky(x)) @ factor
    return _bartlett(torch.linalg.cholesky(precision.mT @ precision), float(df))


def _gamma(a, rate):
    return st.gamma(a, scale=1 / rate)


UNIVARIATE = [
    # Below 0.4, no float32 holds the quantile at 1e-15, and below 0.05, no float64; see log-gamma.
    Case("gamma, .05", td.Gamma, (0.05, 1.5), _gamma, single=False, half=False, draws=30_000),
    Case("gamma, .45", td.Gamma, (0.45, 2.5), _gamma, draws=30_000),
    Case("gamma, 1", td.Gamma, (1.0, 1.5), _gamma, draws=30_000),
    Case("gamma, 5", td.Gamma, (5.0, 0.2), _gamma, draws=30_000),
    Case("gamma, 100", td.Gamma, (100.0, 1.5), _gamma, draws=30_000),
    Case("gamma, 1e4", td.Gamma, (1e4, 1.5), _gamma, draws=30_000),
    Case("chi2", td.Chi2, (3.5,), st.chi2, draws=30_000),
    Case("inverse gamma", td.InverseGamma, (2.5, 1.3), lambda a, r: st.invgamma(a, scale=r), falling=True, draws=30_000),
    Case("log-gamma, .02", LogGamma, (0.02, 1.5), LogGammaLaw, draws=30_000),
    Case("log-gamma, 2", LogGamma, (2.0, 1.5), LogGammaLaw, draws=30_000),
    Case("nakagami", Nakagami, (0.8, 2.0), lambda m, s: st.nakagami(m, scale=np.sqrt(s)), draws=30_000),
    Case("chi", Chi, (2.5,), st.chi, draws=30_000),
    Case("generalized normal, 0.7", GeneralizedNormal, (0.3, 1.5, 0.7), GeneralizedNormalLaw, draws=30_000),
    Case("generalized normal, 4", GeneralizedNormal, (0.3, 1.5, 4.0), GeneralizedNormalLaw, draws=30_000),
]

_FACTOR = [[1.0, 0.0, 0.0], [0.5, 0.8, 0.0], [-0.3, 0.2, 2.0]]

VECTOR = [
    Case(
        "wishart",
        lambda df, factor: td.Wishart(df, scale_tril=factor.tril()),
        (4.5, _FACTOR),
        scores=_wishart_scores,
        half=False,
        draws=20_000,
    ),
    Case(
        "wishart, covariance",
        lambda df, a: td.Wishart(df, a @ a.mT),
        (3.2, _FACTOR),
        scores=_wishart_scores,
        half=False,
        single=False,
        draws=20_000,
    ),
    Case(
        "inverse wishart, few degrees of freedom",
        lambda df, factor: InverseWishart(df, scale_tril=factor.tril()),
        (3.4, _FACTOR),
        scores=_inverse_wishart_scores,
        half=False,
        single=False,
        draws=20_000,
    ),
    Case(
        "inverse wishart",
        lambda df, factor: InverseWishart(df, scale_tril=factor.tril()),
        (9.5, _FACTOR),
        scores=_inverse_wishart_scores,
        half=False,
        draws=20_000,
    ),
]

EXTREME = [
    Case("gamma 1e-6", td.Gamma, (1e-6, 1.0)),
    Case("gamma .01", td.Gamma, (0.01, 1.0)),
    Case("gamma 1e5", td.Gamma, (1e5, 1.0)),
    Case("gamma 1e8", td.Gamma, (1e8, 1.0)),
    Case("inverse gamma .01", td.InverseGamma, (0.01, 1.0), density=False),
    Case("log-gamma 1e-6", LogGamma, (1e-6, 1.0)),
    Case("log-gamma 1e-30", LogGamma, (1e-30, 1.0)),
    Case("log-gamma 1e8", LogGamma, (1e8, 1.0)),
    Case("chi 1e-3", Chi, (1e-3,)),
    Case("nakagami 1e5", Nakagami, (1e5, 1.0)),
    Case("generalized normal, nearly uniform", GeneralizedNormal, (0.0, 3.0, 1e4)),
    Case("wishart, nearly singular", _quiet_wishart, (2.01, _FACTOR)),
    Case("inverse wishart, nearly singular", lambda df, factor: InverseWishart(df, scale_tril=factor), (2.01, _FACTOR)),
    Case("generalized normal, heavy", GeneralizedNormal, (0.0, 1.0, 0.1)),
]
