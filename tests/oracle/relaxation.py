"""What relaxations and straight-through estimators give on average, by integrals over the noise and sums over outcomes."""

import math
from functools import lru_cache
from itertools import product

import torch

F64 = torch.float64


def slope(f, z):
    """∂f/∂z at every point."""
    z = torch.as_tensor(z, dtype=F64).clone().requires_grad_()
    return torch.autograd.grad(f(z).sum(), z)[0]


# Coins: the relaxed value is sigmoid((logit + x) / t), x logistic.

X = torch.linspace(-60.0, 60.0, 6001, dtype=F64)
LOGISTIC = torch.sigmoid(X) * torch.sigmoid(-X) * (X[1] - X[0])  # the trapezoidal rule, spectrally accurate for analytic functions


def relaxed_coin(f, t):
    """E[f] under the relaxed law, as a function of the logit."""

    def exact(logit):
        z = torch.sigmoid((logit.unsqueeze(-1) + X) / t)
        return (f(z) * LOGISTIC).sum(-1)

    return exact


def of_relaxed_coin(f, phi, t):
    """Mean value and gradient at a logit phi, and the variance of the gradient."""
    z = torch.sigmoid((phi + X) / t)
    estimate = slope(f, z) * z * (1 - z) / t
    mean = (estimate * LOGISTIC).sum().item()
    variance = (estimate**2 * LOGISTIC).sum().item() - mean**2
    value = (f(z) * LOGISTIC).sum().item()
    return {"value": value, "gradient": (mean,), "variance": (variance,), "exact": relaxed_coin(f, t), "second": True}


def moments_given(b, phi, t):
    """Mean and variance, given the outcome of a coin of logit phi, of the derivative of its relaxed value in the logit."""
    s = torch.linspace(0.0, 60.0, 20001, dtype=F64)  # scores on the side of the outcome, by Simpson's rule
    weight = torch.ones_like(s)
    weight[1:-1:2], weight[2:-1:2] = 4, 2
    side = 2 * b - 1
    density = torch.sigmoid(side * s - phi) * torch.sigmoid(phi - side * s) * weight * (s[1] - s[0]) / 3
    density = density * (1 + math.exp(-side * phi))  # over the probability of the outcome
    z = torch.sigmoid(s / t)
    derivative = z * (1 - z) / t
    mean = (derivative * density).sum().item()
    return mean, (derivative**2 * density).sum().item() - mean**2


def of_hard_coin(f, phi, t, k=1):
    """Mean and variance of a straight-through gradient, averaged over k relaxed values given the outcome."""
    (m0, v0), (m1, v1) = moments_given(0, phi, t), moments_given(1, phi, t)
    f0, f1, theta = slope(f, 0.0).item(), slope(f, 1.0).item(), 1 / (1 + math.exp(-phi))
    mean = theta * f1 * m1 + (1 - theta) * f0 * m0
    within = (theta * f1**2 * v1 + (1 - theta) * f0**2 * v0) / k
    between = theta * (1 - theta) * (f1 * m1 - f0 * m0) ** 2
    return {"gradient": (mean,), "variance": (within + between,)}


# One choice of three: the relaxed value is softmax((logits + Gumbel noise) / t), of which only differences of scores matter.
# Their density, with any one score held, is 2 Π exp(l − s) / (Σ exp(l − s))³.


def density(logits, scores):
    a = logits - scores
    return 2 * (a.sum(-1) - 3 * a.logsumexp(-1)).exp()


def square_of(x):
    return torch.stack(torch.meshgrid(x, x, indexing="ij"), -1).flatten(0, 1)


def relaxed_choice(f, t):
    """E[f] under the relaxed law, as a function of three logits: an integral over differences to the third score."""
    scores = torch.nn.functional.pad(square_of(torch.arange(-32.0, 32.1, 0.25, dtype=F64)), (0, 1))
    z = torch.softmax(scores / t, -1)
    return lambda logits: (f(z) * density(logits, scores)).sum() * 0.25**2


def jacobian_given(i, p, t):
    """The mean derivative in the logits of the relaxed value, given the outcome i: over how far below the others' scores are."""
    # The logarithm of how far: the integrand is smooth, and falls at both ends.
    y = square_of(torch.arange(-36.0, 4.6, 0.25, dtype=F64))
    below = -y.exp()
    scores = torch.cat([below[:, :i], torch.zeros(len(y), 1, dtype=F64), below[:, i:]], -1)
    weight = density(p.log(), scores) * y.sum(-1).exp() * 0.25**2 / p[i]
    z = torch.softmax(scores / t, -1)
    return (torch.diag(weight @ z) - torch.einsum("n,nj,nk->jk", weight, z, z)) / t


# Outcomes are enumerated, and times the slope of the cost at each goes its mean derivative of what stands for it.


def over_coins(f, logits, derivative):
    """Σ_z p(z) ∂f/∂z · derivative(outcome, logit)."""
    phi = torch.tensor(logits, dtype=F64)
    total = torch.zeros_like(phi)
    for outcome in product((0, 1), repeat=len(logits)):
        z = torch.tensor(outcome, dtype=F64)
        passed = torch.tensor([derivative(b, x) for b, x in zip(outcome, logits, strict=True)], dtype=F64)
        total += torch.sigmoid((2 * z - 1) * phi).prod() * slope(f, z) * passed
    return total


def over_choices(f, logits, jacobian):
    """The same for independent choices, rows of `logits`: the slope times jacobian(outcome, probabilities), symmetric."""
    p = torch.tensor(logits, dtype=F64).softmax(-1)
    total = torch.zeros_like(p)
    for outcome in product(range(p.shape[-1]), repeat=len(p)):
        z = torch.eye(p.shape[-1], dtype=F64)[list(outcome)]
        passed = [jacobian(i, row) @ s for i, row, s in zip(outcome, p, slope(f, z), strict=True)]
        total += (p * z).sum(-1).prod() * torch.stack(passed)
    return total


def over_choice(f, logits, jacobian):
    return over_choices(lambda z: f(z[..., 0, :]), (logits,), jacobian)[0]


def gumbel_coin(t):
    return lambda b, phi: moments_given(b, phi, t)[0]


def gumbel(t):
    memo = lru_cache(lambda i, p: jacobian_given(i, torch.tensor(p, dtype=F64), t))
    return lambda i, p: memo(i, tuple(p.tolist()))


def euler_coin(b, phi):
    return 1 / (2 + math.exp(phi) + math.exp(-phi))


def euler(i, p):
    return torch.diag(p) - torch.outer(p, p)


def heun(t):
    """As the paper has it: the softmax at half way, taken twice, less half of that at the start."""

    def jacobian(i, p):
        warm = torch.softmax(p.log() / t, -1)
        middle = (torch.eye(len(p), dtype=F64)[i] + warm) / 2
        return 2 * euler(i, middle) - euler(i, p) / 2

    return jacobian
