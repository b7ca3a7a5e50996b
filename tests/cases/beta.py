"""Beta, Dirichlet, Student's t and what is made of them."""

from __future__ import annotations

import math

import numpy as np
import scipy.special as sp
import scipy.stats as st
import torch
import torch.distributions as td

from cases.case import Case
from reparam.distributions.beta_prime import BetaPrime
from reparam.distributions.lkj import LKJ
from reparam.distributions.log_dirichlet import LogDirichlet
from reparam.distributions.logit_beta import LogitBeta
from reparam.distributions.multivariate_student_t import MultivariateStudentT


class LogitBetaLaw:
    """The logit of Beta, from its odds in the middle and from the leading power of them in the tails."""

    far = 40.0  # beyond it the next term of the power series is below rounding

    def __init__(self, a, b):
        self.a, self.b = a, b

    def _log_leading(self, y):
        return self.a * y - np.log(self.a) - sp.betaln(self.a, self.b)

    def _lower(self, y):
        """For `y < 0`, relative to the probability."""
        far = np.exp(self._log_leading(np.minimum(y, -self.far)))
        return np.where(y < -self.far, far, sp.betainc(self.a, self.b, sp.expit(y)))

    def cdf(self, y):
        y = np.asarray(y)
        return np.where(y < 0, self._lower(y), 1 - LogitBetaLaw(self.b, self.a)._lower(-y))

    def ppf(self, p):
        p = np.asarray(p, dtype=float)
        far = (np.log(p) - self._log_leading(0.0)) / self.a
        with np.errstate(divide="ignore"):
            near = np.log(sp.betaincinv(self.a, self.b, p)) - np.log(sp.betainccinv(self.b, self.a, p))
        return np.where(far < -self.far, far, near)

    def isf(self, q):
        return -LogitBetaLaw(self.b, self.a).ppf(q)


class OddsLaw:
    """The odds of Beta over `scale`: scipy's own tails lose digits."""

    def __init__(self, a, b, scale=1.0):
        self.logit, self.scale = LogitBetaLaw(a, b), scale

    def cdf(self, x):
        with np.errstate(divide="ignore"):
            return self.logit.cdf(np.log(x / self.scale))

    def ppf(self, p):
        return self.scale * np.exp(self.logit.ppf(p))

    def isf(self, q):
        return self.scale * np.exp(self.logit.isf(q))


class StudentLaw:
    """Student's t by the odds of a Beta variable: scipy's quantile for few degrees of freedom has eight digits."""

    def __init__(self, df, loc=0.0, scale=1.0):
        self.square, self.loc, self.scale = OddsLaw(0.5, df / 2, df), loc, scale

    def cdf(self, x):
        t = (np.asarray(x) - self.loc) / self.scale
        tail = (1 - self.square.cdf(t * t)) / 2
        return np.where(t < 0, tail, 1 - tail)

    def ppf(self, p):
        return 2 * self.loc - self.isf(p)

    def isf(self, q):
        q = np.asarray(q, dtype=float)
        side = np.where(q < 0.5, 1.0, -1.0)
        return self.loc + self.scale * side * np.sqrt(self.square.isf(2 * np.minimum(q, 1 - q)))


def of_logs(law):
    """A law of positive parameters as one of their logs: differences of a fixed size are relative ones."""
    return lambda *logs: law(*[v.exp() if isinstance(v, torch.Tensor) else math.exp(v) for v in logs])


def _beta_scores(x, a, b):
    return torch.from_numpy(sp.betainc(a.numpy(), b.numpy(), x.numpy()))


def _component_scores(log_x, alpha):
    """Components and sums of them are of Beta laws; another one in each part of the rows, so that the values are independent."""
    total, size = alpha.sum(), len(alpha)
    chosen = [[k] for k in range(size)] + [[0, size - 1]]
    scores = []
    for part, indices in enumerate(chosen):
        log_p = log_x[part :: len(chosen)][..., indices].logsumexp(-1)
        others = [k for k in range(size) if k not in indices]
        log_q = log_x[part :: len(chosen)][..., others].logsumexp(-1)
        a = alpha[indices].sum()
        scores.append(torch.from_numpy(LogitBetaLaw(float(a), float(total - a)).cdf((log_p - log_q).numpy())))
    return torch.cat(scores)


def _correlation_scores(matrix, dim, concentration):
    """Each correlation is of law Beta(b, b) on (-1, 1); another one in each part of the rows."""
    b = float(concentration) + dim / 2 - 1
    pairs = [(i, j) for i in range(dim) for j in range(i)]
    r = torch.cat([matrix[part :: len(pairs), i, j] for part, (i, j) in enumerate(pairs)])
    return torch.from_numpy(sp.betainc(b, b, ((1 + r) / 2).clamp(0, 1).numpy()))


def _student_scores(x, df, loc, factor):
    """Projections on the whitened axes and their diagonal are of Student's law, and the square of the length of Fisher's."""
    z = torch.linalg.solve_triangular(factor, (x - loc).unsqueeze(-1), upper=False).squeeze(-1)
    size = z.shape[-1]
    axes = [torch.eye(size, dtype=z.dtype)[k] for k in range(size)] + [torch.full((size,), size**-0.5, dtype=z.dtype)]
    parts = [torch.from_numpy(st.t(float(df)).cdf((z[k :: size + 2] @ axis).numpy())) for k, axis in enumerate(axes)]
    square = z[size + 1 :: size + 2].square().sum(-1) / size
    return torch.cat([*parts, torch.from_numpy(st.f(size, float(df)).cdf(square.numpy()))])


FACTOR = [[1.0, 0.0, 0.0], [0.5, 0.8, 0.0], [-0.3, 0.2, 2.0]]

UNIVARIATE: list[Case] = [
    Case("beta", td.Beta, (2.0, 3.0), st.beta, draws=30_000),
    Case("beta, both ends", td.Beta, (0.3, 0.7), st.beta, single=False, draws=30_000),
    Case("beta, at one end", of_logs(td.Beta), (math.log(5.0), math.log(1e5)), of_logs(st.beta), half=False, draws=30_000),
    Case("logit beta", LogitBeta, (2.0, 3.0), LogitBetaLaw, draws=30_000),
    Case("logit beta, tiny", of_logs(LogitBeta), (math.log(1e-3), math.log(1e-3)), of_logs(LogitBetaLaw), draws=30_000),
    Case("logit beta, one tiny", of_logs(LogitBeta), (math.log(0.02), math.log(30.0)), of_logs(LogitBetaLaw), draws=30_000),
    Case(
        "logit beta, at one end",
        of_logs(LogitBeta),
        (math.log(5.0), math.log(1e5)),
        of_logs(LogitBetaLaw),
        half=False,
        draws=30_000,
    ),
    Case("beta prime", BetaPrime, (1.5, 2.5), OddsLaw, draws=30_000),
    Case("fisher", td.FisherSnedecor, (3.0, 7.0), lambda m, n: OddsLaw(m / 2, n / 2, n / m), draws=30_000),
    Case("student", td.StudentT, (3.0, 0.5, 2.0), st.t, draws=30_000),
    Case("student, heavy", td.StudentT, (0.5, 0.5, 2.0), StudentLaw, half=False, draws=30_000),
    Case("student, light", td.StudentT, (30.0, 0.5, 2.0), st.t, draws=30_000),
    Case("student, nearly normal", of_logs(td.StudentT), (math.log(1e4),), of_logs(StudentLaw), draws=30_000),
]

VECTOR: list[Case] = [
    Case(
        "dirichlet",
        td.Dirichlet,
        ([2.0, 0.8, 3.0],),
        scores=lambda x, alpha: _component_scores(x.log(), alpha),
        pull=False,
        draws=20_000,
        transported=True,
    ),
    Case("log dirichlet", LogDirichlet, ([2.0, 0.7, 3.0],), scores=_component_scores, pull=False, draws=20_000, transported=True),
    Case(
        "log dirichlet, tiny",
        LogDirichlet,
        ([1e-3, 3e-3, 2e-3],),
        scores=_component_scores,
        pull=False,
        draws=20_000,
        transported=True,
    ),
    Case(
        "log dirichlet, mixed",
        LogDirichlet,
        ([1e-2, 1.0, 50.0],),
        scores=_component_scores,
        pull=False,
        draws=20_000,
        transported=True,
    ),
    Case("lkj", lambda c: LKJ(4, c), (0.8,), scores=lambda r, c: _correlation_scores(r, 4, c), draws=20_000),
    Case(
        "multivariate student",
        lambda df, m, a: MultivariateStudentT(df, m, a.tril()),
        (4.0, [0.3, -1.0, 2.0], FACTOR),
        scores=_student_scores,
        pull=False,
        draws=20_000,
    ),
]

EXTREME: list[Case] = [
    Case("beta 1e-3", td.Beta, (1e-3, 1e-3)),
    Case("beta 1e-4, 1e5", td.Beta, (1e-4, 1e5)),
    Case("beta 5, 1e5", td.Beta, (5.0, 1e5)),
    Case("beta 1e5", td.Beta, (1e5, 1e5)),
    Case("beta 1e-6, 1e8", td.Beta, (1e-6, 1e8)),
    Case("logit beta 1e-6", LogitBeta, (1e-6, 1e-6)),
    Case("logit beta 1e8", LogitBeta, (1e8, 1e-6)),
    Case("beta prime 1e-2", BetaPrime, (1e-2, 1e-2)),
    Case("fisher 1e-2", td.FisherSnedecor, (1e-2, 1e-2)),
    Case("fisher 1e5", td.FisherSnedecor, (1e5, 2.0)),
    Case("student .01", td.StudentT, (0.01, 1.0, 2.0), density=False),
    Case("student 1e8", td.StudentT, (1e8, 1.0, 2.0)),
    Case("dirichlet 1e-4", td.Dirichlet, ([1e-4] * 4,)),
    Case("dirichlet 1e5", td.Dirichlet, ([1e5, 1e-4, 1.0],)),
    Case("dirichlet, long", td.Dirichlet, ([0.1] * 20,)),
    Case("log dirichlet 1e-6", LogDirichlet, ([1e-6, 1e-5, 1e5],)),
    Case("lkj factor 1e-3", lambda c: td.LKJCholesky(5, c), (1e-3,)),
    Case("lkj factor 1e5", lambda c: td.LKJCholesky(5, c), (1e5,)),
    Case("lkj 1e-2", lambda c: LKJ(4, c), (1e-2,), density=False),
    Case("multivariate student .1", MultivariateStudentT, (0.1, [0.3, -1.0, 2.0], FACTOR), density=False),
]
