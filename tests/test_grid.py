"""Every float32 uniform, one after the other, through every quantile map: no randomness, so no fault of the map hides in noise.

The grid is `(i + 1/2) / 2^24`, all of it in the slow tests and every 256th point otherwise. Each sample must be the exact quantile
of its noise up to a few units of the last place; finite, inside the support, in the order of the noise.
"""

import math

import numpy as np
import pytest
import torch

import reparam as rp
from cases import UNIVARIATE, ids
from reparam.testing.subject import noise_at

QUANTILES = [case for case in UNIVARIATE if case.subject().one_value_each() is not None]


def grid(n):
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def made(case, dtype):
    """The path in a dtype, and the exact distribution function at the parameters as that dtype holds them."""
    parameters = case.tensors(dtype)
    exact = case.exact(*[float(p) for p in parameters])
    return case.law(*parameters), lambda x: torch.from_numpy(np.asarray(exact.cdf(x.double().numpy())))


def check_grid(case, n):
    d, cdf = made(case, torch.float32)
    p = rp.path(d)
    below = torch.zeros((), dtype=torch.float64)
    for part in grid(n).split(2**18):
        eps = noise_at(p.noise.kind, part).float()
        x = p.push(eps)
        assert x.dtype == torch.float32
        assert x.isfinite().all()
        assert d.support.check(x).all()
        # As many units of the last place as x = exp(log x) rounds by, and those of the noise near one half.
        wide = x.double()
        room = (6 + wide.abs().clamp(min=1e-30).log().abs()) * torch.finfo(torch.float32).eps * wide.abs() + 1e-37
        target = 1 - part if case.falling else part
        # Where the room reaches beyond the support, the function may say nothing.
        low, high = cdf(wide - room).nan_to_num(nan=0.0), cdf(wide + room).nan_to_num(nan=1.0)
        slack = 2.0**-22
        off = torch.maximum(low - target, target - high)
        worst = int(off.argmax())
        assert off[worst] <= slack, f"P = {float(target[worst]):.9g}: {float(x[worst]):.9g} has {float(cdf(wide)[worst]):.9g}"
        order = -wide if case.falling else wide
        falls = order[:-1] - order[1:]
        assert (falls <= room[1:]).all()
        below = torch.maximum(below, (cdf(wide) - target).abs().max())
    # The distance of the map's law from the exact one, which rounding alone may make large: at 1e6 a float has steps of 1/16.
    assert below < 1e-3


@pytest.mark.parametrize("case", QUANTILES, ids=ids)
def test_grid(case):
    if not case.single:
        pytest.skip("float32 cannot hold this law near 1")
    check_grid(case, 2**16)


@pytest.mark.slow
@pytest.mark.parametrize("case", QUANTILES, ids=ids)
def test_whole_grid(case):
    if not case.single:
        pytest.skip("float32 cannot hold this law near 1")
    check_grid(case, 2**24 if case.draws >= 300_000 else 2**20)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bfloat16", "float16"])
@pytest.mark.parametrize("case", [c for c in QUANTILES if isinstance(c.law, type)], ids=ids)
def test_half_precision_has_the_mass_of_its_rounding_cells(case, dtype):
    """Of each value as much as the law has closer to it than to its neighbours; none lost, none piled up."""
    if not case.half or not case.single:
        pytest.skip("half precision cannot hold this law")
    n = 2**14
    d, cdf = made(case, dtype)
    p = rp.path(d)
    x = p.push(noise_at(p.noise.kind, grid(n)).float())
    assert x.dtype == dtype
    assert x.isfinite().all()
    assert d.support.check(x).all()
    values, counts = torch.unique(x.double(), return_counts=True)
    edges = (values[1:] + values[:-1]) / 2
    # Neighbours in the sample with a float between them have no edge in common.
    next_value = torch.nextafter(values[:-1].to(dtype), torch.tensor(math.inf, dtype=dtype)).double()
    neighbours = next_value == values[1:]
    found = counts.cumsum(0)[:-1].double() / n
    off = (found - cdf(edges)).abs()[neighbours]
    assert neighbours.sum() > 5
    assert off.max() < 2 / n + 2.0**-20


# Maps with one fault each, which the grid must see.
FAULTS = {
    "a branch constant": lambda x, p: torch.where(p > 0.7, x + 3e-5, x),
    "a clamp": lambda x, p: x.clamp(max=5.0),
    "a scale of 1.00001": lambda x, p: 1.00001 * x,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_grid_sees_small_faults(fault):
    p = grid(2**16)
    x = torch.logit(p)
    assert (torch.sigmoid(x) - p).abs().max() < 2.0**-50
    wrong = FAULTS[fault](x, p)
    room = 16 * torch.finfo(torch.float32).eps * wrong.abs()
    off = torch.maximum(torch.sigmoid(wrong - room) - p, p - torch.sigmoid(wrong + room))
    assert off.max() > 2.0**-22
