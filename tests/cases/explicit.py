"""Laws that scale, shift, invert or relax: the explicit paths."""

from __future__ import annotations

import numpy as np
import scipy.special as sp
import scipy.stats as st
import torch
import torch.distributions as td
from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

from cases.case import Case


class HalfNormalLaw:
    """scipy's own quantile loses the lower tail."""

    def __init__(self, scale):
        self.scale = scale

    def cdf(self, x):
        return sp.erf(x / self.scale / np.sqrt(2))

    def ppf(self, p):
        return self.scale * np.sqrt(2) * sp.erfinv(p)

    def isf(self, q):
        return -self.scale * sp.ndtri(q / 2)


class KumaraswamyLaw:
    def __init__(self, a, b):
        self.a, self.b = a, b

    def cdf(self, x):
        return -np.expm1(self.b * np.log1p(-(x**self.a)))

    def ppf(self, p):
        return np.exp(np.log(-np.expm1(np.log1p(-p) / self.b)) / self.a)

    def isf(self, q):
        return np.exp(np.log(-np.expm1(np.log(q) / self.b)) / self.a)


class ContinuousBernoulliLaw:
    """Density proportional to exp(l x) on the unit interval."""

    def __init__(self, logits):
        self.l = logits

    def cdf(self, x):
        return x if self.l == 0 else np.expm1(self.l * x) / np.expm1(self.l)

    def ppf(self, p):
        return p if self.l == 0 else np.log1p(p * np.expm1(self.l)) / self.l

    def isf(self, q):
        if abs(self.l) < 1:
            return self.ppf(1 - q)
        return np.log(np.exp(self.l) - q * np.expm1(self.l)) / self.l


class SigmoidLaw:
    """The logistic sigmoid of another law."""

    def __init__(self, base):
        self.base = base

    def cdf(self, x):
        return self.base.cdf(sp.logit(x))

    def ppf(self, p):
        return sp.expit(self.base.ppf(p))

    def isf(self, q):
        return sp.expit(self.base.isf(q))


def _whitened(x, loc, factor):
    z = torch.linalg.solve_triangular(factor, (x - loc).unsqueeze(-1), upper=False).squeeze(-1)
    return torch.special.ndtr(z).flatten()


def _projections(x, loc, covariance):
    directions = torch.linspace(-1, 1, 3 * x.shape[-1], dtype=x.dtype).cos().reshape(3, -1) + torch.eye(
        3, x.shape[-1], dtype=x.dtype
    )
    deviation = torch.einsum("ki,...ij,kj->...k", directions, covariance, directions).sqrt()
    # One projection per row, so that the values are independent.
    z = torch.einsum("...i,ki->...k", x - loc, directions) / deviation
    return torch.special.ndtr(torch.cat([z[k::3, ..., k].flatten() for k in range(3)]))


def _log_ratio_scores(log_x, temperature, logits):
    """log x_0 - log x_1 = (l_0 - l_1 + logistic noise) / temperature, exactly."""
    return torch.sigmoid((log_x[..., 0] - log_x[..., 1]) * temperature - (logits[0] - logits[1]))


FACTOR = [[1.0, 0.0, 0.0], [0.5, 0.8, 0.0], [-0.3, 0.2, 2.0]]
FACTORS = [FACTOR, [[0.2, 0.0, 0.0], [3.0, 1.0, 0.0], [0.0, -1.0, 0.5]]]
LOC = [0.3, -1.0, 2.0]
LOW_RANK = [[1.0, 0.2], [-0.5, 0.4], [0.3, 2.0]]
DIAGONAL = [0.5, 1.0, 0.1]
LOGITS = [0.5, -1.0, 0.2]


def _low_rank_scores(x, loc, w, d):
    return _projections(x, loc, w @ w.mT + torch.diag(d))


def _logistic_normal_scores(x, loc, scale):
    rest = 1 - torch.cat([torch.zeros_like(x[..., :1]), x[..., :-2].cumsum(-1)], -1)
    offset = torch.arange(loc.shape[-1], 0, -1, dtype=x.dtype).log()
    logit = torch.logit(x[..., :-1] / rest) + offset
    return torch.special.ndtr((logit - loc) / scale).flatten()


UNIVARIATE = [
    Case("normal", td.Normal, (0.7, 1.3), st.norm),
    Case("log-normal", td.LogNormal, (0.4, 0.9), lambda m, s: st.lognorm(s, scale=np.exp(m))),
    Case("uniform", td.Uniform, (-1.5, 4.0), lambda a, b: st.uniform(a, b - a)),
    Case("exponential", td.Exponential, (2.5,), lambda r: st.expon(scale=1 / r)),
    Case("weibull", td.Weibull, (1.5, 0.7), lambda s, k: st.weibull_min(k, scale=s)),
    Case("pareto", td.Pareto, (1.5, 3.0), lambda s, a: st.pareto(a, scale=s)),
    Case("generalized pareto, heavy", td.GeneralizedPareto, (0.3, 1.2, 0.4), lambda m, s, c: st.genpareto(c, m, s)),
    Case("generalized pareto, bounded", td.GeneralizedPareto, (0.3, 1.2, -0.4), lambda m, s, c: st.genpareto(c, m, s)),
    Case("generalized pareto, zero", td.GeneralizedPareto, (0.3, 1.2, 0.0), lambda m, s, c: st.genpareto(c, m, s)),
    Case("generalized pareto, minus zero", td.GeneralizedPareto, (0.3, 1.2, -0.0), lambda m, s, c: st.genpareto(c, m, s)),
    Case("gumbel", td.Gumbel, (0.5, 2.0), st.gumbel_r, falling=True),
    Case("laplace", td.Laplace, (0.5, 2.0), st.laplace),
    Case("cauchy", td.Cauchy, (0.5, 2.0), st.cauchy),
    Case("half-cauchy", td.HalfCauchy, (2.0,), lambda s: st.halfcauchy(scale=s)),
    Case("half-normal", td.HalfNormal, (2.0,), HalfNormalLaw),
    Case("kumaraswamy", td.Kumaraswamy, (2.0, 1.5), KumaraswamyLaw),
    Case("kumaraswamy, both ends", td.Kumaraswamy, (0.4, 0.5), KumaraswamyLaw, single=False),
    Case("continuous bernoulli", lambda w: td.ContinuousBernoulli(logits=w), (1.7,), ContinuousBernoulliLaw),
    Case("continuous bernoulli, negative", lambda w: td.ContinuousBernoulli(logits=w), (-12.0,), ContinuousBernoulliLaw),
    Case("continuous bernoulli, flat", lambda w: td.ContinuousBernoulli(logits=w), (0.0,), ContinuousBernoulliLaw),
    Case("continuous bernoulli, nearly flat", lambda w: td.ContinuousBernoulli(logits=w), (-1e-3,), ContinuousBernoulliLaw),
    Case(
        "logit relaxed bernoulli",
        lambda t, w: LogitRelaxedBernoulli(t, logits=w),
        (0.7, 0.4),
        lambda t, w: st.logistic(w / t, 1 / t),
    ),
    Case(
        "relaxed bernoulli",
        lambda t, w: td.RelaxedBernoulli(t, logits=w),
        (0.7, 0.4),
        lambda t, w: SigmoidLaw(st.logistic(w / t, 1 / t)),
    ),
    Case(
        "transformed",
        lambda m, s: td.TransformedDistribution(td.Laplace(m, s), [td.AffineTransform(1.0, -2.0), td.SigmoidTransform()]),
        (0.3, 0.4),
        lambda m, s: SigmoidLaw(st.laplace(1 - 2 * m, 2 * s)),
        falling=True,
    ),
]

VECTOR = [
    Case(
        "independent",
        lambda m, s: td.Independent(td.Normal(m, s), 1),
        (LOC, [1.0, 0.2, 3.0]),
        scores=lambda x, m, s: torch.special.ndtr((x - m) / s).flatten(),
    ),
    Case("mvn, factor", lambda m, f: td.MultivariateNormal(m, scale_tril=f), (LOC, FACTOR), scores=_whitened),
    Case(
        "mvn, covariance",
        td.MultivariateNormal,
        (LOC, (np.array(FACTOR) @ np.array(FACTOR).T).tolist()),
        scores=lambda x, m, c: _whitened(x, m, torch.linalg.cholesky(c)),
    ),
    Case(
        "mvn, precision",
        lambda m, p: td.MultivariateNormal(m, precision_matrix=p),
        (LOC, (np.array(FACTOR) @ np.array(FACTOR).T).tolist()),
        scores=lambda x, m, p: _projections(x, m, torch.linalg.inv(p)),
    ),
    Case("mvn, batch of factors", lambda m, f: td.MultivariateNormal(m, scale_tril=f), (LOC, FACTORS), scores=_whitened),
    Case("mvn, low rank", td.LowRankMultivariateNormal, (LOC, LOW_RANK, DIAGONAL), scores=_low_rank_scores, pull=False),
    Case("logistic-normal", td.LogisticNormal, (LOC, [1.0, 0.5, 0.3]), scores=_logistic_normal_scores),
    Case(
        "relaxed one-hot",
        lambda t, w: td.RelaxedOneHotCategorical(t, logits=w),
        (0.7, LOGITS),
        scores=lambda x, t, w: _log_ratio_scores(x.log(), t, w),
        pull=False,
    ),
    Case("exp relaxed", lambda t, w: ExpRelaxedCategorical(t, logits=w), (0.7, LOGITS), scores=_log_ratio_scores, pull=False),
]

EXTREME = [
    *[
        Case(f"uniform far from zero, {d}", td.Uniform, (a, b))
        for d, a, b in [("1e6", 1e6, 1e6 + 1), ("unit", 1.0, 2.0), ("-1", -1.0, 0.0)]
    ],
    Case("uniform as wide as the floats", td.Uniform, (-3e38, 3e38), density=False),
    Case("log-normal, wide", td.LogNormal, (0.0, 60.0)),
    Case("weibull, flat", td.Weibull, (1.0, 0.02), density=False),
    Case("pareto, flat", td.Pareto, (1.0, 0.02)),
    Case("pareto, steep", td.Pareto, (1.3, 1e8)),
    Case("half-cauchy, wide", td.HalfCauchy, (1e30,)),
    Case("half-normal, narrow", td.HalfNormal, (1e-37,), density=False),
    Case("exponential, fast", td.Exponential, (1e38,)),
    Case("exponential, slow", td.Exponential, (1e-15,)),
    Case("generalized pareto, very heavy", td.GeneralizedPareto, (0.0, 1.0, 30.0)),
    Case("generalized pareto, bounded", td.GeneralizedPareto, (0.0, 1.0, -2.0)),
    Case("kumaraswamy .2", td.Kumaraswamy, (0.2, 0.2)),
    Case("kumaraswamy .01", td.Kumaraswamy, (0.01, 0.01)),
    Case("kumaraswamy 1e4", td.Kumaraswamy, (1e4, 0.1)),
    Case("continuous bernoulli 500", lambda w: td.ContinuousBernoulli(logits=w), (500.0,)),
    Case("continuous bernoulli -500", lambda w: td.ContinuousBernoulli(logits=w), (-500.0,)),
    Case("relaxed bernoulli, cold", lambda t, w: td.RelaxedBernoulli(t, logits=w), (0.01, 3.0)),
    Case("relaxed one-hot, cold", lambda t, w: td.RelaxedOneHotCategorical(t, logits=w), (0.1, [0.0] * 10)),
    Case("relaxed one-hot, cold and long", lambda t, w: td.RelaxedOneHotCategorical(t, logits=w), (0.1, [0.0] * 1000)),
    Case("logistic-normal, wide", td.LogisticNormal, ([0.0, 0.0, 0.0], [20.0, 20.0, 20.0])),
    Case("tanh-normal", lambda m, s: td.TransformedDistribution(td.Normal(m, s), td.TanhTransform()), (0.0, 5.0)),
    Case("exp of a normal", lambda m, s: td.TransformedDistribution(td.Normal(m, s), td.ExpTransform()), (0.0, 30.0)),
]
