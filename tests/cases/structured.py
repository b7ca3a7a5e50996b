"""Truncated, matrix-valued and coupled laws that torch lacks."""

from __future__ import annotations

import math

import mpmath as mp
import numpy as np
import scipy.special as sp
import scipy.stats as st
import torch
import torch.distributions as td

from cases.case import Case
from cases.explicit import FACTOR
from reparam.distributions.gaussian_copula import GaussianCopula
from reparam.distributions.matrix_normal import MatrixNormal
from reparam.distributions.truncated import Truncated
from reparam.distributions.truncated_normal import TruncatedNormal


class TruncatedLaw:
    """A scipy law in a window, for windows that hold some per cent of it."""

    def __init__(self, base, low=-np.inf, high=np.inf):
        self.base = base
        self.ends = base.cdf(low), base.cdf(high), base.sf(low), base.sf(high)

    def cdf(self, x):
        lower, upper, _, _ = self.ends
        return (self.base.cdf(x) - lower) / (upper - lower)

    def ppf(self, p):
        lower, upper, over, beyond = self.ends
        below, above = lower + p * (upper - lower), over - p * (over - beyond)
        return np.where(below < 0.5, self.base.ppf(below), self.base.isf(above))

    def isf(self, q):
        lower, upper, over, beyond = self.ends
        below, above = upper - q * (upper - lower), beyond + q * (over - beyond)
        return np.where(below < 0.5, self.base.ppf(below), self.base.isf(above))


class TruncatedNormalLaw:
    """Far out as well: logarithms for the distribution function, many digits for the quantile."""

    def __init__(self, loc, scale, low=-np.inf, high=np.inf):
        self.loc, self.scale, self.low, self.high = loc, scale, low, high
        self.flip = low + high < 2 * loc

    def cdf(self, x):
        z, a, b = ((v - self.loc) / self.scale for v in (x, self.low, self.high))
        if self.flip:
            return np.exp(sp.log_ndtr(z) - sp.log_ndtr(b)) * self._rest(a, z) / self._rest(a, b)
        return self._rest(-z, -a) / self._rest(-b, -a)

    @staticmethod
    def _rest(a, b):
        return -np.expm1(sp.log_ndtr(a) - sp.log_ndtr(b))

    def _at(self, p, upper):
        with mp.workdps(40):
            loc, scale = mp.mpf(self.loc), mp.mpf(self.scale)
            a, b = (mp.mpf(v) for v in (self.low, self.high))
            sign = -1 if self.flip else 1
            near, far = sorted(sign * (v - loc) / scale for v in (a, b))

            def tail(z):
                return mp.erfc(z / mp.sqrt(2)) / 2

            whole = tail(near) - tail(far)
            p = mp.mpf(float(p))
            beyond = p if upper != self.flip else 1 - p
            target = tail(far) + beyond * whole
            z = near if near > 0 else mp.mpf(0)
            for _ in range(200):  # the hazard is convex: from the left Newton's steps in the log of the tail do not overshoot twice
                step = tail(z) / mp.npdf(z) * mp.log(tail(z) / target)
                z += step
                if abs(step) < mp.mpf(10) ** -30 * max(abs(z - near), mp.mpf(10) ** -30):
                    break
            return float(loc + sign * scale * z)

    def ppf(self, p):
        return np.vectorize(lambda p: self._at(p, False), otypes=[float])(p)

    def isf(self, p):
        return np.vectorize(lambda p: self._at(p, True), otypes=[float])(p)


UNIVARIATE: list[Case] = [
    Case("truncated normal", TruncatedNormal, (0.3, 1.2, -1.0, 2.0), TruncatedNormalLaw),
    Case("truncated normal, to the right", TruncatedNormal, (-0.5, 0.8, 0.5, 1.5), TruncatedNormalLaw),
    Case("truncated normal, to the left", TruncatedNormal, (0.5, 0.8, -2.0, -0.5), TruncatedNormalLaw),
    Case(
        "truncated normal, from zero",
        lambda m, s: TruncatedNormal(m, s, low=0.0),
        (-0.5, 1.5),
        lambda m, s: TruncatedNormalLaw(m, s, 0.0),
    ),
    Case(
        "truncated normal, below",
        lambda m, s, b: TruncatedNormal(m, s, high=b),
        (0.5, 1.5, 1.0),
        lambda m, s, b: TruncatedNormalLaw(m, s, high=b),
    ),
    Case(
        "truncated normal, forty deviations",
        lambda m, s, a: TruncatedNormal(m, s, a),
        (0.5, 1.0, 40.5),
        TruncatedNormalLaw,
        single=False,
    ),
    Case(
        "truncated normal, positive at minus forty",
        lambda m, s: TruncatedNormal(m, s, 0.0),
        (-40.0, 1.0),
        lambda m, s: TruncatedNormalLaw(m, s, 0.0),
    ),
    Case(
        "truncated, gumbel",
        lambda m, s, a, b: Truncated(td.Gumbel(m, s), a, b),
        (0.5, 2.0, -1.0, 4.0),
        lambda m, s, a, b: TruncatedLaw(st.gumbel_r(m, s), a, b),
    ),
    Case(
        "truncated, laplace",
        lambda m, s, a: Truncated(td.Laplace(m, s), low=a),
        (0.5, 2.0, -1.0),
        lambda m, s, a: TruncatedLaw(st.laplace(m, s), a),
    ),
    Case(
        "truncated, weibull",
        lambda s, k, b: Truncated(td.Weibull(s, k), high=b),
        (1.5, 0.7, 2.0),
        lambda s, k, b: TruncatedLaw(st.weibull_min(k, scale=s), 0.0, b),
    ),
]


def _rows_of_length_one(factor):
    return torch.nn.functional.normalize(factor.tril(), dim=-1)


def _matrix_scores(x, loc, rows, columns):
    z = torch.linalg.solve_triangular(rows, x - loc, upper=False)
    return torch.special.ndtr(torch.linalg.solve_triangular(columns.mT, z, upper=True, left=False)).flatten()


def _copula_scores(uniforms, factor):
    """From the ranks of the components."""
    z = torch.special.ndtri(uniforms).unsqueeze(-1)
    return torch.special.ndtr(torch.linalg.solve_triangular(_rows_of_length_one(factor), z, upper=False)).flatten()


def _mixed_copula(m, s, r, f):
    return GaussianCopula([td.Gumbel(m, s), td.Exponential(r), td.Normal(m, r)], scale_tril=_rows_of_length_one(f))


def _mixed_scores(x, m, s, r, f):
    a, b, c = x.unbind(-1)
    return _copula_scores(torch.stack([td.Gumbel(m, s).cdf(a), td.Exponential(r).cdf(b), td.Normal(m, r).cdf(c)], -1), f)


COLUMNS = [[0.7, 0.0], [-0.4, 1.3]]
MATRIX = [[0.3, -1.0], [2.0, 0.0], [-0.5, 4.0]]

# Not in half precision: the rows of the factor are made of length one before the path can widen them.
VECTOR: list[Case] = [
    Case(
        "matrix normal, factors",
        lambda m, a, b: MatrixNormal(m, a.tril(), b.tril()),
        (MATRIX, FACTOR, COLUMNS),
        scores=_matrix_scores,
    ),
    Case(
        "matrix normal, covariances",
        lambda m, a, b: MatrixNormal(m, row_covariance=a @ a.mT, column_covariance=b @ b.mT),
        (MATRIX, FACTOR, COLUMNS),
        scores=_matrix_scores,
    ),
    Case(
        "gaussian copula, gumbel",
        lambda m, s, f: GaussianCopula(td.Gumbel(m, s), scale_tril=_rows_of_length_one(f)),
        ([0.3, -1.0, 2.0], [1.0, 0.5, 2.0], FACTOR),
        scores=lambda x, m, s, f: _copula_scores(td.Gumbel(m, s).cdf(x), f),
        half=False,
    ),
    Case("gaussian copula, three laws", _mixed_copula, (0.5, 2.0, 1.5, FACTOR), scores=_mixed_scores, half=False),
    Case(
        "gaussian copula, correlation",
        lambda m, s, a: GaussianCopula(td.Laplace(m, s), _rows_of_length_one(a) @ _rows_of_length_one(a).mT),
        ([0.3, -1.0, 2.0], [1.0, 0.5, 2.0], FACTOR),
        scores=lambda x, m, s, f: _copula_scores(td.Laplace(m, s).cdf(x), f),
    ),
]

EXTREME: list[Case] = [
    *[
        Case(f"truncated normal in ({a:g}, {b:g})", lambda m, s, a=a, b=b: TruncatedNormal(m, s, a, b), (0.0, 1.0))
        for a, b in [(40.0, 41.0), (-41.0, -40.0), (0.0, 1e-8), (-1e-8, 1e-8), (-1e5, 1e5), (38.0, 38.001), (1e4, 1e5)]
    ],
    Case("truncated normal, positive at -1e6", lambda m, s: TruncatedNormal(m, s, 0.0), (-1e6, 1.0)),
    Case("truncated normal, all of it", lambda m, s: TruncatedNormal(m, s, -math.inf, math.inf), (0.0, 1.0)),
    Case("truncated normal, flat", TruncatedNormal, (0.0, 1e3, -1.0, 2.0)),
    Case("truncated, cauchy far out", lambda m, s, a: Truncated(td.Cauchy(m, s), a), (0.0, 1.0, 1e10)),
    Case("truncated, gumbel far out", lambda m, s, a, b: Truncated(td.Gumbel(m, s), a, b), (0.0, 1.0, 50.0, 51.0)),
    Case("truncated, exponential far out", lambda r, a: Truncated(td.Exponential(r), a), (1.0, 200.0)),
    Case(
        "matrix normal, ill-conditioned",
        lambda m, a, b: MatrixNormal(m, a.tril(), b.tril()),
        (MATRIX, [[1e-6, 0.0, 0.0], [1.0, 1e-3, 0.0], [5.0, 1e3, 1e6]], COLUMNS),
    ),
    Case(
        "gaussian copula, nearly tied",
        lambda r, k: GaussianCopula(td.Weibull(r, k), torch.tensor([[1.0, 0.9999], [0.9999, 1.0]])),
        ([1.0, 3.0], [0.1, 5.0]),
    ),
]
