"""What to maximise: bounds and other objectives, per datum, in nats."""

from reparam.objectives.elbo import analytic, elbo, sampled, sticking
from reparam.objectives.importance import iwae

__all__ = ["analytic", "elbo", "iwae", "sampled", "sticking"]
