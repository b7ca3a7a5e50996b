"""Writes beta.json: both tails of the logit of a Beta variable and its slopes at fixed probability, in high precision.

    python tests/oracle/beta.py

By mpmath's incomplete beta function and differences of it; where that does not converge or its tails do not sum to one, by
tanh-sinh quadrature of the density in the logit, on pieces.
"""

import json
from pathlib import Path

import mpmath as mp
from mpmath.libmp.libhyper import NoConvergence

GRID = [1e-4, 1e-2, 0.3, 1.0, 5.0, 100.0, 1e5]
TAILS = [1e-12, 1e-6, 1e-3, 0.1, 0.5]  # on either side


def log_sigmoid(y):
    return -mp.log1p(mp.exp(-y)) if y > 0 else y - mp.log1p(mp.exp(y))


def tail_moments(a, b, y, sign):
    """Integrals over the tail, of the density over that at `y`, times 1, log x and log(1 - x) over their values at `y`."""
    a, b, y = mp.mpf(a), mp.mpf(b), mp.mpf(y)
    x1, x0 = log_sigmoid(y), log_sigmoid(-y)

    def ratios(s):
        t = y + sign * s
        return log_sigmoid(t) - x1, log_sigmoid(-t) - x0

    def fall(s):
        l1, l0 = ratios(s)
        return a * l1 + b * l0

    rate = b if sign > 0 else a
    ends = {mp.mpf(0)}
    for scale in (1, 1 / mp.sqrt(a + b + 1), 1 / rate, 1 / (a + b)):
        ends |= {scale * k for k in (mp.mpf(1) / 4, 1, 3, 9, 27, 100)}
    knee = mp.log((a + 1) / (b + 1))
    for place in (0, knee, mp.log(a / b)):
        for width in (-8, -2, 0, 2, 8):
            s = sign * (place + width / mp.sqrt(min(a, b) + 1) - y)
            if s > 0:
                ends.add(s)
    ends = sorted(ends)
    ends = [s for i, s in enumerate(ends) if i == 0 or s - ends[i - 1] > min(s / 50, 1)]
    top = max(fall(s) for s in ends)
    kept = [s for i, s in enumerate(ends) if i == 0 or fall(ends[i - 1]) > top - 100]
    if fall(kept[-1]) > top - 100:
        kept.append(mp.inf)

    def moment(pick):
        return mp.quad(lambda s: pick(*ratios(s)) * mp.exp(fall(s)), kept)

    return [moment(lambda l1, l0: 1), moment(lambda l1, l0: l1), moment(lambda l1, l0: l0)]


def truth(a, b, y):
    """`log I, log(1 - I), dy/da, dy/db`."""
    try:
        return by_function(a, b, y)
    except (NoConvergence, ValueError):
        return by_quadrature(a, b, y)


def by_function(a, b, y):
    with mp.workdps(60):
        a, b, y = mp.mpf(a), mp.mpf(b), mp.mpf(y)
        x, rest = 1 / (1 + mp.exp(-y)), 1 / (1 + mp.exp(y))

        def tails(a, b):
            return mp.betainc(a, b, 0, x, regularized=True), mp.betainc(b, a, 0, rest, regularized=True)

        both = tails(a, b)
        if abs(sum(both) - 1) > mp.mpf(10) ** -30:
            raise ValueError
        smaller = both.index(min(both))
        h = mp.mpf(10) ** -20
        by_a = (tails(a * (1 + h), b)[smaller] - tails(a * (1 - h), b)[smaller]) / (2 * h * a)
        by_b = (tails(a, b * (1 + h))[smaller] - tails(a, b * (1 - h))[smaller]) / (2 * h * b)
        log_beta = mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)
        density = mp.exp(a * log_sigmoid(y) + b * log_sigmoid(-y) - log_beta) * (1 if smaller else -1)
        return [float(v) for v in (mp.log(both[0]), mp.log(both[1]), by_a / density, by_b / density)]


def by_quadrature(a, b, y):
    with mp.workdps(30):
        lower, upper = tail_moments(a, b, y, -1), tail_moments(a, b, y, 1)
        whole = lower[0] + upper[0]
        a, b, y = mp.mpf(a), mp.mpf(b), mp.mpf(y)
        x1, x0 = log_sigmoid(y), log_sigmoid(-y)
        # From the smaller tail, where less cancels.
        side, sign = (lower, 1) if lower[0] < upper[0] else (upper, -1)
        by_a = sign * ((mp.psi(0, a) - mp.psi(0, a + b) - x1) * side[0] - side[1])
        by_b = sign * ((mp.psi(0, b) - mp.psi(0, a + b) - x0) * side[0] - side[2])
        return [float(v) for v in (mp.log(lower[0] / whole), mp.log(upper[0] / whole), by_a, by_b)]


def points():
    """Quantiles on the grid (to a few digits, found by the code that is tested) and both sides of the switch between tails."""
    import torch

    from reparam.special.beta import logit_beta_quantile

    for a in GRID:
        for b in GRID:
            for tail in TAILS:
                for hazard in {-mp.log(tail), -mp.log1p(-tail)}:
                    y = float(logit_beta_quantile(*(torch.tensor(float(v), dtype=torch.float64) for v in (a, b, hazard))))
                    yield a, b, float(f"{y:.6g}")
            switch = float(mp.log1p(a) - mp.log1p(b))
            for side in (-1e-9, 1e-9):
                yield a, b, switch + side


if __name__ == "__main__":
    rows = [[*point, *truth(*point)] for point in sorted(set(points()))]
    text = "[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n"
    (Path(__file__).parent / "beta.json").write_text(text)
