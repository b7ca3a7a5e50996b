"""The signal-to-noise ratio of gradients while a model trains."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["GradientMeter"]


class GradientMeter:
    """Signal to noise of each group's gradient, from exponential moving moments over the steps of a training loop.

    With g the gradient of a group, all its elements together, and weights w_i that fall by `decay` a step and sum to one,

        m = Σ w_i g_i,   noise² = (Σ w_i ‖g_i‖² − ‖m‖²) / (1 − Σ w_i²),   signal² = ‖m‖² − Σ w_i² noise²,

    and the SNR is signal / noise; both are unbiased where the steps are alike. They are not quite: what varies is all of the
    noise of a step (its minibatch, its samples, dropout) and the drift of the gradient while the parameters move. So the SNR
    is that of one step's gradient as a direction to go on in, and not that of an estimator at a point, which
    `rp.diagnostics.gradient_moments` gives. Below 1 / √steps it cannot be told from zero, `steps` being about
    (1 + decay) / (1 − decay).

    It costs one copy of the gradients' memory, a pass over them at each update, and no wait for the device until it is read.
    A step with a gradient that is not finite (mixed precision skips it) is left out. Unscale gradients first where they are scaled.

    Args:
        groups: a module (a group for each child that has parameters, and one for its own), or parameters by group name: a module or
            an iterable of tensors each.
        decay: the weight of the past.

    Example:
        >>> import torch, reparam as rp
        >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
        >>> meter = rp.diagnostics.GradientMeter(model)
        >>> for _ in range(3):
        ...     model.zero_grad()
        ...     model(torch.ones(8, 3)).sum().backward()
        ...     meter.update()
        >>> meter.snr()                                       # the same gradient each time
        {'0': inf, '2': inf}
    """

    def __init__(self, groups: nn.Module | Mapping[str, nn.Module | Iterable[Tensor]], decay: float = 0.99) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay is the weight of the past, from 0 to less than 1; got {decay}")
        self.decay = decay
        self._groups = {name: found for name, given in _named(groups).items() if (found := _trained(given))}
        if not self._groups:
            raise ValueError("no group has a parameter that requires a gradient")
        self._means = {name: [torch.zeros_like(p) for p in group] for name, group in self._groups.items()}
        # Sums over the steps of: weights, squared weights, weighted squared norms.
        self._sums = {name: torch.zeros(3, dtype=torch.float32, device=group[0].device) for name, group in self._groups.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the gradients that lie in the parameters' `grad`, after `backward` and before clipping; missing ones are zero."""
        for name, group in self._groups.items():
            gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in group]
            if any(g.is_sparse for g in gradients):
                raise ValueError(f"the group {name!r} has sparse gradients, which are not measured: leave it out")
            square = sum((g.float().square().sum().to(self._sums[name].device) for g in gradients), torch.zeros(()))
            fine = square.isfinite()
            new, sums = 1 - self.decay, self._sums[name]
            added = torch.stack([torch.tensor(new, device=sums.device), torch.tensor(new**2, device=sums.device), new * square])
            kept = torch.tensor([self.decay, self.decay**2, self.decay], device=sums.device)
            sums.copy_(torch.where(fine, kept * sums + added, sums))
            for mean, g in zip(self._means[name], gradients, strict=True):
                mean.copy_(torch.where(fine.to(mean.device), mean.lerp(g.to(mean.dtype), new), mean))

    def snr(self) -> dict[str, float]:
        """By group: infinite without noise, NaN before the second update, and 0 where noise drowns the signal."""
        return {name: _ratio(signal, noise) for name, (signal, noise) in self.moments().items()}

    def moments(self) -> dict[str, tuple[float, float]]:
        """By group: the squared length of the expected gradient (negative when noise drowns it), and its total variance a step."""
        found = {}
        for name, means in self._means.items():
            mass, squares, second = self._sums[name].double().tolist()
            if mass == 0 or squares >= mass**2 * (1 - 1e-6):  # one step says nothing of noise
                found[name] = (float("nan"), float("nan"))
                continue
            share = squares / mass**2
            length = sum(m.double().square().sum().item() for m in means) / mass**2
            spread = second / mass - length
            # What is left when equal numbers are subtracted in single precision is no noise.
            noise = spread / (1 - share) if spread > 1e-5 * length else 0.0
            found[name] = (length - share * noise, noise)
        return found

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` takes; tensors in a nested dict."""
        return {
            "sums": {name: sums.clone() for name, sums in self._sums.items()},
            "means": {name: [mean.clone() for mean in means] for name, means in self._means.items()},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state of a meter of the same groups."""
        shapes = {name: [tuple(m.shape) for m in means] for name, means in state["means"].items()}
        mine = {name: [tuple(m.shape) for m in means] for name, means in self._means.items()}
        if shapes != mine:
            raise ValueError(f"the state is of the groups {', '.join(shapes)} and other shapes; this meter has {', '.join(mine)}")
        for name, sums in self._sums.items():
            sums.copy_(state["sums"][name])
            for mean, saved in zip(self._means[name], state["means"][name], strict=True):
                mean.copy_(saved)


def _named(groups: object) -> dict[str, nn.Module | Iterable[Tensor]]:
    if isinstance(groups, Mapping):
        return dict(groups)
    if not isinstance(groups, nn.Module):
        raise TypeError(f"groups is a module, or a dict of modules or parameters by name; got {type(groups).__name__}")
    found: dict[str, nn.Module | Iterable[Tensor]] = dict(groups.named_children())
    own = list(groups.parameters(recurse=False))
    return {"own": own} | found if own else found


def _trained(group: nn.Module | Iterable[Tensor]) -> list[Tensor]:
    found = list(group.parameters()) if isinstance(group, nn.Module) else list(group)
    return [p for p in found if p.requires_grad]


def _ratio(signal: float, noise: float) -> float:
    if noise != noise:
        return noise
    return (max(signal, 0.0) / noise) ** 0.5 if noise else float("inf")
