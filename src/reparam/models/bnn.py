"""The Bayesian neural network: a network with a law over its weights, which says how sure it is of what it predicts."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from reparam.errors import BadInputError
from reparam.models.bnn_config import Config, Likelihood
from reparam.models.bnn_evaluation import ClassEvaluation, Evaluation, evaluate
from reparam.models.bnn_prediction import ClassPrediction, Prediction
from reparam.models.model import refuse_tables
from reparam.nn.bayesian import bayesianize
from reparam.nn.network import conv_encoder, mlp
from reparam.nn.response import ClassResponse, RealResponse
from reparam.nn.units import Units
from reparam.noise import Fresh, Source
from reparam.training import Batch, Loss, Monitor

if TYPE_CHECKING:
    from reparam.data import Data

__all__ = ["BNN", "ClassEvaluation", "ClassPrediction", "Config", "Evaluation", "Prediction"]

# Draws of the weights by which validation looks at the model: of one, the best epoch would be that of a lucky draw.
_LOOKS = 8
# Weights of all networks that are drawn at once.
_CHUNK = 2**24
# Nats: who has learned less than a coin tells has learned nothing.
_LEAST_KL = 0.7


class BNN(nn.Module):
    """A Bayesian neural network for regression or classification, `y ~ p(y | f_w(x))` with weights `w ~ q(w)`.

    Trained by the evidence lower bound of its training set, per datum and in nats,

        elbo = E_q [mean of log p(y_i | f_w(x_i))] - KL(q(w) ‖ p(w)) / N,   N = num_data

    by draws of the weights as `method` says; see [`bayesianize`][reparam.nn.bayesian.bayesianize]. Data and responses are
    standardised inside by statistics of the training data; likelihoods are in the units of the responses. The noise is learned as a
    point estimate, as is with prior="empirical" the scale of the prior of each tensor. Each weight costs nats, and q is a product:
    of few data, what the network cannot afford to fit counts as noise. Compare bounds: fewer hidden units may have a better one.
    A product is also surer than it should be between groups of data (arXiv:1909.00719).

    The best epoch is that, after the annealing, with the best bound on validation data: their likelihood, less what the weights
    cost, so that a network which fits by luck before its posterior is one does not win.

    Args:
        config: the settings.
        shape: of one datum: (D,) or (C, H, W).
        num_data: the size of the training set, not that of a batch.
        responses: names of the reals to be predicted, for regression.
        classes: names of the classes to be predicted, for classification. One of both, unless the likelihood decides.
        network: a module of your own, from N + shape, standardised, to N x outputs: the number of responses, twice that for
            heteroscedastic, or the number of classes. By default a dense or convolutional one.

    Raises:
        BadInputError: for settings that do not fit each other or the data.
        ValueError: for a num_data below 1.

    Source: Blundell et al., "Weight uncertainty in neural networks", arXiv:1505.05424; Kingma et al., "Variational dropout and the
        local reparameterization trick", arXiv:1506.02557.

    Example:
        >>> import torch
        >>> from reparam.models.bnn import BNN, Config
        >>> x = torch.linspace(-1, 1, 100).unsqueeze(1)
        >>> y = torch.sin(3 * x) + 0.1 * torch.randn(100, 1)
        >>> bnn = BNN(Config(annealing=3), shape=(1,), num_data=100, responses=("height",))
        >>> bnn.start_at(x, y)
        >>> optimizer = torch.optim.Adam(bnn.parameters(), 1e-2)
        >>> for _ in range(5):
        ...     optimizer.zero_grad()
        ...     bnn.loss((x, y)).total.backward()
        ...     optimizer.step()
        >>> found = bnn.predict(torch.tensor([[0.0], [5.0]]), k=50)
        >>> found.mean.shape, found.epistemic.shape, bool((found.total > found.aleatoric).all())
        (torch.Size([2, 1]), torch.Size([2, 1]), True)
        >>> low, high = found.interval(0.9)
    """

    monitor: ClassVar[Monitor] = Monitor("elbo", "ELBO")
    step: Tensor

    def __init__(
        self,
        config: Config,
        shape: tuple[int, ...],
        *,
        num_data: int,
        responses: tuple[str, ...] | None = None,
        classes: tuple[str, ...] | None = None,
        network: nn.Module | None = None,
    ) -> None:
        super().__init__()
        likelihood = _likelihood(config, responses, classes)
        self.shape = torch.Size(shape)
        self.units = Units(self.shape, "real")
        self.response: RealResponse | ClassResponse = (
            ClassResponse(classes or ()) if likelihood == "categorical" else RealResponse(likelihood, responses or ())
        )
        kind = config.network or ("conv" if len(shape) == 3 and min(shape[1:]) >= 8 else "mlp")
        self.config = replace(config, likelihood=likelihood, network=kind)
        made = _network(self.config, self.shape, self.response.outputs) if network is None else network
        self.net = bayesianize(
            made, num_data=num_data, method=config.method, prior=config.weight_prior(), scale=config.posterior_scale
        )
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))

    @classmethod
    def for_data(cls, config: Config, data: Data) -> BNN:
        """A network for a data set, the training rows only: their number and their statistics become part of the model.

        Raises:
            BadInputError: when the data have nothing to be predicted, or are texts or a table with gaps.
        """
        refuse_tables(data)
        if data.values == "tokens":
            raise BadInputError(f"{data.name} has tokens, and this model takes numbers: reparam train vae takes texts")
        bnn = cls(config, data.shape, num_data=len(data), responses=data.responses, classes=data.classes)
        bnn.start_at(*bnn.inputs(data))
        return bnn

    @classmethod
    def from_record(cls, config: Config, data: Mapping[str, Any]) -> BNN:
        """The network that a run remembers by the facts of its data: "shape", "sizes", "responses" and "classes"."""
        responses, classes = (None if data.get(name) is None else tuple(data[name]) for name in ("responses", "classes"))
        return cls(config, tuple(data["shape"]), num_data=data["sizes"]["train"], responses=responses, classes=classes)

    @property
    def responses(self) -> tuple[str, ...]:
        """The names of the reals that are predicted; none where classes are."""
        return self.response.names if isinstance(self.response, RealResponse) else ()

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that are predicted; none where reals are."""
        return self.response.names if isinstance(self.response, ClassResponse) else ()

    def inputs(self, data: Data) -> tuple[Tensor, Tensor]:
        """What `loss` and `evaluate` take of a data set: its values, and its responses or the places of its labels.

        Raises:
            BadInputError: for data without them, or with other ones than the model's.
        """
        if not self.classes:
            if data.response is None or data.responses is None:
                raise BadInputError(
                    f"{data.name} has no {', '.join(self.responses)}, which this model predicts: give data with it; to predict it, "
                    "reparam predict takes data without"
                )
            if data.response.shape[1] != len(self.responses):
                came, wanted = ", ".join(data.responses), ", ".join(self.responses)
                raise BadInputError(f"the responses of {data.name} are {came}, and this model is of {wanted}: give those")
            return data.x, data.response
        places = data.places  # first, as it says what is wanted of data without labels
        known = {name: place for place, name in enumerate(self.classes)}
        if strange := [name for name in data.classes or () if name not in known]:
            raise BadInputError(f"label {strange[0]!r} is none that this model knows: give one of {', '.join(self.classes)}")
        return data.x, torch.tensor([known[name] for name in data.classes or ()])[places]

    @torch.no_grad()
    def start_at(self, x: Tensor, y: Tensor) -> None:
        """Take the scaling from training data: x N + shape, and responses N x R or places of classes N."""
        self._check(x, y)
        self.units.fit(x)
        self.response.fit(y)

    def forward(self, batch: Batch, source: Source | None = None) -> Loss:
        return self.loss(batch, source)

    def loss(self, batch: Batch, source: Source | None = None) -> Loss:
        """The loss of a batch (x, y): the negative bound, in training with the divergence at the weight of this step.

        Returns:
            `total`, to minimise. `parts`: "elbo" and its terms, "log_likelihood" = E_q log p(y | x, w) and "divergence" =
            KL / num_data, in nats per datum and at weight one.
        """
        x, y = _pair(batch)
        self._check(x, y)
        looks = self.config.samples if self.training else max(self.config.samples, _LOOKS)
        z = self.units.standardise(x)
        log_p = torch.stack([self.response.log_prob(self._outputs(self.net(z, source=source)), y) for _ in range(looks)])
        log_likelihood, kl = log_p.mean(), self.net.kl(source) / self.net.num_data
        parts = {"elbo": log_likelihood - kl, "log_likelihood": log_likelihood, "divergence": kl}
        total = self.weight * kl - log_likelihood
        if self.training:
            self.step += 1
        return Loss(total, {name: part.detach() for name, part in parts.items()})

    @property
    def weight(self) -> Tensor:
        """That of the divergence in the loss of this step, from 0 to 1: one in evaluation."""
        if not self.training or not self.config.annealing:
            return torch.ones((), device=self.step.device)
        return ((self.step + 1) / self.config.annealing).clamp(max=1.0)

    @property
    def settled(self) -> bool:
        """Whether the annealing is over: epochs before do not count as best."""
        return int(self.step) >= self.config.annealing

    @torch.no_grad()
    def law(self, x: Tensor, k: int = 100, source: Source | None = None, *, batch_size: int = 512) -> Distribution:
        """p(y | x, w_i) for k draws of the weights, the same for all data: of batch shape k x N x R, of classes k x N; in float64.

        Args:
            x: data, N + shape.
            k: draws.
            source: of their noise.
            batch_size: data that go through a network at once.

        Raises:
            ValueError: for k below 1, and data of another shape.
        """
        if k < 1:
            raise ValueError(f"k={k} draws of the weights: give at least 1")
        self.units.check(x, values=True)
        self._warn()
        z = self.units.standardise(x)
        outputs = []
        for weights in self._networks(k, source):
            outputs.append(torch.cat([self._outputs(self.net.at(weights, part)) for part in z.split(batch_size)]))
        law: Distribution = self.response(torch.stack(outputs).double())
        return law

    @torch.no_grad()
    def predict(
        self, x: Tensor, k: int = 100, source: Source | None = None, *, batch_size: int = 512
    ) -> Prediction | ClassPrediction:
        """What the network predicts for data N + shape, from k draws of the weights: mean, epistemic and aleatoric parts.

        Args and errors are those of [`law`][reparam.models.bnn.BNN.law].
        """
        law: Any = self.law(x, k, source, batch_size=batch_size)
        return ClassPrediction(law, self.classes) if self.classes else Prediction(law, self.responses)

    @torch.no_grad()
    def evaluate(
        self, inputs: Batch, *, k: int = 100, source: Source | None = None, batch_size: int = 512
    ) -> Evaluation | ClassEvaluation:
        """What its predictions are worth on data (x, y), by k draws of the weights.

        Raises:
            ValueError: for no data, or ones that do not suit the model.
        """
        x, y = _pair(inputs)
        self._check(x, y)
        if not len(x):
            raise ValueError("0 data are evaluated: give at least one")
        return evaluate(self.predict(x, k, source, batch_size=batch_size), y)

    def extra_repr(self) -> str:
        return f"shape={tuple(self.shape)}"

    def _networks(self, k: int, source: Source | None) -> Iterator[dict[str, Tensor]]:
        """The weights of k networks, one after the other."""
        size = sum(mean.numel() for mean in self.net.module.parameters())
        rows = max(1, _CHUNK // size)
        for start in range(0, k, rows):
            drawn = self.net.weights(min(rows, k - start), source=source)
            for i in range(min(rows, k - start)):
                yield {name: w[i] for name, w in drawn.items()}

    def _warn(self) -> None:
        """Say what a user may take for knowledge and is none."""
        if int(self.step) and not self.settled:
            warnings.warn(
                f"the weights are of step {int(self.step)}, within annealing={self.config.annealing}, where the divergence has not "
                "its whole weight yet: predictions are surer than they may be; train for longer, or anneal for fewer steps",
                RuntimeWarning,
                stacklevel=4,
            )
        kl = self.net.kl(Fresh(torch.Generator(self.step.device).manual_seed(0))).item()  # the caller's noise is left alone
        if not kl > _LEAST_KL:
            warnings.warn(
                f"the weights have learned nothing: their posterior is the prior, {kl:.2g} nats from it in all; take another "
                "prior, more data or fewer hidden units",
                RuntimeWarning,
                stacklevel=4,
            )

    def _outputs(self, h: Tensor) -> Tensor:
        if not isinstance(h, Tensor) or h.shape[1:] != (self.response.outputs,):
            came = tuple(h.shape) if isinstance(h, Tensor) else type(h).__name__
            raise ValueError(f"the network gives {came}: N x {self.response.outputs} is wanted, for {self.response}")
        return h

    def _check(self, x: Tensor, y: Tensor) -> None:
        self.units.check(x, values=not self.training)
        self.response.check(y)
        if len(x) != len(y):
            raise ValueError(f"{len(x)} data and {len(y)} responses were given: one for each datum is wanted")


def _likelihood(config: Config, responses: tuple[str, ...] | None, classes: tuple[str, ...] | None) -> Likelihood:
    """That of the config, or what the data call for."""
    if config.likelihood is None and not responses and not classes:
        raise BadInputError(
            "the data have nothing to be predicted: name the column or array of a response (response=..., --response), or that of "
            "labels (label=..., --label)"
        )
    likelihood = config.likelihood or ("normal" if responses else "categorical")
    if likelihood == "categorical" and not classes:
        raise BadInputError(
            "likelihood='categorical' is for labels, and the data have none: name their column or array (label=..., --label)"
        )
    if likelihood == "categorical" and len(classes or ()) == 1:
        raise BadInputError(f"all labels of the training data are {(classes or ('',))[0]!r}: at least 2 classes are wanted")
    if likelihood != "categorical" and not responses:
        raise BadInputError(
            f"likelihood={likelihood!r} is for a response, and the data have {'labels' if classes else 'none'}: name its column or "
            "array (response=..., --response)" + (", or take likelihood='categorical'" if classes else "")
        )
    return likelihood


def _network(config: Config, shape: torch.Size, outputs: int) -> nn.Module:
    if config.network == "conv":
        return conv_encoder(tuple(shape), config.channels, config.hidden, outputs, config.activation)
    dense = mlp((shape.numel(), *config.hidden, outputs), config.activation)
    return dense if len(shape) == 1 else nn.Sequential(nn.Flatten(), dense)


def _pair(batch: Batch) -> tuple[Tensor, Tensor]:
    if isinstance(batch, Tensor) or len(batch) != 2:
        came = "a tensor" if isinstance(batch, Tensor) else f"{len(batch)} tensors"
        raise ValueError(f"the batch is {came}: give (x, y), the data and what is to be predicted of them")
    return batch[0], batch[1]
