"""Quadrature: no noise, so that draws agree with the exact answer to rounding."""

from torch.distributions import Exponential, Independent, Normal

from cases.estimators.row import Row
from reparam.estimators import Quadrature


def second_moment(loc, scale):
    return (loc - 2.0) ** 2 + scale**2


def independent(loc):
    return Independent(Normal(loc, 0.5), 1)


MU, SIGMA, RATE, LOCS = 0.7, 0.5, 2.5, (0.3, -0.8)
ROWS = {
    "Quadrature, square": Row(
        Quadrature(),
        Normal,
        (MU, SIGMA),
        lambda z: (z - 2.0) ** 2,
        {
            "n": 1,
            "exact": second_moment,
            "gradient": (2 * (MU - 2.0), 2 * SIGMA),
            "variance": (0.0, 0.0),
            "second": True,
            "draws": 20,
            "detects": 1e-8,
        },
    ),
    "Quadrature, exponential": Row(
        Quadrature(400),
        Exponential,
        (RATE,),
        lambda z: z**2,
        {
            "n": 3,
            "exact": lambda rate: 2 / rate**2,
            "gradient": (-4 / RATE**3,),
            "variance": (0.0,),
            "second": True,
            "draws": 20,
            "detects": 1e-8,
        },
    ),
    "Quadrature, two components": Row(
        Quadrature(40),
        independent,
        (LOCS,),
        lambda z: z.prod(-1) + z[..., 0] ** 2,
        {
            "n": 1,
            "exact": lambda loc: loc.prod(-1) + loc[..., 0] ** 2 + 0.25,
            "gradient": ((LOCS[1] + 2 * LOCS[0], LOCS[0]),),
            "second": True,
            "draws": 20,
            "detects": 1e-8,
        },
    ),
}
