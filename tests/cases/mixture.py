"""Mixtures and paths from distribution functions."""

from __future__ import annotations

import numpy as np
import scipy.special as sp
import scipy.stats as st
import torch
import torch.distributions as td

from cases.case import Case


class MixtureLaw:
    """Scipy laws mixed by weights; quantiles by bisection on the smaller tail, down to the spacing of the floats."""

    def __init__(self, weights, laws):
        self.weights, self.laws = weights, laws

    def cdf(self, x):
        return sum(w * law.cdf(x) for w, law in zip(self.weights, self.laws, strict=True))

    def sf(self, x):
        return sum(w * law.sf(x) for w, law in zip(self.weights, self.laws, strict=True))

    def ppf(self, p):
        return self._solve([law.ppf(p) for law in self.laws], lambda x: self.cdf(x) < p)

    def isf(self, q):
        return self._solve([law.isf(q) for law in self.laws], lambda x: self.sf(x) > q)

    @staticmethod
    def _solve(ends, below):
        low, high = np.minimum.reduce(ends), np.maximum.reduce(ends)
        for _ in range(200):
            middle = low / 2 + high / 2
            low, high = np.where(below(middle), middle, low), np.where(below(middle), high, middle)
        return low / 2 + high / 2


def _weights(w):
    """Of the logits w, 0."""
    return sp.expit(w), sp.expit(-w)


def _mixed(component, w, *columns):
    """A mixture of two with logits w, 0; each column is a parameter of the components."""
    logits = torch.stack([w, torch.zeros_like(w)], -1)
    return td.MixtureSameFamily(td.Categorical(logits=logits), component(*[torch.stack(c, -1) for c in columns]))


def _normals(w, a, b, s, t):
    return _mixed(td.Normal, w, (a, b), (s, t))


def _normals_exactly(w, a, b, s, t):
    return MixtureLaw(_weights(w), (st.norm(a, s), st.norm(b, t)))


def _through(uniforms, log_densities, weights):
    """Rosenblatt: uniforms and log-densities of each dimension under each component, `rows + (D, K)`, given those before."""
    log_w = weights.log() + torch.cat([torch.zeros_like(log_densities[..., :1, :]), log_densities[..., :-1, :].cumsum(-2)], -2)
    return (torch.softmax(log_w, -1) * uniforms).sum(-1).flatten()


def _diagonal_scores(x, w, m, s):
    components = td.Laplace(m.mT, s.mT)  # dimensions by components
    at = x.unsqueeze(-1)
    return _through(components.cdf(at), components.log_prob(at), torch.softmax(w, -1))


def _full_scores(x, w, m, factors):
    z = torch.linalg.solve_triangular(factors, (x.unsqueeze(-2) - m).unsqueeze(-1), upper=False).squeeze(-1)
    log_density = td.Normal(0.0, 1.0).log_prob(z) - factors.diagonal(dim1=-2, dim2=-1).log()
    return _through(torch.special.ndtr(z).mT, log_density.mT, torch.softmax(w, -1))


def _full(w, m, factors):
    return td.MixtureSameFamily(td.Categorical(logits=w), td.MultivariateNormal(m, scale_tril=factors.tril()))


def _diagonal(w, m, s):
    return td.MixtureSameFamily(td.Categorical(logits=w), td.Independent(td.Laplace(m, s), 1))


_M = [[0.0, 1.0], [2.0, -1.0], [-1.0, 0.5]]
_S = [[0.5, 1.0], [2.0, 0.3], [0.4, 0.4]]
_F = [[[0.7, 0.0], [0.4, 0.5]], [[1.0, 0.0], [-0.9, 0.3]], [[0.5, 0.0], [0.0, 0.6]]]
_W = [0.2, -0.5, 0.4]

UNIVARIATE = [
    # Torch normalizes logits in half precision, so that only equal weights are known exactly there.
    Case("mixture of normals, equal weights", _normals, (0.0, -1.0, 1.5, 0.6, 1.2), _normals_exactly, draws=60_000),
    Case("mixture of normals", _normals, (0.4, -1.0, 1.5, 0.6, 1.2), _normals_exactly, draws=60_000, half=False),
    Case("mixture of normals, far apart", _normals, (-1.0, -20.0, 30.0, 0.5, 2.0), _normals_exactly, draws=60_000),
    Case(
        "mixture of gumbels",
        lambda w, a, b, s, t: _mixed(td.Gumbel, w, (a, b), (s, t)),
        (0.4, -1.0, 1.5, 0.6, 1.2),
        lambda w, a, b, s, t: MixtureLaw(_weights(w), (st.gumbel_r(a, s), st.gumbel_r(b, t))),
        draws=60_000,
        half=False,
    ),
    Case(
        "mixture of weibulls",
        lambda w, s, t, k, m: _mixed(td.Weibull, w, (s, t), (k, m)),
        (0.4, 1.0, 2.5, 0.8, 3.0),
        lambda w, s, t, k, m: MixtureLaw(_weights(w), (st.weibull_min(k, scale=s), st.weibull_min(m, scale=t))),
        draws=60_000,
    ),
]

VECTOR = [
    Case("mixture, independent", _diagonal, (_W, _M, _S), scores=_diagonal_scores, draws=30_000, half=False),
    Case("mixture, full covariance", _full, (_W, _M, _F), scores=_full_scores, draws=30_000, half=False),
]

EXTREME = [
    Case("mixture of normals, very far apart", _normals, (0.0, -1e6, 1e6, 1e-2, 10.0)),
    Case("mixture of cauchys of all sizes", lambda w, s, t: _mixed(td.Cauchy, w, (s * 0, t * 0), (s, t)), (0.0, 1e-3, 1e6)),
]
