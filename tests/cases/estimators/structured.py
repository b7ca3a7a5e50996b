"""Subsets, orders, matchings and what a solver makes of noisy scores; their laws listed value by value."""

import math
from itertools import combinations, permutations

import torch
from torch.distributions import Independent, Normal

import reparam as rp
from cases.estimators.row import CHOICE, PRICES, Row
from reparam.distributions import KSubset, PerturbAndMAP, PlackettLuce
from reparam.distributions.solver import matching, top_k

PAIRS = torch.tensor([[float(i in pair) for i in range(4)] for pair in combinations(range(4), 2)], dtype=torch.float64)
ORDERS = torch.tensor(list(permutations(range(4))))
TWO = (CHOICE, (0.0, 2.0, -0.3, 0.1))
LOGITS = torch.tensor(CHOICE, dtype=torch.float64)


def pair(logits):
    return KSubset(2, logits)


def pairs(logits):
    return Independent(KSubset(2, logits), 1)


def basket(z):
    """Of a pair: its price, which falls for two that go together."""
    return ((z * PRICES.to(z)).sum(-1) - 1.0) ** 2 - 0.7 * z[..., 0] * z[..., 3]


def baskets(z):
    """Of two pairs."""
    return basket(z[..., 0, :]) + (z[..., 0, :] * z[..., 1, :]).sum(-1) ** 2


def bill(z):
    """Of a pair, linear."""
    return (z * PRICES.to(z)).sum(-1)


def chance_of_pairs(logits):
    """Of coins of these logits, given that two of them come up."""
    return (logits @ PAIRS.T).softmax(-1)


def expected_baskets(logits):
    first, second = chance_of_pairs(logits[..., 0, :]), chance_of_pairs(logits[..., 1, :])
    both = baskets(torch.stack(torch.broadcast_tensors(PAIRS[:, None], PAIRS[None]), -2))
    return (first[..., :, None] * second[..., None, :] * both).sum((-1, -2))


def slope_by_marginals():
    """The Jacobian of the marginals is the covariance of z; with the mean slope of the basket."""
    p = chance_of_pairs(LOGITS)
    mean = p @ PAIRS
    z = PAIRS.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(basket(z).sum(), z)
    return ((PAIRS * p[:, None]).T @ PAIRS - mean[:, None] * mean) @ (p @ slopes)


def order(logits):
    return PlackettLuce(logits)


def discounted(z):
    """Of an order: later items count less, and not in proportion."""
    return (PRICES[z] * torch.tensor([1.0, 0.6, 0.3, 0.0], dtype=torch.float64)).sum(-1) ** 2 + (z[..., 0] < z[..., 1])


def chance_of_orders(logits):
    """Item by item, from those left."""
    p, left, chance = logits.softmax(-1), 1.0, 1.0
    for i in range(4):
        q = p[..., ORDERS[:, i]]
        chance, left = chance * q / left, left - q
    return chance


def chance_of_tops(scores):
    """Of the two largest of scores with Gumbel noise: the first two of an order."""
    chance = chance_of_orders(scores)
    firsts = torch.nn.functional.one_hot(ORDERS[:, :2], 4).sum(1).to(torch.float64)
    return chance @ (firsts @ PAIRS.T == 2).to(torch.float64)


def noisy_pair(scores):
    return PerturbAndMAP(scores, top_k(2))


def noisy_side(scores):
    return PerturbAndMAP(scores, top_k(1))


def side_in_normal_noise(scores):
    return PerturbAndMAP(scores, top_k(1), Normal(0.0, 0.5))


def curved(z):
    """Of one of two: of a slope that depends on which."""
    return 1.5 * z[..., 0] ** 2 - 0.4 * z[..., 1] ** 3 + 0.3 * z[..., 0]


STRENGTH = 0.8


def quotient(mean, slope):
    """The difference quotient of a mean, of a cost that is linear."""
    return (mean(LOGITS) - mean(LOGITS - STRENGTH * slope)) / STRENGTH


SIDES = torch.tensor([0.4, -0.2], dtype=torch.float64)


def quotient_of_sides():
    """The difference of two Gumbel noises is logistic: of (1, 0) the scores move by -(3.3, 0) λ, of (0, 1) by -(0.3, -1.2) λ."""
    up = float(SIDES[0] - SIDES[1])
    share = [1 / (1 + math.exp(-x)) for x in (up, up - 3.3 * STRENGTH, up - 1.5 * STRENGTH)]
    # Those that were first and no longer are; none that was second becomes first.
    first = (share[0] - min(share[0], share[1])) / STRENGTH + (0.0 - max(0.0, share[2] - share[0])) / STRENGTH
    return torch.tensor([first, -first], dtype=torch.float64)


def quotient_in_normal_noise():
    """Of the cost z . (1, -0.5): the difference of two normal noises of 0.5 is normal."""
    up = float(SIDES[0] - SIDES[1])
    cdf = Normal(0.0, 0.5 * math.sqrt(2)).cdf
    first = float(cdf(torch.tensor(up)) - cdf(torch.tensor(up - 1.5 * STRENGTH))) / STRENGTH
    return torch.tensor([first, -first], dtype=torch.float64)


SCORES = ((0.5, -0.2), (0.1, 0.3))
HEAT = 0.7


def match(scores):
    return PerturbAndMAP(scores, matching, event_dim=2)


def misplaced(z):
    return 2 * (z[..., 0, 0] - 0.3) ** 2 + 0.5 * z[..., 0, 1] * z[..., 1, 0]


def over_noise(f):
    """The mean of f(x), x = trace - other diagonal of scores with Gumbel noise: two logistic noises, on a grid."""
    t = torch.arange(-40, 40, 0.1, dtype=torch.float64)
    weight = 0.1 * torch.exp(-t.abs()) / (1 + torch.exp(-t.abs())) ** 2
    return lambda scores: (
        f((scores.diagonal(0, -2, -1).sum(-1) - scores.flip(-1).diagonal(0, -2, -1).sum(-1))[..., None, None] + t[:, None] + t)
        * weight[:, None]
        * weight
    ).sum((-1, -2))


def matched(x):
    return torch.where(x > 0, misplaced(torch.eye(2)), misplaced(1 - torch.eye(2)))


def smoothed(x):
    """Sinkhorn's limit of a matrix of two: its cross ratio is that of exp(scores)."""
    p = torch.sigmoid(x / (2 * HEAT))
    return 2 * (p - 0.3) ** 2 + 0.5 * (1 - p) ** 2


def gradient(f, x):
    x = torch.tensor(x, dtype=torch.float64, requires_grad=True)
    return torch.autograd.grad(f(x), x)


def probability_of_match(scores):
    """P(x + L + L' > 0) for two logistic noises: with r = e^-x, (r log r - r + 1) / (r - 1)^2."""
    x = scores.diagonal(0, -2, -1).sum(-1) - scores.flip(-1).diagonal(0, -2, -1).sum(-1)
    r = torch.exp(-x)
    return (1 - r - r * x) / (r - 1) ** 2


def expected_match(scores):
    p, right, wrong = probability_of_match(scores), misplaced(torch.eye(2)), misplaced(1 - torch.eye(2))
    return p * right + (1 - p) * wrong


ROWS = {
    "Enumerate, subset": Row(
        rp.Enumerate(),
        pair,
        (TWO,),
        basket,
        {"second": True, "exact": lambda logits: (chance_of_pairs(logits) * basket(PAIRS)).sum(-1), "draws": 20_000},
    ),
    "Enumerate, order": Row(
        rp.Enumerate(),
        order,
        (TWO,),
        discounted,
        {"second": True, "exact": lambda logits: (chance_of_orders(logits) * discounted(ORDERS)).sum(-1), "draws": 20_000},
    ),
    "LeaveOneOut, subset": Row(
        rp.LeaveOneOut(),
        pair,
        (CHOICE,),
        basket,
        {"n": 3, "second": True, "exact": lambda logits: (chance_of_pairs(logits) * basket(PAIRS)).sum(-1)},
    ),
    "LeaveOneOut, batch of subsets": Row(rp.LeaveOneOut(), pair, (TWO,), basket, {"n": 4, "second": None}),
    "LeaveOneOut, two subsets": Row(rp.LeaveOneOut(), pairs, (TWO,), baskets, {"n": 4, "second": None, "exact": expected_baskets}),
    "LeaveOneOut, order": Row(
        rp.LeaveOneOut(),
        order,
        (CHOICE,),
        discounted,
        {"n": 4, "second": True, "exact": lambda logits: (chance_of_orders(logits) * discounted(ORDERS)).sum(-1), "draws": 50_000},
    ),
    "LeaveOneOut, solver": Row(
        rp.LeaveOneOut(),
        noisy_pair,
        (CHOICE,),
        basket,
        {"n": 4, "second": None, "exact": lambda scores: (chance_of_tops(scores) * basket(PAIRS)).sum(-1)},
    ),
    "Score, matching": Row(
        rp.Score(baseline=0.8), match, (SCORES,), misplaced, {"second": None, "exact": expected_match, "draws": 20_000}
    ),
    "SIMPLE, subset": Row(rp.SIMPLE(), pair, (CHOICE,), basket, {"n": 2, "gradient": (slope_by_marginals(),)}),
    "SIMPLE, linear": Row(
        rp.SIMPLE(),
        pair,
        (TWO,),
        bill,
        {"gradient": gradient(lambda logits: (chance_of_pairs(logits) @ bill(PAIRS)).sum(), TWO)},
    ),
    "ImplicitMLE, linear": Row(
        rp.ImplicitMLE(STRENGTH),
        noisy_pair,
        (CHOICE,),
        bill,
        {
            "n": 2,
            "exact": lambda scores: chance_of_tops(scores) @ bill(PAIRS),
            "gradient": (quotient(lambda scores: chance_of_tops(scores) @ PAIRS, PRICES),),
        },
    ),
    "ImplicitMLE, curved": Row(
        rp.ImplicitMLE(STRENGTH),
        noisy_side,
        (tuple(SIDES.tolist()),),
        curved,
        {"exact": lambda scores: scores.softmax(-1) @ curved(torch.eye(2)).double(), "gradient": (quotient_of_sides(),)},
    ),
    "ImplicitMLE, normal noise": Row(
        rp.ImplicitMLE(STRENGTH),
        side_in_normal_noise,
        (tuple(SIDES.tolist()),),
        lambda z: z[..., 0] - 0.5 * z[..., 1],
        {
            "exact": lambda s: 1.5 * Normal(0.0, 0.5 * math.sqrt(2)).cdf(s[..., 0] - s[..., 1]) - 0.5,
            "gradient": (quotient_in_normal_noise(),),
        },
    ),
    "GumbelSinkhorn": Row(
        rp.GumbelSinkhorn(HEAT, 100),
        match,
        (SCORES,),
        misplaced,
        {
            "value": over_noise(smoothed)(torch.tensor(SCORES, dtype=torch.float64)),
            "gradient": gradient(over_noise(smoothed), SCORES),
            "second": None,
            "draws": 20_000,
        },
    ),
}
