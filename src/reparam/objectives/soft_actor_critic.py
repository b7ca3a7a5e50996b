"""Soft actor-critic: a policy that is paid for its entropy, as functions of tensors, step by step.

The objectives are to be MAXIMISED: the loss is minus their mean. Each trains one part, and what belongs to the others is
constant to it; only `sac_actor` needs the gradient of the critic in the action.
"""

from __future__ import annotations

import torch
from torch import Tensor

from reparam.objectives.policy import boolean, same_shape

__all__ = ["sac_actor", "sac_critic", "sac_target", "sac_temperature"]


def sac_actor(log_prob: Tensor, q_value: Tensor, temperature: float | Tensor) -> Tensor:
    """The soft value of an action that the policy drew, Q(state, action) − α log π(action | state). To be maximised.

    Its gradient is pathwise: draw the action with `rp.sample_and_log_prob`. It reaches the critic too; step the actor's
    optimiser only.

    Args:
        log_prob: of the action, of any shape.
        q_value: of the action, of the same shape: the smaller of two critics, `torch.minimum(q1, q2)`.
        temperature: α; a constant here.

    Raises:
        ValueError: when the shapes differ, or the temperature is not one number.

    Source: Haarnoja et al., arXiv:1801.01290, arXiv:1812.05905.

    Example:
        >>> import torch, reparam as rp
        >>> from torch.distributions import Normal, TanhTransform, TransformedDistribution
        >>> mu = torch.zeros(10, requires_grad=True)
        >>> action, log_prob = rp.sample_and_log_prob(TransformedDistribution(Normal(mu, 1.0), TanhTransform()))
        >>> loss = -rp.sac_actor(log_prob, -((action - 0.3) ** 2), temperature=0.2).mean()
        >>> loss.backward()
    """
    same_shape(log_prob=log_prob, q_value=q_value)
    return q_value - _temperature(temperature) * log_prob


def sac_target(
    reward: Tensor,
    next_log_prob: Tensor,
    next_q_value: Tensor,
    terminated: Tensor,
    temperature: float | Tensor,
    *,
    discount: float = 0.99,
) -> Tensor:
    """What a soft critic is to predict, r + γ (Q(next) − α log π(next)), without what follows a terminal step; a constant.

    Args:
        reward: of each step, of any shape.
        next_log_prob: of an action that the policy draws in the next state, of the same shape.
        next_q_value: of that action by the slow critics, the smaller of two, of the same shape.
        terminated: whether the episode came to its end with this step, boolean, of the same shape; not where it was cut short.
        temperature: α.
        discount: γ.

    Raises:
        ValueError: when the shapes differ, or the temperature is not one number.
        TypeError: when `terminated` is not boolean.

    Source: Haarnoja et al., arXiv:1812.05905.

    Example:
        >>> import torch, reparam as rp
        >>> one = torch.ones(2)
        >>> rp.sac_target(one, 0 * one, 2 * one, torch.tensor([False, True]), temperature=0.2, discount=0.5)
        tensor([2., 1.])
    """
    same_shape(reward=reward, next_log_prob=next_log_prob, next_q_value=next_q_value)
    soft = next_q_value.detach() - _temperature(temperature) * next_log_prob.detach()
    return reward.detach() + discount * torch.where(boolean(terminated, reward, "terminated"), 0.0, soft)


def sac_critic(q_value: Tensor, target: Tensor) -> Tensor:
    """The fit of a critic, −½ (Q − target)², with the target of `sac_target`. To be maximised; add it up over the critics.

    Raises:
        ValueError: when the shapes differ.

    Example:
        >>> import torch, reparam as rp
        >>> rp.sac_critic(torch.tensor([1.0]), torch.tensor([3.0]))
        tensor([-2.])
    """
    same_shape(q_value=q_value, target=target)
    return -0.5 * (q_value - target.detach()) ** 2


def sac_temperature(temperature: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    """The objective α (log π(action) + target) of the temperature alone, to be MAXIMISED; of the shape of `log_prob`.

    It raises α while the entropy, −E log π, is below the target, and lowers it above.

    Args:
        temperature: α, one positive number that learns, such as `log_alpha.exp()`.
        log_prob: of actions that the policy drew; a constant here.
        target_entropy: in nats; for continuous actions usually minus their number of dimensions.

    Raises:
        ValueError: when the temperature is not one number.

    Source: Haarnoja et al., arXiv:1812.05905.

    Example:
        >>> import torch, reparam as rp
        >>> log_alpha = torch.zeros((), requires_grad=True)
        >>> rp.sac_temperature(log_alpha.exp(), torch.tensor([3.0]), target_entropy=-1.0).mean().backward()
        >>> log_alpha.grad            # the entropy is -3: too low, so alpha should grow
        tensor(2.)
    """
    if not isinstance(temperature, Tensor) or temperature.numel() != 1:
        raise ValueError(f"the temperature that learns is a tensor of one number, got {temperature!r}")
    return temperature.reshape(()) * (log_prob.detach() + target_entropy)


def _temperature(temperature: float | Tensor) -> float | Tensor:
    if not isinstance(temperature, Tensor):
        return temperature
    if temperature.numel() != 1:
        raise ValueError(f"the temperature is one number, got shape {tuple(temperature.shape)}")
    return temperature.detach().reshape(())
