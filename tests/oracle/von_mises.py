"""The truths of tests/test_circular.py, by mpmath at 30 digits.

    python tests/oracle/von_mises.py

writes von_mises.json beside it. For the density `exp(kappa cos t) sin(t)**n / Z` on (0, pi) a row holds n, kappa, the angle t,
the tails (`F` below and `Q` above t), the slope dt/dkappa at fixed probability, the mean distance of the cosine from one, its
derivative in kappa, and log Z - kappa.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import mpmath as mp

mp.mp.dps = 30
FILE = Path(__file__).with_suffix(".json")


def middle(kappa: float, n: int) -> tuple[float, float]:
    """Where the density is, and how wide."""
    a = (n + 1) / 2
    t = 2 * math.asin(math.sqrt(a / (kappa + a + math.hypot(kappa, a))))
    return t, 1 / math.sqrt(kappa * math.cos(t) + n / math.sin(t) ** 2 + 0.2)


def grid():
    for n in (0, 1, 3, 48, 998):
        for kappa in (0.0, 0.3, 2.0, 10.0, 100.0, 1e4, 1e8):
            at, width = middle(kappa, n)
            for z in (-4.0, -0.4, 0.7, 2.0, 4.5):
                t = at + z * width if z > 0 else at * math.exp(z * width / at)
                if t < 3.1:
                    yield n, kappa, t


def moments(kappa: float, n: int, t: float):
    """Integrals of the density times 1 and (cos - 1), below and above t."""
    kappa, t = mp.mpf(kappa), mp.mpf(t)
    at, width = (mp.mpf(v) for v in middle(float(kappa), n))
    cuts = sorted({mp.mpf(0), t, mp.pi, *(c for k in (-24, -12, -6, -3, 0, 3, 6, 12, 24, 48) if 0 < (c := at + k * width) < mp.pi)})
    scale = kappa * (mp.cos(at) - 1) + n * mp.log(mp.sin(at))

    def density(s):
        return mp.exp(kappa * (mp.cos(s) - 1) + n * mp.log(mp.sin(s)) - scale) if 0 < s < mp.pi else mp.mpf(n == 0)

    def integral(f, low, high):
        inside = [c for c in cuts if low <= c <= high]
        return mp.quad(f, inside, method="gauss-legendre", maxdegree=6)

    def deficit(s):
        return density(s) * -2 * mp.sin(s / 2) ** 2

    return [integral(f, *ends) for f in (density, deficit) for ends in ((0, t), (t, mp.pi))], scale, density(t), integral, deficit


def row(n: int, kappa: float, t: float) -> dict[str, object]:
    (below, above, deficit_below, deficit_above), scale, density, integral, deficit = moments(kappa, n, t)
    total = below + above
    mean = (deficit_below + deficit_above) / total
    # On the smaller tail, so that nothing cancels.
    slope = (deficit_above - mean * above) / density if above < below else -(deficit_below - mean * below) / density
    square = integral(lambda s: -deficit(s) * 2 * mp.sin(s / 2) ** 2, 0, mp.pi) / total
    values = {
        "F": below / total,
        "Q": above / total,
        "slope": slope,
        "mean": -mean,
        "spread": square - mean**2,
        "log": mp.log(total) + scale,
    }
    return {"n": n, "kappa": kappa, "t": t} | {name: mp.nstr(value, 20) for name, value in values.items()}


if __name__ == "__main__":
    FILE.write_text("[\n" + ",\n".join(json.dumps(row(*point)) for point in grid()) + "\n]\n")
