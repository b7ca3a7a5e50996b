"""Actions of recorded sequences: as numbers for a network, and as a law that more of them can be drawn from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Normal
from torch.nn.functional import one_hot

from reparam.noise import Source
from reparam.paths import sample

__all__ = ["Actions"]


class Actions(nn.Module):
    """Actions of a shape: numbers, which a network sees standardised, or choices, which it sees one-hot.

    What `sample` draws is a first-order law of the recorded ones. Of numbers, each by itself, with the mean, the standard deviation
    and the correlation r of successive actions that were recorded, and within their range:

        a_t = r a_(t-1) + sqrt(1 - r^2) eps_t    (standardised)

    Of choices, each by itself, a Markov chain with the frequencies that were recorded, half a count added to each.

    Args:
        shape: of one action: (A,) numbers; () or (K,) for choices; None for sequences without actions.
        choices: how many categories each choice has; none for numbers.

    Attributes:
        width: numbers that encode an action.

    Example:
        >>> import torch
        >>> actions = Actions((), choices=(3,))
        >>> first = torch.zeros(10, 5, dtype=torch.bool)
        >>> first[:, 0] = True
        >>> actions.fit(torch.ones(10, 5, dtype=torch.int64), first, torch.ones_like(first))
        >>> actions(torch.tensor([0, 2]))
        tensor([[1., 0., 0.],
                [0., 0., 1.]])
        >>> actions.sample(4, 6).shape
        torch.Size([4, 6])
    """

    shift: Tensor
    scale: Tensor
    correlation: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, shape: Sequence[int] | None, choices: Sequence[int] = ()) -> None:
        super().__init__()
        self.shape = torch.Size((0,) if shape is None else shape)
        self.choices = tuple(choices)
        self.width = sum(self.choices) if self.choices else self.shape[0]
        if self.choices:
            for i, n in enumerate(self.choices):
                self.register_buffer(f"often{i}", torch.full((n,), 1.0 / n))
                self.register_buffer(f"next{i}", torch.full((n, n), 1.0 / n))
        else:
            for name, value in {"shift": 0.0, "scale": 1.0, "correlation": 0.0, "low": -1.0, "high": 1.0}.items():
                self.register_buffer(name, torch.full(self.shape, value))

    def forward(self, action: Tensor) -> Tensor:
        """Encoded actions, rows + (width,), of rows + shape."""
        if not self.choices:
            return (action - self.shift) / self.scale
        each = action.long().reshape(*action.shape[: action.dim() - len(self.shape)], len(self.choices)).unbind(-1)
        codes = torch.cat([one_hot(a, n) for a, n in zip(each, self.choices, strict=True)], -1)
        return codes.to(self.get_buffer("often0").dtype)

    @torch.no_grad()
    def fit(self, action: Tensor, first: Tensor, mask: Tensor) -> None:
        """Take statistics from recorded actions, N x T + shape; where `first`, none was taken, and where not `mask`, nothing is."""
        taken = mask & ~first
        if not self.width or not taken.any():
            return
        pairs = taken[:, 1:] & taken[:, :-1]
        before, after = action[:, :-1][pairs], action[:, 1:][pairs]
        if self.choices:
            each = zip(
                *(a.reshape(len(a), len(self.choices)).long().unbind(1) for a in (action[taken], before, after)), strict=True
            )
            for i, (n, (a, b, c)) in enumerate(zip(self.choices, each, strict=True)):
                often = torch.bincount(a, minlength=n) + 0.5
                follow = torch.bincount(b * n + c, minlength=n * n).reshape(n, n) + 0.5
                self.get_buffer(f"often{i}").copy_(often / often.sum())
                self.get_buffer(f"next{i}").copy_(follow / follow.sum(1, keepdim=True))
            return
        given = action[taken].double()
        std, mean = torch.std_mean(given, 0, correction=0)
        std = torch.where(std > 0, std, 1.0)
        self.shift.copy_(mean)
        self.scale.copy_(std)
        self.low.copy_(given.amin(0))
        self.high.copy_(given.amax(0))
        if len(before):
            together = ((before.double() - mean) * (after.double() - mean)).mean(0) / std.square()
            self.correlation.copy_(together.clamp(-1.0, 1.0))

    @torch.no_grad()
    def sample(self, n: int, length: int, source: Source | None = None) -> Tensor:
        """`n` sequences of actions such as were recorded, n x length + shape."""
        drawn: list[Tensor] = []
        for t in range(length):
            drawn.append(self._follow(drawn[-1] if t else None, n, source))
        return torch.stack(drawn, 1) if drawn else torch.zeros(n, 0, *self.shape, device=next(self.buffers()).device)

    def _follow(self, before: Tensor | None, n: int, source: Source | None) -> Tensor:
        if self.choices:
            old = None if before is None else before.reshape(n, len(self.choices)).unbind(1)
            each = []
            for i in range(len(self.choices)):
                often, follow = self.get_buffer(f"often{i}"), self.get_buffer(f"next{i}")
                p = often.expand(n, -1) if old is None else follow[old[i]]
                each.append(sample(Categorical(probs=p, validate_args=False), source=source))
            return torch.stack(each, 1).reshape(n, *self.shape)
        if not self.width:
            return self.shift.expand(n, 0)
        loc, scale = self.shift.expand(n, -1), self.scale.expand(n, -1)
        if before is not None:
            loc = loc + self.correlation * (before - loc)
            scale = scale * (1 - self.correlation.square()).sqrt()
        wide = scale.clamp(min=torch.finfo(scale.dtype).tiny)
        return torch.clamp(sample(Normal(loc, wide, validate_args=False), source=source), self.low, self.high)

    def extra_repr(self) -> str:
        return f"shape={tuple(self.shape)}" + (f", choices={self.choices}" if self.choices else "")
