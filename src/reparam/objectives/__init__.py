"""What to maximise: bounds and other objectives, per datum, in nats."""

from reparam.objectives.elbo import analytic, elbo, sampled, sticking

__all__ = ["analytic", "elbo", "sampled", "sticking"]
