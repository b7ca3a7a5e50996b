"""Choices as coins: a binary tree that is walked from its root to one of K leaves, a coin at every node."""

from __future__ import annotations

import torch
from torch import Tensor

from reparam.estimators.factors import Factors

__all__ = ["nodes", "walk"]

# The tree is a heap: node i has the children 2i + 1, where its coin is 0, and 2i + 2, where it is 1. Its K - 1 inner nodes come
# first, the leaves, which are the categories, last.


def nodes(f: Factors) -> Tensor:
    """The logit of the coin at each inner node, `batch + inner + (K - 1,)`; a coin is a tree of one node.

    Of one node it is the log-odds of what is below it on either side, so the K − 1 coins, all independent, give the choice.

    Source: Dong et al., arXiv:2106.08056.
    """
    if f.kind == "coins":
        return f.logits.unsqueeze(-1)
    # A category that cannot come: two of them side by side must not give a difference of infinities.
    below = f.logits.clamp(min=torch.finfo(f.logits.dtype).min / 4)
    first = below.shape[-1] - 1  # of the nodes in `below`
    coins: list[Tensor] = []
    while first > 0:
        parents = first // 2
        left, right = below[..., 2 * parents + 1 - first : first + 1].unflatten(-1, (-1, 2)).unbind(-1)
        coins.insert(0, right - left)
        below = torch.cat([torch.logaddexp(left, right), below], -1)
        first = parents
    return torch.cat(coins, -1) if coins else below[..., :0]


def walk(f: Factors, coins: Tensor) -> tuple[Tensor, Tensor]:
    """Where the coins at the nodes lead: the outcome of each factor, and 1 at every node on the way and 0 elsewhere.

    Args:
        f: the factors.
        coins: zeros and ones, `rows + batch + inner + (K - 1,)`.
    """
    inner = coins.shape[-1]
    if f.kind == "coins":
        return coins.squeeze(-1), torch.ones_like(coins)
    reached = coins.new_ones((*coins.shape[:-1], 1))
    first = 0  # of the nodes whose children are not in `reached` yet
    while first < inner:
        last = min(reached.shape[-1], inner)
        here, coin = reached[..., first:last], coins[..., first:last]
        reached = torch.cat([reached, torch.stack([here * (1 - coin), here * coin], -1).flatten(-2)], -1)
        first = last
    return reached[..., inner:].argmax(-1), reached[..., :inner]
