"""Policy objectives: what reinforcement learning maximises, as functions of tensors, step by step.

Everything here but `gae` is to be MAXIMISED: the loss is minus its mean. What is a target, an advantage or an
old log-probability is constant to the gradient, whether it was detached or not. Tensors must have equal shapes: `(B,)` against
`(B, 1)` would broadcast to every pair, silently.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["boolean", "gae", "ppo_clip", "ppo_value", "reinforce", "same_shape"]


def reinforce(log_prob: Tensor, advantage: Tensor) -> Tensor:
    """The policy gradient: the advantage A of each action, with the gradient A ∇ log π(action). To be maximised.

    Args:
        log_prob: log π(action | state), of the actions that were taken; of any shape.
        advantage: how much better than expected each was, of the same shape: a return less a baseline, or that of `gae`.

    Raises:
        ValueError: when the shapes differ.

    Source: Williams (1992), "Simple statistical gradient-following algorithms"; Sutton et al. (2000).

    Example:
        >>> import torch, reparam as rp
        >>> logits = torch.zeros(3, requires_grad=True)
        >>> policy = torch.distributions.Categorical(logits=logits)
        >>> action = policy.sample((100,))
        >>> reward = (action == 2).float()
        >>> loss = -rp.reinforce(policy.log_prob(action), reward - reward.mean()).mean()
        >>> loss.backward()
    """
    same_shape(log_prob=log_prob, advantage=advantage)
    return (log_prob - log_prob.detach()).exp() * advantage.detach()


def ppo_clip(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, *, clip: float = 0.2) -> Tensor:
    """The clipped surrogate, min(r A, clamp(r, 1 − ε, 1 + ε) A) with r = π(action) / π_old(action). To be maximised.

    Where the policy is the old one, its gradient is that of `reinforce`. It is zero where an action has become more probable
    than 1 + ε times with A > 0, or less than 1 − ε times with A < 0. For an entropy bonus
    add c times `policy.entropy()`.

    Args:
        log_prob: log π(action | state) under the policy that learns; of any shape.
        old_log_prob: under the policy that acted, of the same shape.
        advantage: of each action, of the same shape.
        clip: ε.

    Raises:
        ValueError: when the shapes differ, or the clip is not above 0.

    Source: Schulman et al., arXiv:1707.06347.

    Example:
        >>> import torch, reparam as rp
        >>> log_prob = torch.tensor([0.0, 0.5, 0.5], requires_grad=True)
        >>> rp.ppo_clip(log_prob, torch.zeros(3), torch.tensor([1.0, 1.0, -1.0])).sum().backward()
        >>> log_prob.grad[:2]
        tensor([1., 0.])
    """
    same_shape(log_prob=log_prob, old_log_prob=old_log_prob, advantage=advantage)
    _positive(clip, "clip")
    advantage = advantage.detach()
    log_ratio = log_prob - old_log_prob.detach()
    ratio = log_ratio.detach().exp()
    flat = torch.where(advantage >= 0, ratio > 1 + clip, ratio < 1 - clip)
    # The exponential of what is clipped stays out of the graph, where its overflow would be NaN.
    free = torch.where(flat, 0.0, log_ratio).exp()
    return torch.where(flat, ratio.clamp(1 - clip, 1 + clip), free) * advantage


def ppo_value(value: Tensor, target: Tensor, *, old_value: Tensor | None = None, clip: float = 0.2) -> Tensor:
    """The fit of a value function, −½ (V − target)², which PPO clips to a step of ε from the old values. To be maximised.

    With `old_value` it is −½ max((V − target)², (V_old + clamp(V − V_old, −ε, ε) − target)²).

    Args:
        value: V(state), of any shape.
        target: the return of each state, of the same shape: `gae` plus the values that it was given.
        old_value: V(state) before the update, of the same shape; by default nothing is clipped.
        clip: ε, in units of the value.

    Raises:
        ValueError: when the shapes differ, or the clip is not above 0.

    Example:
        >>> import torch, reparam as rp
        >>> rp.ppo_value(torch.tensor([1.0]), torch.tensor([3.0]))
        tensor([-2.])
    """
    same_shape(value=value, target=target, **({} if old_value is None else {"old_value": old_value}))
    _positive(clip, "clip")
    target = target.detach()
    error = (value - target) ** 2
    if old_value is not None:
        old_value = old_value.detach()
        error = torch.maximum(error, (old_value + (value - old_value).clamp(-clip, clip) - target) ** 2)
    return -0.5 * error


def gae(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor | None = None,
    *,
    discount: float = 0.99,
    decay: float = 0.95,
) -> Tensor:
    """Generalised advantages, Aₜ = δₜ + γλ Aₜ₊₁ with δₜ = rₜ + γ V(next state) − V(state); a constant, without gradient.

    λ = 0 is the temporal difference, λ = 1 the discounted return less V. After a step that ended its episode the sum starts
    anew. The value of the next state counts where the episode was cut short, and not where it terminated.

    Args:
        reward: of each step, `time + any`.
        value: of the state each step started from, of the same shape.
        next_value: of the state it led to, before any reset, of the same shape.
        terminated: whether the episode came to its end with this step, boolean, of the same shape.
        truncated: whether it was cut short after this step, likewise.
        discount: γ.
        decay: λ.

    Raises:
        ValueError: when the shapes differ or have no dimension of time, or γ or λ is not in [0, 1].
        TypeError: when `terminated` or `truncated` is not boolean.

    Source: Schulman et al., arXiv:1506.02438.

    Example:
        >>> import torch, reparam as rp
        >>> reward, value, last = torch.ones(3), torch.zeros(3), torch.tensor([False, False, True])
        >>> rp.gae(reward, value, value, last, discount=1.0, decay=1.0)
        tensor([3., 2., 1.])
    """
    same_shape(reward=reward, value=value, next_value=next_value)
    if not reward.dim():
        raise ValueError("gae: time is the first dimension of the tensors, and these are scalars")
    ended = boolean(terminated, reward, "terminated")
    if not (0 <= discount <= 1 and 0 <= decay <= 1):
        raise ValueError(f"gae: discount and decay lie in [0, 1]; got {discount!r} and {decay!r}")
    delta = reward.detach() + discount * torch.where(ended, 0.0, next_value.detach()) - value.detach()
    if truncated is not None:
        ended = ended | boolean(truncated, reward, "truncated")
    advantage, later = [], torch.zeros_like(delta[:1]).squeeze(0) if len(delta) else delta
    for step, last in zip(delta.flip(0), ended.flip(0), strict=True):
        later = step + discount * decay * torch.where(last, 0.0, later)
        advantage.append(later)
    return torch.stack(advantage[::-1]) if advantage else delta


def same_shape(**tensors: Tensor) -> None:
    """Refuse tensors of different shapes, naming each."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            came = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(f"{name} must be a floating-point tensor, got {came}")
    if len({tensor.shape for tensor in tensors.values()}) > 1:
        shapes = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in tensors.items())
        raise ValueError(f"shapes must be equal, since broadcasting would pair every step with others: {shapes}")


def boolean(mask: Tensor, like: Tensor, name: str) -> Tensor:
    """`mask`, refused when it is not a boolean tensor of the shape of the reward."""
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        raise TypeError(f"{name} must be a boolean tensor: compare it, for example done == 1")
    if mask.shape != like.shape:
        raise ValueError(f"{name} has shape {tuple(mask.shape)}, the reward {tuple(like.shape)}: they must be equal")
    return mask


def _positive(clip: float, name: str) -> None:
    if not clip > 0:
        raise ValueError(f"{name} must be above 0, got {clip!r}")
