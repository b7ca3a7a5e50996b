"""The variational autoencoder: latents that are normal, coins or choices, and a likelihood that fits the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from reparam.data.codec import codec_of
from reparam.errors import BadInputError
from reparam.estimators import Estimator, Pathwise, expect
from reparam.models import vae_parts
from reparam.models.evaluation import Evaluation, evaluate
from reparam.models.model import refuse_tables
from reparam.models.text_evaluation import of_texts
from reparam.models.vae_config import OBJECTIVES, Config
from reparam.nn.latent import Posterior
from reparam.nn.token_likelihood import Sequences
from reparam.noise import UNIFORM, Source
from reparam.paths import noise_like, rsample, sample
from reparam.training import Loss
from reparam.training.config import ELBO

if TYPE_CHECKING:
    from reparam.data import Data

__all__ = ["VAE", "Config", "Sampling"]

# The values that the widest layer may hold at once in `log_likelihood`: rows of importance samples are split to fit.
_CHUNK = 2**22


@dataclass(frozen=True)
class Sampling:
    """How a VAE samples.

    Attributes:
        noisy: draw each datum from p(x | z), not its mean; by default texts are drawn. What stands for the mean of a text has the
            most probable code at each step.
        temperature: of the draw of a text: below 1 the likely becomes more likely; 0 takes the most probable code at each step.
    """

    noisy: bool | None = None
    temperature: float = 1.0


class VAE(nn.Module):
    """A variational autoencoder: `z ~ p(z)`, `x ~ p(x | z)`, and an encoder that approximates the posterior of z.

    The loss is the negative evidence lower bound, per datum in nats,

        E_q(z|x) [log p(x | z)] - KL(q(z | x) || p(z)),

    with the closed form for the divergence, and for the expectation one differentiable sample z = mu(x) + sigma(x) * eps of
    normal latents, or for discrete ones the samples of a gradient estimator. p(z) is standard normal, a fair coin for each
    latent, or uniform over its categories. Batches are in the units of the data, N + shape: 0 and 1, counts 0..levels,
    reals, or the codes 1..levels of texts with zeros from their ends on; what the encoder sees is scaled inside.

    Args:
        config: the settings, with the likelihood named.
        shape: of one datum: (D,) or (C, H, W), or (L,) of a text.
        levels: the largest count, for the likelihoods of counts and for binarizing them; of texts, the largest code.

    Raises:
        BadInputError: for settings that do not fit each other or the data.

    Source: Kingma and Welling, arXiv:1312.6114; Rezende et al., arXiv:1401.4082.

    Example:
        >>> import torch
        >>> from reparam.models.vae import VAE, Config
        >>> vae = VAE(Config(latent_dim=2, likelihood="bernoulli"), shape=(1, 8, 8))
        >>> optimizer = torch.optim.Adam(vae.parameters())
        >>> for x in torch.rand(10, 32, 1, 8, 8).round():
        ...     optimizer.zero_grad()
        ...     vae.loss(x).total.backward()
        ...     optimizer.step()
        >>> vae.sample(5).shape
        torch.Size([5, 1, 8, 8])
    """

    monitor = ELBO
    Sampling = Sampling

    def __init__(self, config: Config, shape: tuple[int, ...], levels: int | None = None) -> None:
        super().__init__()
        if config.likelihood is None:
            raise BadInputError("a likelihood is wanted: name one in the config, or let VAE.for_data choose by the data")
        if config.likelihood in ("binomial", "categorical", "autoregressive") and levels is None:
            raise BadInputError(f"likelihood={config.likelihood!r} is of counts 0..levels: give levels, or take 'gaussian'")
        if config.likelihood == "bernoulli" and levels not in (None, 1) and not config.binarize:
            raise BadInputError(f"likelihood='bernoulli' is of 0 and 1, not counts 0..{levels}: take 'binomial', or binarize=True")
        self.config = config = vae_parts.decided(config)
        self.shape = torch.Size(shape)
        self.levels = levels
        self.likelihood = vae_parts.likelihood(config, self.shape, (not config.binarize and levels) or 1)
        self.texts = config.likelihood == "autoregressive"
        self.characters: tuple[int, ...] | None = None
        self.latent = vae_parts.latent(config)
        self.gradient = vae_parts.gradient(config, self.latent.event, math.prod(shape))
        self.encoder, self.decoder = vae_parts.networks(config, self.shape, self.latent, self.likelihood)
        self._values_seen = False

    @classmethod
    def for_data(cls, config: Config, data: Data) -> VAE:
        """A VAE for a data set: its likelihood unless one is named, its shape, its scaling, and its mean as the first output.

        Pass the training rows only: the statistics become part of the model, and are saved with its weights.

        Raises:
            BadInputError: when the likelihood does not fit the values.
        """
        refuse_tables(data)
        by_values: dict[str, Literal["bernoulli", "binomial", "gaussian", "autoregressive"]]
        by_values = {"binary": "bernoulli", "counts": "binomial", "real": "gaussian", "tokens": "autoregressive"}
        likelihood = config.likelihood or ("bernoulli" if config.binarize else by_values[data.values])
        if data.values == "real" and likelihood != "gaussian":
            raise BadInputError(f"likelihood={likelihood!r} is of whole numbers, {data.name} has reals: take 'gaussian'")
        if (data.values == "tokens") != (likelihood == "autoregressive"):
            came, wanted = (
                ("texts", "leave likelihood and binarize out") if data.values == "tokens" else ("no texts", "name another")
            )
            raise BadInputError(f"likelihood={likelihood!r} does not serve {data.name}, which has {came}: {wanted}")
        vae = cls(replace(config, likelihood=likelihood), data.shape, 1 if data.values == "binary" else data.levels)
        vae.characters = getattr(data.codec, "characters", None)
        vae.start_at(data.x)
        return vae

    @classmethod
    def from_record(cls, config: Config, data: Mapping[str, Any]) -> VAE:
        """The VAE that `for_data` made, but for its weights, from what a run remembers of its data."""
        vae = cls(config, tuple(data["shape"]), 1 if data["values"] == "binary" else data["levels"])
        if facts := data.get("codec"):
            vae.characters = getattr(codec_of(facts), "characters", None)
        return vae

    def inputs(self, data: Data) -> Tensor:
        """What `loss` takes of a data set: its data."""
        return data.x

    @torch.no_grad()
    def start_at(self, x: Tensor) -> None:
        """Take the scaling from training data, and make the decoder's first output the data's mean, a baseline its cost."""
        self._check(x, values=True)
        x = x.to(self._dtype)
        self.likelihood.fit(x)
        if self.config.binarize:
            x = self._scaled(x)
        last, some = self.decoder[-1], x[:: max(1, len(x) // 1000)]
        if not self.texts:
            if not isinstance(last, nn.Linear):  # a convolution's bias is that of a channel: each pixel counts as a datum
                x = some.movedim(1, -1).flatten(0, -2)[..., None, None]
            last.bias.copy_(self.likelihood.bias(x).flatten())  # type: ignore[operator]
        if self.gradient is not None and len(some):
            self.gradient.start_at(self._log_prob(self.latent.origin.expand(len(some), *self.latent.event), some))

    def forward(self, batch: Tensor, source: Source | None = None) -> Loss:
        return self.loss(batch, source)

    def loss(self, batch: Tensor, source: Source | None = None) -> Loss:
        """The loss of a batch, from one differentiable sample of the latents of each datum, or as the config has it.

        Returns:
            `total`, to minimise: the negative ELBO, with `beta` and `free_bits` applied, or the negative of another objective.
            `parts`: the plain "elbo", and its terms "reconstruction" = E log p(x | z) and "kl"; "relaxed_elbo", the bound of
            relaxed samples, where the estimator trains on those; and "bound" for an objective of several samples. All are means
            over the batch, in nats.

        Raises:
            ValueError: for a batch of another shape; and, in evaluation and for the first batch, for values that are not
                the likelihood's.
        """
        if not (self.training and self._values_seen) and not torch.compiler.is_compiling():
            self._check(batch, values=True)
            self._values_seen = True
        else:
            self._check(batch)
        n = batch.shape[0]
        x, seen = self._observed(batch, source)
        q, kl = self._posterior(seen)
        if self.training and (rate := self.config.word_dropout):  # a negative code is one that what follows it is not shown
            x = torch.where(noise_like(x, UNIFORM).draw(source=source) < rate, -x, x)
        if self.config.objective != "elbo":
            return self._several(x, q, kl.sum() / n, source)
        if self.gradient is None:
            nll = self.likelihood.nll(self._outputs(rsample(q, source=source)), x).sum() / n
        else:
            nll = -self.gradient(lambda z: self._log_prob(z, x), q, seen, source).sum() / n
        if free := self.config.free_bits:
            by_latent = kl.mean(0)
            kl, charged = by_latent.sum(), by_latent.clamp(min=free).sum()
        else:
            charged = kl = kl.sum() / n
        total = nll + (charged if self.config.beta == 1 else self.config.beta * charged)
        reconstruction, kl, more = -nll.detach(), kl.detach(), {}
        if self.gradient is not None and self.gradient.named.soft:
            more["relaxed_elbo"] = reconstruction - kl
            with torch.no_grad():
                reconstruction = self._log_prob(sample(q, source=source), x).sum() / n
        return Loss(total, {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl, **more})

    def _several(self, x: Tensor, q: Distribution, kl: Tensor, source: Source | None) -> Loss:
        """The loss of an objective of several samples, which give the terms of the plain ELBO as well."""
        terms: list[Tensor] = []

        def log_density(z: Tensor) -> Tensor:
            log_p = self._log_prob(z, x)
            terms.append(log_p.detach())
            return log_p

        _, objective = OBJECTIVES[self.config.objective]
        total = -objective(log_density, q, prior=self.prior, k=self.config.samples, source=source).sum() / len(x)
        reconstruction, kl = torch.cat(terms).mean(0).sum() / len(x), kl.detach()
        parts = {"elbo": reconstruction - kl, "reconstruction": reconstruction, "kl": kl, "bound": -total.detach()}
        return Loss(total, parts)

    def evaluate(self, inputs: Tensor, *, k: int, source: Source | None = None, batch_size: int = 128) -> Evaluation:
        """The ELBO and its terms, and -log p(x) by `k` importance samples for each datum; of texts, bits per character too."""
        found = evaluate(self, inputs, k=k, source=source, batch_size=batch_size)
        return of_texts(found, inputs, self.characters) if self.texts else found

    def elbo(self, batch: Tensor, *, estimator: Estimator | None = None, n: int = 1, source: Source | None = None) -> Tensor:
        """The plain ELBO of each datum, with any gradient estimator: to compare them, or to take more samples than `loss` does."""
        self._check(batch, values=True)
        x, seen = self._observed(batch, source)
        q, kl = self._posterior(seen)
        return expect(lambda z: self._log_prob(z, x), q, estimator=estimator, n=n, source=source) - kl.sum(-1)

    def estimator(self, x: Tensor) -> Estimator:
        """The estimator of the gradient that `loss` takes, as it is now, for data x."""
        return Pathwise() if self.gradient is None else self.gradient.estimator(self._scaled(x.to(self._dtype)))

    @property
    def prior(self) -> Distribution:
        """p(z): the standard normal, fair coins, or uniform choices."""
        return self.latent.prior()

    def encode(self, x: Tensor) -> Distribution:
        """q(z | x), of batch shape N and event shape (latent_dim,), for choices one-hot (latent_dim, categories).

        With `binarize`, of the expected binary datum.
        """
        self._check(x, values=True)
        return self._posterior(self._scaled(x.to(self._dtype))).q

    def decode(self, z: Tensor) -> Distribution:
        """p(x | z), for z of shape rows + that of a latent sample: batch shape `rows`, event shape that of a datum."""
        return self.likelihood(self._outputs(z))  # type: ignore[no-any-return]

    @torch.no_grad()
    def code(self, x: Tensor) -> Tensor:
        """One latent sample that stands for `encode(x)`: the mean of a normal, the most probable value of each coin or choice."""
        return self.latent.code(self.encode(x))

    @torch.no_grad()
    def describe(self, x: Tensor) -> dict[str, Tensor]:
        """`encode(x)` in numbers, N + ...: the tables `mean` and `scale` of normal latents, `probability` of discrete ones."""
        return self.latent.describe(self.encode(x))

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """The mean datum at `code(x)`, in the units of the data; of texts, what `show` says."""
        return self.show(self.code(x))

    @torch.no_grad()
    def show(self, z: Tensor) -> Tensor:
        """The mean datum at latents z, in the units of the data; a text of the most probable code at each step."""
        p = self.decode(z)
        return p.mode if self.texts else self._in_units(p.mean)

    @torch.no_grad()
    def sample(self, n: int, source: Source | None = None, *, noisy: bool | None = None, temperature: float = 1.0) -> Tensor:
        """`n` data from the model, in the units of the data: z ~ p(z), and the means of p(x | z); with `noisy`, draws from it.

        Texts are drawn unless `noisy` is False, at a temperature; 0 takes the most probable code at each step.

        Raises:
            BadInputError: for a temperature that is negative, or of data that are no texts.
        """
        if not 0 <= temperature < math.inf or (temperature != 1 and not self.texts):
            raise BadInputError(f"temperature={temperature}: give a finite number, at least 0, for texts; 1 for other data")
        z = sample(self.prior, (n,), source=source)
        if not (self.texts if noisy is None else noisy) or temperature == 0:
            return self.show(z)
        p = self.decode(z)
        if isinstance(p, Sequences):
            return sample(Sequences(p.decoder, p.context, temperature, validate_args=False), source=source)
        return self._in_units(sample(p, source=source).to(self._dtype))

    @torch.no_grad()
    def interpolate(self, a: Tensor, b: Tensor, steps: int) -> Tensor:
        """What `show` makes of latents from `code(a)` to `code(b)`; of shape `(steps,) + a.shape`.

        Normal latents go along a straight line. Of discrete ones those that differ are exchanged, the first ones first, in as
        even shares as they come: every code on the way is one that the model knows.
        """
        weights = torch.linspace(0, 1, steps, dtype=self._dtype, device=a.device)
        return self.show(self.latent.between(self.code(a), self.code(b), weights))

    @torch.no_grad()
    def log_likelihood(self, x: Tensor, k: int, source: Source | None = None) -> Tensor:
        """A lower bound on log p(x) of each datum from `k` importance samples: in expectation the ELBO at k = 1, exact as k grows.

            log 1/k sum_i p(x | z_i) p(z_i) / q(z_i | x),   z_i ~ q(z | x)

        Samples are drawn and weighed in chunks, so that memory does not grow with `k`.

        Source: Burda et al., arXiv:1509.00519.
        """
        if k < 1:
            raise ValueError(f"k={k} importance samples: give at least 1")
        self._check(x, values=True)
        x, seen = self._observed(x, source)
        q, prior = self._posterior(seen).q, self.prior
        places = len(x[0]) if self.texts and len(x) else 1  # each of which has hidden layers
        width = max(math.prod(self.likelihood.outputs), *(places * width for width in self.config.hidden), self.latent.width)
        rows = max(1, _CHUNK // max(1, len(x) * width))
        chunks = []
        for start in range(0, k, rows):
            z = sample(q, (min(rows, k - start),), source=source)
            chunks.append((prior.log_prob(z) - q.log_prob(z) + self._log_prob(z, x)).logsumexp(0))
        return torch.stack(chunks).logsumexp(0) - math.log(k)

    @torch.no_grad()
    def active_units(self, x: Tensor, threshold: float = 0.01) -> Tensor:
        """Which latents the model uses: a mask of those whose posterior mean varies over the data by more than `threshold`.

        The mean of a discrete latent is its probabilities; the variances of those of its categories are added up.

        Source: Burda et al., arXiv:1509.00519.
        """
        variance = self.encode(x).mean.var(0)
        return variance.reshape(self.config.latent_dim, -1).sum(-1) > threshold

    def extra_repr(self) -> str:
        return f"shape={tuple(self.shape)}, levels={self.levels}"

    @property
    def _dtype(self) -> torch.dtype:
        return self.latent.origin.dtype

    def _check(self, x: Tensor, *, values: bool = False) -> None:
        if x.shape[1:] != self.shape or x.dim() == 0:
            raise ValueError(f"the batch has shape {tuple(x.shape)}: this model takes N x {' x '.join(map(str, self.shape))}")
        if x.is_complex():
            raise TypeError(f"the batch is {x.dtype}: give real numbers")
        if not values or not x.numel():
            return
        x = x.to(self._dtype)
        if not self.config.binarize:
            self.likelihood.check(x)
        elif not (x.min() >= 0 and x.max() <= (self.levels or 1)):
            raise ValueError(f"the batch has values from {x.min():g} to {x.max():g}: binarize=True takes 0..{self.levels or 1}")

    def _scaled(self, x: Tensor) -> Tensor:
        """What the encoder sees of data in their units."""
        return x / self.levels if self.config.binarize and self.levels else self.likelihood.standardise(x)

    def _observed(self, batch: Tensor, source: Source | None) -> tuple[Tensor, Tensor]:
        """The data whose likelihood is asked for, and what the encoder sees of them."""
        x = batch.to(self._dtype)
        seen = self._scaled(x)
        if self.config.binarize:
            seen = (noise_like(seen, UNIFORM).draw(source=source) < seen).to(seen.dtype)
            return seen, seen
        return x, seen

    def _posterior(self, seen: Tensor) -> Posterior:
        h = self.encoder(seen if self.config.network == "conv" else seen.flatten(1))
        return self.latent(h.to(seen.dtype))  # type: ignore[no-any-return]

    def _outputs(self, z: Tensor) -> Tensor:
        rows = z.shape[: z.dim() - len(self.latent.event)]
        h = self.decoder(z if z.dim() == 2 and len(rows) == 1 else z.reshape(-1, self.latent.width))
        return h.to(z.dtype).reshape(rows + self.likelihood.outputs)  # type: ignore[no-any-return]

    def _log_prob(self, z: Tensor, x: Tensor) -> Tensor:
        return -self.likelihood.nll(self._outputs(z), x).flatten(-len(self.shape)).sum(-1)

    def _in_units(self, x: Tensor) -> Tensor:
        return x * self.levels if self.config.binarize and self.levels else x
