"""The normalizing flow: a density with exact likelihood, learned from data or from an unnormalised density."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from reparam.errors import BadInputError
from reparam.estimators import Estimator, LeaveOneOut, Pathwise, Score
from reparam.models.flow_config import Config, Sampling
from reparam.models.flow_evaluation import Evaluation, TargetEvaluation, evaluate_target
from reparam.models.model import refuse_tables
from reparam.models.targets import Target, given
from reparam.models.targets import target as find_target
from reparam.nn.autoregressive import stack
from reparam.nn.bijection import Chain
from reparam.nn.flow_law import FlowLaw
from reparam.nn.labels import Label, Labels
from reparam.nn.preprocess import Logit, Standardise, check_columns, dequantise, quantise
from reparam.noise import NORMAL, Noise, Source, readable
from reparam.objectives import elbo, sampled, sticking
from reparam.paths import rsample, sample_and_log_prob
from reparam.training import Batch, Loss, Monitor

if TYPE_CHECKING:
    from reparam.data import Data

__all__ = ["Config", "Evaluation", "Flow", "Sampling", "TargetEvaluation"]

# Values of the widest layer at once: rows are split to fit.
_CHUNK = 2**22
_ESTIMATORS: dict[str, type[Estimator]] = {"pathwise": Pathwise, "leave_one_out": LeaveOneOut, "score": Score}


class Flow(nn.Module):
    """A normalizing flow: `x = f^-1(eps)` with `eps` standard normal and f invertible, so that the density is known exactly.

        log p(x) = log N(f(x); 0, I) + log |det df/dx|

    f standardises the data, of counts after uniform noise was added and their interval mapped to the line; then come monotone
    functions of each column whose parameters are networks of others. All that changes the density is counted: log-densities are
    in nats per datum, in the units of the data. Batches are N + shape.

    Trained on data it maximises their log-likelihood. With `target` it maximises, without data, the evidence lower bound
    `E_q [log density(x) - log q(x)]`, which is the log-normaliser less the divergence of the flow from the density.

    Args:
        config: the settings.
        shape: of one datum: (D,) or (C, H, W).
        levels: the largest count, for data that are counts; 1 for binary data. None: reals.
        classes: names of the labels, for `conditional`.

    Raises:
        BadInputError: for settings that do not fit each other or the data.

    Source: Papamakarios et al., arXiv:1912.02762; Durkan et al., arXiv:1906.04032.

    Example:
        >>> import torch, reparam as rp
        >>> from reparam.models.flow import Config, Flow
        >>> flow = Flow(Config(transforms=2), shape=(2,))
        >>> x = 5 + torch.randn(100, 2)
        >>> flow.start_at(x)
        >>> optimizer = torch.optim.Adam(flow.parameters(), 1e-3)
        >>> for _ in range(5):
        ...     optimizer.zero_grad()
        ...     flow.loss(x).total.backward()
        ...     optimizer.step()
        >>> flow.log_prob(x).shape, flow.sample(7).shape
        (torch.Size([100]), torch.Size([7, 2]))
        >>> spread = rp.expect(lambda x: x.square().sum(-1), flow.law(), n=64, source=rp.Sobol(seed=0))
    """

    Sampling = Sampling

    def __init__(
        self,
        config: Config,
        shape: tuple[int, ...],
        *,
        levels: int | None = None,
        classes: tuple[str, ...] | None = None,
    ) -> None:
        super().__init__()
        if config.conditional and not classes:
            raise BadInputError("conditional=True, and the data have no labels: name their column or array (label=..., --label)")
        if config.logit and levels is None and config.interval is None:
            raise BadInputError("logit=True: reals have no ends that are known: give interval=(low, high)")
        if config.interval is not None and levels is not None:
            raise BadInputError(f"interval={config.interval} is for reals, the data are counts 0..{levels}: leave it out")
        self.config, self.shape, self.levels = config, torch.Size(shape), levels
        self.labels = Labels(classes if config.conditional and classes else ())
        self.target = None if config.target is None else given(config.target)
        self.monitor = Monitor("log_likelihood", "log-likelihood") if config.target is None else Monitor("elbo", "ELBO")
        dim, self.context = self.shape.numel(), len(self.labels) or config.context
        self.interval = config.interval if levels is None else (0.0, levels + 1.0)
        self.logit = Logit(*self.interval) if self.interval is not None and config.logit is not False else None
        self.standardise = Standardise(dim)
        self.standardise_context = Standardise(config.context) if config.context else None
        self.bijection = Chain(
            *([] if self.logit is None else [self.logit]),
            self.standardise,
            *stack(
                dim,
                config.transforms,
                coupling=config.coupling,
                context=self.context,
                bins=config.bins if config.family == "nsf" else 0,
                hidden=config.hidden,
                activation=config.activation,
                dropout=config.dropout,
            ),
        )

    @classmethod
    def for_data(cls, config: Config, data: Data) -> Flow:
        """A flow for a data set, or for the target of the config, whatever the data: its shape and the scaling of its numbers.

        Pass the training rows only: the statistics become part of the model, and are saved with its weights.

        Raises:
            BadInputError: when the data have no labels to condition on, have tokens, or have a column without a density.
        """
        refuse_tables(data)
        if config.target is not None:
            return cls(config, (find_target(config.target).dim,))
        if config.context:
            raise BadInputError(
                f"context={config.context} is of reals that no file gives: make the flow in Python, Flow(config, shape)"
            )
        if data.codec is not None and data.codec.kind == "audio":
            raise BadInputError(f"{data.name} has recordings, whose silence has no density: reparam train diffusion takes them")
        if data.values == "tokens":
            raise BadInputError(f"{data.name} has tokens, which have no density: reparam train vae takes texts")
        flow = cls(config, data.shape, levels=_levels(data.values, data.levels), classes=data.classes)
        flow.start_at(data.x, data.places if config.conditional else None)
        return flow

    @classmethod
    def from_record(cls, config: Config, data: Mapping[str, Any]) -> Flow:
        """The flow that a run remembers by the facts of its data: "shape", "values", "levels" and "classes"."""
        known = None if config.target is None else given(config.target)
        shape = tuple(data["shape"]) if known is None else (known.dim,)
        classes = data.get("classes")
        return cls(config, shape, levels=_levels(data["values"], data["levels"]), classes=tuple(classes) if classes else None)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels that the model knows."""
        return self.labels.names

    @property
    def shares(self) -> Tensor:
        """How often each class comes in the training data."""
        return self.labels.frequencies

    def inputs(self, data: Data) -> Batch:
        """What `loss` and `evaluate` take of a data set: its values, for a conditional flow with the places of their labels.

        Raises:
            BadInputError: for labels that the model does not know.
        """
        if not len(self.labels):
            return data.x
        places = data.places  # first, as it says what is wanted of data without labels
        return data.x, self.labels.places(data.classes or ()).to(places.device)[places]

    @torch.no_grad()
    def start_at(self, x: Tensor, context: Tensor | None = None) -> None:
        """Take the scaling, and the shares of the classes, from training data."""
        self._check(x, values=True)
        x = x.to(self._dtype).flatten(1)
        if self.levels is None:
            check_columns(x)
        else:
            x = x + 0.5
        if self.logit is not None:
            x = self.logit(x)[0]
        self.standardise.fit(x)
        if self.standardise_context is not None and context is not None:
            self.standardise_context.fit(context)
        if len(self.labels) and context is not None:
            self.labels.fit(context)

    def law(self, context: Tensor | None = None) -> FlowLaw:
        """p(x), or p(x | context): a torch distribution with a path, of event shape `shape`.

        Of counts it is the density of counts with uniform noise added.

        Args:
            context: of a conditional flow, the places of labels, `batch`, or the reals, `batch + (C,)`; its shape gives the batch.

        Raises:
            ValueError: for a context of another shape, or where there is none.
        """
        return FlowLaw(self.bijection, self.shape, self._context(context), None if self.logit is None else self.logit.interval)

    def forward(self, batch: Batch, source: Source | None = None) -> Loss:
        return self.loss(batch, source)

    def loss(self, batch: Batch, source: Source | None = None) -> Loss:
        """The loss of a batch, x or (x, context): the mean of -log p(x); with a target the mean over as many samples as rows.

        Returns:
            `total`, to minimise. `parts`: "log_likelihood", of counts with one draw of noise; of a target "elbo" and its terms,
            "log_density" = E log density and "entropy" = -E log q. In nats per datum.
        """
        if self.config.target is not None:
            return self._reverse(batch if isinstance(batch, Tensor) else batch[0], source)
        log_prob = self.log_prob(*_pair(batch), source=source).mean()
        return Loss(-log_prob, {"log_likelihood": log_prob.detach()})

    def _reverse(self, rows: Tensor, source: Source | None) -> Loss:
        """The negative evidence lower bound of the target.

        Where the gradient is pathwise, the parameters of log q(x) are cut: what is left out has mean zero, and what is left
        vanishes at a perfect fit (arXiv:1703.09194, arXiv:2207.08219).
        """
        target, terms, n = self._target(), [], len(rows)

        def log_density(x: Tensor) -> Tensor:
            value = target.log_density(x)
            terms.append(value.detach().mean())
            return value

        if not self.training:  # no gradient is wanted, and one sample will do
            x, log_q = sample_and_log_prob(self.law(), (n,), source=source)
            bound = log_density(x).mean() - log_q.mean()
        else:
            kl = sticking if self.config.estimator == "pathwise" else sampled
            estimator = _ESTIMATORS[self.config.estimator]()
            bound = elbo(log_density, self.law(), kl=kl, estimator=estimator, n=n, source=source)
        parts = {"elbo": bound.detach(), "log_density": terms[0], "entropy": bound.detach() - terms[0]}
        return Loss(-bound, parts)

    def log_prob(self, x: Tensor, context: Tensor | None = None, *, k: int = 1, source: Source | None = None) -> Tensor:
        """`log p(x)` of each datum, in nats: exact for reals; for counts a lower bound in expectation, exact as `k` grows,

            log 1/k sum_i p(x + u_i),   u_i uniform.

        Args:
            x: data, N + shape.
            context: places of labels N, or reals N x C, for a conditional flow.
            k: draws of noise for each datum, for counts.
            source: of that noise.
        """
        if k < 1:
            raise ValueError(f"k={k} draws of noise: give at least 1")
        self._check(x, values=not self.training)
        x, law = x.to(self._dtype), self.law(context)
        self._check_rows(x, law)
        if self.levels is None:
            return law.log_prob(x)
        if k == 1:
            return law.log_prob(dequantise(x, source))
        widest = self.shape.numel() * 3 * self.config.bins
        rows = max(1, _CHUNK // max(1, len(x) * max(widest, *self.config.hidden)))
        found = [law.log_prob(dequantise(x, source, min(rows, k - start))).logsumexp(0) for start in range(0, k, rows)]
        return torch.stack(found).logsumexp(0) - math.log(k)

    def push(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Noise to data: `f^-1(z)`, N + shape; of counts before they are rounded down."""
        return self.law(context).push(z.to(self._dtype))

    def pull(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Data to noise: `f(x)`, N + shape; counts are taken at the middle of their cells."""
        self._check(x)
        law, x = self.law(context), x.to(self._dtype)
        self._check_rows(x, law)
        return law.pull(x if self.levels is None else x + 0.5)

    @torch.no_grad()
    def describe(self, inputs: Batch) -> dict[str, Tensor]:
        """What stands for data in the model, N + shape: the table `noise`, which `push` brings back to the data.

        Raises:
            BadInputError: of a flow that was fitted to a target, without data.
        """
        if self.config.target is not None:
            raise BadInputError(f"this flow was fitted to {self.config.target}, without data: there are none to encode")
        return {"noise": self.pull(*_pair(inputs))}

    def rsample(self, n: int, context: Tensor | None = None, source: Source | None = None) -> Tensor:
        """`n` samples, differentiable in the parameters, of shape n + batch + shape; of counts before they are rounded down."""
        return rsample(self.law(context), (n,), source=source)

    @torch.no_grad()
    def sample(self, n: int, source: Source | None = None, *, label: Label = None) -> Tensor:
        """`n` data from the model, in the units of the data; of one class, or of classes as they come in the training data.

        Raises:
            BadInputError: for a label that the model does not know; of a model that is conditional on reals.
        """
        context = self._labels(n, label, source)
        # A row of noise for each datum, whatever its label.
        x = self.push(Noise(NORMAL, self.shape, self._dtype, self.standardise.shift.device).draw((n,), source=source), context)
        return x if self.levels is None else quantise(x, self.levels)

    @torch.no_grad()
    def evaluate(
        self, inputs: Batch, *, k: int = 1, source: Source | None = None, batch_size: int = 128
    ) -> Evaluation | TargetEvaluation:
        """How well it explains data, counts by `k` draws of noise each; or how well it fits its target, by as many samples.

        Raises:
            BadInputError: for no data.
        """
        x, context = _pair(inputs)
        if not len(x):
            raise BadInputError("0 data are evaluated: give at least one")
        if self.config.target is not None:
            return evaluate_target(self._target(), self.law(), len(x), source, batch_size)
        contexts = [None] * len(x.split(batch_size)) if context is None else context.split(batch_size)
        found = torch.cat(
            [self.log_prob(*pair, k=k, source=source).double() for pair in zip(x.split(batch_size), contexts, strict=True)]
        )
        mean, counts = found.mean().item(), self.levels is not None
        return Evaluation(
            rows=len(x),
            log_likelihood=mean,
            log_likelihood_error=(found.std() / len(x) ** 0.5).item() if len(x) > 1 else None,
            noise_samples=k if counts else None,
            bits_per_dim=-mean / self.shape.numel() / math.log(2) if counts else None,
        )

    def extra_repr(self) -> str:
        return f"shape={tuple(self.shape)}, levels={self.levels}, context={self.context}"

    @property
    def _dtype(self) -> torch.dtype:
        return self.standardise.shift.dtype

    def _target(self) -> Target:
        name = str(self.config.target)
        self.target = self.target or given(name)
        if self.target is None:
            raise BadInputError(
                f"the model was fitted to {name}, and files import nothing: call reparam.models.targets.target({name!r})"
            )
        return self.target

    def _context(self, context: Tensor | None) -> Tensor | None:
        if not self.context:
            if context is not None:
                raise ValueError(
                    "this flow is not conditional, and a context was given: make it with conditional=True or context=C"
                )
            return None
        if not isinstance(context, Tensor):
            wanted = "a tensor of places of labels" if len(self.labels) else f"a tensor of reals, ... x {self.context}"
            raise ValueError(f"this flow is conditional, and its context is {context!r}: give {wanted}")
        if len(self.labels):
            if context.dtype not in (torch.int64, torch.int32) or (
                readable(context) and context.numel() and not (context.min() >= 0 and context.max() < self.context)
            ):
                raise ValueError(f"the context is places of labels: give whole numbers 0..{self.context - 1}, came {context.dtype}")
            return nn.functional.one_hot(context.long(), self.context).to(self._dtype)
        if context.shape[-1:] != (self.context,):
            raise ValueError(f"the context has shape {tuple(context.shape)}: this flow takes ... x {self.context}")
        made: Tensor = self.standardise_context(context.to(self._dtype))[0]  # type: ignore[misc]
        return made

    def _labels(self, n: int, label: Label, source: Source | None) -> Tensor | None:
        if self.config.context:
            raise BadInputError("this flow is conditional on reals: draw from flow.law(context), as rp.sample does")
        place = self.labels.given(label, n)
        return self.labels.draw(n, source) if place is None and len(self.labels) else place

    def _check_rows(self, x: Tensor, law: FlowLaw) -> None:
        if law.batch_shape not in (torch.Size(), x.shape[:1]):
            raise ValueError(f"the context is of {tuple(law.batch_shape)} data, the batch of {len(x)}: give one for each datum")

    def _check(self, x: Tensor, *, values: bool = False) -> None:
        if x.shape[1:] != self.shape or x.dim() == 0:
            raise ValueError(f"the batch has shape {tuple(x.shape)}: this model takes N x {' x '.join(map(str, self.shape))}")
        if not values or torch.compiler.is_compiling() or not x.numel():
            return
        if not x.sum().isfinite() and not x.isfinite().all():
            raise ValueError("the batch has NaN or infinite values: drop or fill them")
        if self.levels is not None and not bool(((x >= 0) & (x <= self.levels) & (x == x.round())).all()):
            raise ValueError(f"the batch has values from {x.min():g} to {x.max():g}, this model is of counts 0..{self.levels}")
        if (
            self.levels is None
            and self.interval is not None
            and not bool(((x >= self.interval[0]) & (x <= self.interval[1])).all())
        ):
            raise ValueError(f"the batch has values from {x.min():g} to {x.max():g}, this model is of reals in {self.interval}")


def _levels(values: str, levels: int | None) -> int | None:
    return 1 if values == "binary" else levels if values == "counts" else None


def _pair(batch: Batch) -> tuple[Tensor, Tensor | None]:
    return (batch, None) if isinstance(batch, Tensor) else (batch[0], batch[1])
