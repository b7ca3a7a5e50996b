"""Truth for the incomplete gamma functions, by 120-digit arithmetic: `python tests/oracle/gamma.py` writes gamma.json.

A row is `[a, y, log P, log Q, slope, its derivative in a, its derivative in y]` at `x = exp(y)`, where the slope is
`d log x / d a` at fixed probability. The points are floats near quantiles of Gamma(a, 1), and far in both tails.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import mpmath as mp

SHAPES = [1e-6, 1e-4, 1e-3, 1e-2, 0.1, 0.3, 0.7, 1.0, 1.4, 2.2, 3.0, 4.0, 8.0, 12.0, 40.0, 300.0, 1e4, 1e5]
HAZARDS = [1e-12, 1e-6, 1e-4, 1e-2, 0.1, 0.4, 0.69, 1.0, 1.7, 3.0, 7.0, 13.8, 40.0]
FAR = [(0.1, 6.0), (1e-3, 5.0), (5.0, -60.0), (300.0, 0.0), (300.0, 7.0), (1e4, 7.0), (1e4, 9.4), (0.5, -700.0), (40.0, 5.5)]


def lower(a: mp.mpf, x: mp.mpf) -> mp.mpf:
    """P(a, x) by its series of positive terms."""
    term = total = mp.mpf(1)
    n = 0
    while term > total * mp.eps:
        n += 1
        term *= x / (a + n)
        total += term
    return total * mp.exp(a * mp.log(x) - x - mp.loggamma(a + 1))


def row(shape: float, log_x: float) -> list[float]:
    # Enough digits for an upper tail that is one minus the lower one.
    small = max(0.0, math.exp(log_x) - shape * log_x + math.lgamma(shape))
    with mp.workdps(120 + int(small / math.log(10))):
        a, y = mp.mpf(shape), mp.mpf(log_x)
        x = mp.exp(y)
        step = a * mp.mpf(10) ** -25
        below, here, above = (lower(a + k * step, x) for k in (-1, 0, 1))
        density = mp.exp(a * y - x - mp.loggamma(a))
        first, second = (above - below) / (2 * step), (above - 2 * here + below) / step**2
        away = y - mp.digamma(a)
        slope = -first / density
        return [
            shape,
            log_x,
            float(mp.log(here)),
            float(mp.log1p(-here)),
            float(slope),
            float(-second / density - slope * away),
            float((x - a) * slope - away),
        ]


def points() -> list[tuple[float, float]]:
    import torch

    from reparam.special.gamma import log_gamma_quantile

    shape, hazard = torch.meshgrid(
        torch.tensor(SHAPES, dtype=torch.float64), torch.tensor(HAZARDS, dtype=torch.float64), indexing="ij"
    )
    near = log_gamma_quantile(shape, hazard)
    return [*zip(shape.flatten().tolist(), near.flatten().tolist(), strict=True), *FAR]


if __name__ == "__main__":
    rows = [row(a, y) for a, y in points()]
    text = ",\n".join(json.dumps(r) for r in rows)
    Path(__file__).with_suffix(".json").write_text(f"[\n{text}\n]\n")
