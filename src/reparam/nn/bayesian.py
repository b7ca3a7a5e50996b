"""Any module as a Bayesian network: its parameters become means of normal laws, with scales that are learned beside them."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from numbers import Real
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack
from torch.distributions import Distribution, Normal
from torch.func import functional_call

from reparam.nn.calls import data_count, in_all_places, layers, places, routes
from reparam.nn.flipout import Forward, NoisyLayer, Route
from reparam.nn.weight_prior import WeightPrior, divergence, fan_in
from reparam.noise import Source
from reparam.paths import rsample
from reparam.paths.parameters import map_parameters
from reparam.paths.path import bounds, support_of

__all__ = ["Bayesian", "bayesianize"]

_METHODS = ("local", "flipout", "weights")


def bayesianize(
    module: nn.Module,
    *,
    num_data: float,
    method: Route = "local",
    prior: Distribution | WeightPrior | None = None,
    scale: float = 0.1,
    fixed: Sequence[str] = (),
) -> Bayesian:
    """A Bayesian copy of a module, `w ~ q(w) = prod N(w_i; mu_i, sigma_i^2)`: see [`Bayesian`][reparam.nn.bayesian.Bayesian].

    Args:
        module: any module. Its parameters are where the means start, so a trained network can be made Bayesian; it is not changed.
        num_data: the size of the training set, which all share one set of weights. Not that of a batch.
        method: how a forward draws: "local", "flipout" or "weights".
        prior: of each weight: a univariate distribution; or a function of the name of a tensor and its posterior, whose mean has
            the tensor's shape, such as those of `reparam.nn.weight_prior`, or a module with such a forward, whose parameters are
            then trained. By default the standard normal law.
        scale: where the standard deviations start, as a multiple of `1 / sqrt(fan-in)`.
        fixed: names, or patterns such as "*.bias", of parameters that stay points. So do those that need no gradient.

    Raises:
        TypeError: when one of the arguments is not what it should be.
        ValueError: for a `num_data` below 1, an unknown method, a scale that is not positive, a pattern that fits no parameter,
            and when no parameter is left to draw.

    Example:
        >>> import torch, reparam as rp
        >>> from torch import nn
        >>> x = torch.linspace(-1, 1, 50).unsqueeze(-1)
        >>> y = torch.sin(3 * x) + 0.1 * torch.randn(50, 1)
        >>> net = rp.bayesianize(nn.Sequential(nn.Linear(1, 20), nn.Tanh(), nn.Linear(20, 1)), num_data=50)
        >>> optimizer = torch.optim.Adam(net.parameters(), 1e-2)
        >>> for _ in range(5):
        ...     log_likelihood = torch.distributions.Normal(net(x), 0.1).log_prob(y).sum(-1)
        ...     optimizer.zero_grad()
        ...     (-net.elbo(log_likelihood)).backward()
        ...     optimizer.step()
        >>> weights = net.weights(16)                                  # sixteen networks
        >>> torch.func.vmap(lambda w: net.at(w, x))(weights).shape
        torch.Size([16, 50, 1])
    """
    return Bayesian(module, num_data=num_data, method=method, prior=prior, scale=scale, fixed=fixed)


class Bayesian(nn.Module):
    """A network with a law over its weights, the product of normal laws, to be trained by its evidence lower bound.

    A call draws, in training and in evaluation; `net.module(x)` is the network at the means. The draw is by one of

    - "weights": all weights once a forward (Bayes by Backprop). It works for any module and has the largest variance, as all data
      of a batch share the draw.
    - "local": the outputs of linear layers, fresh for each datum (local reparameterization). It has the smallest variance.
    - "flipout": of linear and convolutional layers, one draw of the weights, with random signs for each datum.

    With each of them what the network gives for one datum has the law of weights drawn from q. "local" and "flipout" keep that
    law by looking at the first forward of each mode, training and evaluation: "local" is for layers that take each datum once, as
    one vector (two-dimensional input); convolutions, sequences N x T x D and layers that are called several times get flipout in
    its place; and what no noise on outputs has the law of gets its weights drawn: recurrent layers, attention, norms, embeddings,
    tied weights, weights that are read without calling their layer, inputs whose rows are not the data, and all weights where data
    look at each other, as in batch norm. The first dimension of the first tensor of a call counts the data; where that is of
    integers, whose slopes cannot be followed, and data look at each other, as in graphs, use "weights". `net.routes` says what was
    chosen.

    Under `torch.compile` and `torch.func`, call the network once before in the same mode, for it to look.

    Args: see [`bayesianize`][reparam.nn.bayesian.bayesianize].

    Attributes:
        module: the copy, whose parameters are the means.
        log_scale: the logarithms of the standard deviations, under the names of the means.
        num_data: the size of the training set.
        prior: of each weight.

    Source: Blundell et al., "Weight uncertainty in neural networks", arXiv:1505.05424; Kingma et al., "Variational dropout and the
        local reparameterization trick", arXiv:1506.02557; Wen et al., "Flipout", arXiv:1803.04386.

    Example:
        >>> import torch
        >>> from reparam.nn.bayesian import Bayesian
        >>> net = Bayesian(torch.nn.Linear(3, 2), num_data=100)
        >>> net(torch.zeros(5, 3)).shape, net.kl().shape
        (torch.Size([5, 2]), torch.Size([]))
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        num_data: float,
        method: Route = "local",
        prior: Distribution | WeightPrior | None = None,
        scale: float = 0.1,
        fixed: Sequence[str] = (),
    ) -> None:
        super().__init__()
        _check(module, num_data, method, scale)
        self.num_data, self.method = num_data, method
        self.module = copy.deepcopy(module)
        self.log_scale = _Scales(
            {name: torch.full_like(p, math.log(scale / math.sqrt(fan_in(p)))) for name, p in _drawn(self.module, fixed)}
        )
        self.prior = Normal(0.0, 1.0) if prior is None else prior
        if not isinstance(self.prior, Distribution) and not callable(self.prior):
            raise TypeError(f"the prior is {prior!r}: give a distribution of a weight, or a function (name, q) that returns one")
        self._seen: dict[bool, dict[str, Route]] = {}
        found = {} if method == "weights" else layers(self.module, self.names)
        self._noisy = {name: NoisyLayer(name, layer) for name, layer in found.items()}
        self._places = places(self.module)

    @property
    def routes(self) -> dict[str, Route] | None:
        """How each of the linear and convolutional layers is drawn; None before the first forward in this mode."""
        return self._seen.get(self.training)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the tensors of weights that are drawn."""
        return tuple(name for name, _ in self.log_scale.named_parameters())

    def posterior(self) -> dict[str, Normal]:
        """The law q of each tensor of weights, by name."""
        mean = dict(self.module.named_parameters())
        return {
            name: Normal(mean[name], log_scale.exp(), validate_args=False) for name, log_scale in self.log_scale.named_parameters()
        }

    def weights(self, rows: int | tuple[int, ...] = (), *, source: Source | None = None) -> dict[str, Tensor]:
        """Draws of all weights, by name, of shape rows + that of the tensor: what `at` takes."""
        return {name: rsample(q, rows, source=source) for name, q in self.posterior().items()}

    def at(self, weights: Mapping[str, Tensor], *args: Any, **kwargs: Any) -> Any:
        """What the module gives with these weights, without noise.

        Several sets of them go through `torch.func.vmap(lambda w: net.at(w, x))(weights)`.
        """
        return functional_call(self.module, in_all_places(weights, self._places), args, kwargs, tie_weights=False)

    def forward(self, *args: Any, source: Source | None = None, **kwargs: Any) -> Any:
        """What the module gives, with a draw of its weights.

        Raises:
            ValueError: when a layer is called in another way than in the first forward, and its noise would have another law; when
                the module uses a parameter that is not in its place, where no draw of it can be put.
            NotImplementedError: within `torch.nn.DataParallel`, whose copies have no parameters.
        """
        if getattr(self, "_is_replica", False):
            raise NotImplementedError(
                "torch.nn.DataParallel makes copies without parameters, whose weights cannot be drawn: use DistributedDataParallel"
            )
        planned = self._look(args, kwargs) if self.routes is None else self.routes
        posterior = self.posterior()
        noisy = [layer for name, layer in self._noisy.items() if planned[name] != "weights"]
        drawn = posterior.keys() - {name for layer in noisy for name in layer.parameters.values()}
        weights = {name: rsample(q, source=source) for name, q in posterior.items() if name in drawn}
        if not noisy:
            return self.at(weights, *args, **kwargs)
        now = Forward({name: q.scale for name, q in posterior.items()}, planned, data_count(args, kwargs), source)
        for layer in noisy:
            layer.now = now
        try:
            return self.at(weights, *args, **kwargs) if weights else self.module(*args, **kwargs)
        finally:
            for layer in noisy:
                layer.now = None

    def kl(self, source: Source | None = None) -> Tensor:
        """KL(q ‖ prior) of all weights, in nats; closed form where torch knows it, else with one fresh draw from `source`.

        Raises:
            TypeError: when the prior is no distribution of reals.
            ValueError: when its shape does not fit the weights.
        """
        log_scale = dict(self.log_scale.named_parameters())
        terms = [divergence(q, log_scale[name], self._prior(name, q), source) for name, q in self.posterior().items()]
        return torch.stack(terms).sum()

    def elbo(self, log_likelihood: Tensor, source: Source | None = None) -> Tensor:
        """The evidence lower bound per datum, `mean of log p(y_i | x_i, w) - KL(q ‖ prior) / num_data`, to be maximised, in nats.

        Args:
            log_likelihood: of each datum of a batch, N, from a call of this network.
            source: of noise, for a prior whose divergence is sampled.

        Raises:
            ValueError: when there is not one value a datum, or there are more than `num_data`.
        """
        if log_likelihood.dim() != 1 or not len(log_likelihood):
            raise ValueError(
                f"the log-likelihood has shape {tuple(log_likelihood.shape)}: give one value for each datum of the batch, (N,), "
                "the sum over what is observed of that datum"
            )
        if len(log_likelihood) > self.num_data:
            raise ValueError(
                f"the batch has {len(log_likelihood)} data and num_data={self.num_data}: num_data is the size of the training set"
            )
        return log_likelihood.mean() - self.kl(source) / self.num_data

    def extra_repr(self) -> str:
        return f"method={self.method!r}, num_data={self.num_data}"

    def _look(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Route]:
        """The routes of this mode: in evaluation a batch norm does not make data look at each other."""
        if torch.compiler.is_compiling() or peek_interpreter_stack() is not None:
            if not self._noisy:  # only checks are left out
                return {}
            raise RuntimeError("under torch.compile or torch.func: call the network once on a batch before, for it to look")
        self._seen[self.training] = found = routes(self.module, self._noisy, self.method, self.names, args, kwargs)
        return found

    def _prior(self, name: str, q: Normal) -> Distribution:
        prior = self.prior
        if not isinstance(prior, Distribution):
            prior = prior(name, q)
        elif not q.loc.is_cpu:  # a distribution does not move with the module that has it
            prior = map_parameters(prior, lambda value: value.to(q.loc.device))
        if not isinstance(prior, Distribution) or prior.event_shape:
            raise TypeError(f"the prior of {name} is {prior!r}: give a univariate distribution")
        support = support_of(prior)
        if support is not None and (support.is_discrete or bounds(support) != (None, None)):
            raise ValueError(
                f"the prior of {name} is {prior!r}: its support must be all reals, as weights are drawn from normal laws"
            )
        if prior.batch_shape and not _broadcasts(prior.batch_shape, q.batch_shape):
            raise ValueError(
                f"the prior of {name} has batch shape {tuple(prior.batch_shape)}: it must broadcast to {tuple(q.batch_shape)}"
            )
        return prior


class _Scales(nn.Module):
    """Parameters under the names that they have in another module."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, value in values.items():
            *path, last = name.split(".")
            node: nn.Module = self
            for part in path:
                if part not in node._modules:
                    node.add_module(part, _Scales({}))
                node = node.get_submodule(part)
            node.register_parameter(last, nn.Parameter(value))

    def __repr__(self) -> str:
        return f"{sum(1 for _ in self.parameters())} tensors"


def _broadcasts(shape: torch.Size, to: torch.Size) -> bool:
    return len(shape) <= len(to) and all(m in (1, n) for m, n in zip(reversed(shape), reversed(to), strict=False))


def _drawn(module: nn.Module, fixed: Sequence[str]) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters to draw, without those that are to stay points."""
    names = [name for name, _ in module.named_parameters()]
    if isinstance(fixed, str):
        raise TypeError(f"fixed={fixed!r} is one string: give a sequence of names or patterns, ({fixed!r},)")
    for pattern in fixed:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"fixed names {pattern!r}, and the parameters are {', '.join(names) or 'none'}")
    found = [
        (name, p)
        for name, p in module.named_parameters()
        if p.requires_grad and not any(fnmatchcase(name, pattern) for pattern in fixed)
    ]
    if not found:
        raise ValueError("no parameter is left to draw: the module has none that needs a gradient and is not fixed")
    for name, p in found:
        if isinstance(p, nn.parameter.UninitializedParameter):
            raise ValueError(f"{name} has no shape yet: call the module once on data, then make it Bayesian")
        if p.is_complex():
            raise ValueError(f"{name} is {p.dtype}: the laws are of reals, leave it as it is with fixed=({name!r},)")
    yield from found


def _check(module: nn.Module, num_data: float, method: str, scale: float) -> None:
    if not isinstance(module, nn.Module):
        raise TypeError(f"{module!r} is no torch.nn.Module")
    if any(isinstance(part, Bayesian) for part in module.modules()):
        raise TypeError("the module is, or holds, a Bayesian network already: make the whole Bayesian once")
    if isinstance(num_data, bool) or not isinstance(num_data, Real) or not 1 <= num_data < math.inf:
        raise ValueError(
            f"num_data={num_data!r}: give the size of the training set, a number of at least 1, by which the divergence is divided"
        )
    if method not in _METHODS:
        raise ValueError(f"method={method!r}: there are {', '.join(_METHODS)}")
    if not isinstance(scale, Real) or not 0 < scale < math.inf:
        raise ValueError(f"scale={scale!r}: the standard deviations start at a positive multiple of 1 / sqrt(fan-in)")
