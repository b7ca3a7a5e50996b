"""What to maximise: bounds and other objectives, per datum, in nats."""

from reparam.objectives.elbo import analytic, elbo, sampled, sticking
from reparam.objectives.importance import dreg, iwae, stl, vimco
from reparam.objectives.policy import gae, ppo_clip, ppo_value, reinforce
from reparam.objectives.renyi import renyi
from reparam.objectives.soft_actor_critic import sac_actor, sac_critic, sac_target, sac_temperature
from reparam.objectives.wake_sleep import Wake, sleep_phase, wake_phase

__all__ = [
    "Wake",
    "analytic",
    "dreg",
    "elbo",
    "gae",
    "iwae",
    "ppo_clip",
    "ppo_value",
    "reinforce",
    "renyi",
    "sac_actor",
    "sac_critic",
    "sac_target",
    "sac_temperature",
    "sampled",
    "sleep_phase",
    "sticking",
    "stl",
    "vimco",
    "wake_phase",
]
