"""Coupled rows."""

import reparam as rp
from cases.estimators.row import COINS, DELTA, PHI, THETA, Row, coin, coins, interaction, toy

q = min(THETA, 1 - THETA)
ROWS = {
    "DisARM, coin": Row(
        rp.DisARM(), coin, (PHI,), toy, {"n": 2, "variance": (DELTA**2 * q * (1 - q) ** 2 * (0.5 - q),), "detects": 0.01}
    ),
    "DisARM, coins": Row(rp.DisARM(), coins, (COINS,), interaction, {"n": 4}),
}
