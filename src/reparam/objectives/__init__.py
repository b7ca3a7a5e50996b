"""What to maximise: bounds and other objectives, per datum, in nats."""

from reparam.objectives.elbo import analytic, elbo, sampled, sticking
from reparam.objectives.importance import dreg, iwae, stl, vimco
from reparam.objectives.renyi import renyi
from reparam.objectives.wake_sleep import Wake, sleep_phase, wake_phase

__all__ = [
    "Wake",
    "analytic",
    "dreg",
    "elbo",
    "iwae",
    "renyi",
    "sampled",
    "sleep_phase",
    "sticking",
    "stl",
    "vimco",
    "wake_phase",
]
