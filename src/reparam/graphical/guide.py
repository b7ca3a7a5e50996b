"""The guide of a graphical model: laws of its latents that are fitted to their posterior."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, Normal, Transform, biject_to
from torch.distributions.constraints import Constraint

from reparam.errors import BadInputError
from reparam.estimators import Pathwise
from reparam.graphical.node import Latent
from reparam.nn.guide import VectorGuide, typical
from reparam.nn.network import mlp
from reparam.paths import detached
from reparam.paths.compose import step, steps
from reparam.paths.joint import log_abs_det

if TYPE_CHECKING:
    from reparam.models.graphical_config import Config

__all__ = ["Draw", "Draws", "Guide", "constrain", "free_size", "make_guide"]

#: From a name and a law to values, rows + batch + event: the `Sampler` of `rp.graph`, for one.
Draw = Callable[[str, Distribution], Tensor]

# Numbers for which a start is looked for: each of some fifty steps takes as many backward passes.
_STARTABLE = 64
# Draws by which the posterior is averaged, and how many they are times rows at most.
_DRAWS, _CELLS = 128, 2**17
# Numbers of a table of latents of rows, above which a network takes its place.
_LONGEST = 256
# Scales of laws of single latents are within a factor exp(5) of those of the latents before data.
_FURTHEST = 5.0


class Draws(NamedTuple):
    """What a guide drew.

    Attributes:
        values: of latents, in their supports: rows + (1,) + event of shared ones, rows + (B,) + event of others.
        log_q_shared: log-density of all shared ones and of whole tables, rows + (1,), in nats.
        log_q_rows: that of the others in the rows where they are wanted, rows + (B,); one zero where there are none.
    """

    values: dict[str, Tensor]
    log_q_shared: Tensor
    log_q_rows: Tensor


class Guide(nn.Module):
    """q of all latents of a graphical model, in coordinates u without bounds: `z = b(u)`, `log q(z) = log q(u) - log |dz/du|`.

    One joint law, of a kind of [`VectorGuide`][reparam.nn.guide.VectorGuide], has all shared latents and, where latents of rows are
    not amortised, those of all N rows. Independent of it, and drawn by the names of their nodes, are

    - missing values of columns: a normal for each, by the number of its row;
    - latents whose nodes name an estimator, and discrete ones.

    Amortised, the latents of a row are independent given what a network of the row and of the shared latents says.

    Args:
        latents: what there is to draw.
        config: its `guide`, `amortised`, `transforms`, `bins` and `hidden`.
        rows: N, the training rows.
        features: how many numbers stand for what is observed of a row.

    Raises:
        BadInputError: for a continuous latent with an estimator where the guide is not mean_field; for a support without unbounded
            coordinates, such as a sphere.

    Source: Kucukelbir et al., arXiv:1603.00788; Hoffman et al., "Stochastic Variational Inference", arXiv:1206.7051; Kingma and
    Welling, arXiv:1312.6114.

    Example:
        >>> import torch, reparam as rp
        >>> from torch.distributions import constraints
        >>> from reparam.graphical.guide import make_guide
        >>> from reparam.graphical.node import Latent
        >>> from reparam.models.graphical_config import Config
        >>> tau = Latent("tau", torch.Size(), constraints.positive, True, False, None, torch.rand(10) + 0.5)
        >>> z = Latent("z", torch.Size(), constraints.real, False, False, None, torch.randn(10))
        >>> guide = make_guide([tau, z], Config(guide="full_rank", amortised=False), rows=8, features=0)
        >>> draws = guide.sample(lambda name, law: rp.rsample(law, (4,)), torch.zeros(8, 0), torch.arange(8), {})
        >>> draws.values["tau"].shape, draws.values["z"].shape, draws.log_q_shared.shape
        (torch.Size([4, 1]), torch.Size([4, 8]), torch.Size([4, 1]))
    """

    def __init__(self, latents: Sequence[Latent], config: Config, *, rows: int, features: int) -> None:
        super().__init__()
        self.latents, self.rows, self.kind = tuple(latents), rows, config.guide
        for each in self.latents:
            if _has_own(each) and not each.categories and config.guide != "mean_field":
                raise BadInputError(
                    f"node {each.name!r} names {type(each.estimator).__name__}, and guide={config.guide!r} draws all continuous "
                    "latents at once, by their path: leave the estimator out, or take guide='mean_field'"
                )
        local = [each for each in self.latents if not each.shared]
        numbers = rows * sum(_size(each) for each in local)
        self.amortised = bool(local) and (numbers > _LONGEST if config.amortised is None else config.amortised)
        single = [each for each in self.latents if self._alone(each)]
        self.together = tuple(each for each in self.latents if not self._alone(each))
        self.each = nn.ModuleList(_Single(each, None if self._by_network(each) else 1 if each.shared else rows) for each in single)
        blocks = [self._entries(each) * _size(each) for each in self.together]
        self.joint: VectorGuide | None = None
        if blocks:
            self.joint = VectorGuide(
                sum(blocks), config.guide, transforms=config.transforms, bins=config.bins, hidden=config.hidden
            )
            self.joint.begin(self._places())
        self.network: nn.Module | None = None
        if self.amortised:
            outputs = sum(_outputs(each) for each in local)
            self.network = mlp((features + sum(blocks), *config.hidden, outputs), "silu")

    @property
    def whole(self) -> frozenset[str]:
        """Latents of rows that are in the joint law: it counts them in every row, and so must the density that it is fitted to."""
        return frozenset(each.name for each in self.together if not each.shared)

    @property
    def apart(self) -> tuple[str, ...]:
        """Latents of rows that are not in the joint law, such as gaps."""
        return tuple(single.latent.name for single in self._singles if not single.latent.shared)

    @property
    def startable(self) -> bool:
        """Whether [`start_at`][reparam.graphical.guide.Guide.start_at] can be tried.

        Where some latents of rows are apart, the joint law must be of shared ones only: it then starts from the rows that lack none
        of these.
        """
        if self.joint is None or self.joint.dim > _STARTABLE:
            return False
        return not len(self.each) or not (self.whole or any(single.latent.shared for single in self._singles))

    def sample(self, draw: Draw, seen: Tensor, index: Tensor | None, wanted: Mapping[str, Tensor]) -> Draws:
        """Draw all latents.

        Args:
            draw: from a name and a law of batch (1,), (B,) or, where it depends on draws before it, rows + (B,), to values; the
                joint law has the name "guide" and batch (1,).
            seen: what is observed of each row, (B, features).
            index: place of each among the training rows, (B,), negative for others, whose values from tables mean nothing; None for
                new rows: latents from tables are then left out.
            wanted: by name, (B,) bools that say in which rows a latent is one; everywhere by default.
        """
        values: dict[str, Tensor] = {}
        log_q_shared, log_q_rows, context = seen.new_zeros(1), seen.new_zeros(1), seen
        places = None if index is None else index.clamp(min=0)
        if self.joint is not None:
            u, log_q_shared = self.joint(lambda law: draw("guide", law))
            values, log_det = self._constrained(u.squeeze(-2))
            log_q_shared = log_q_shared - log_det[..., None]
            for each in self.together:
                if not each.shared:
                    table = values.pop(each.name)
                    if places is not None:
                        values[each.name] = table.index_select(-1 - len(each.event), places)
            if self.network is not None:
                context = self.joint.relative(u)
                shape = torch.broadcast_shapes(context.shape[:-1], seen.shape[:-1])
                context = torch.cat([seen.expand(*shape, -1), context.expand(*shape, -1)], -1)
        outputs = [] if self.network is None else list(self.network(context).split(self._widths, -1))
        for single in self._singles:
            each = single.latent
            if self._by_network(each):
                parameters = outputs.pop(0)
            elif each.shared or places is not None:
                parameters = single.parameters_at(None if each.shared else places)
            else:
                continue
            values[each.name], log_q = single(draw, parameters)
            if each.shared:
                log_q_shared = log_q_shared + log_q
            else:
                log_q_rows = log_q_rows + (torch.where(wanted[each.name], log_q, 0.0) if each.name in wanted else log_q)
        return Draws(values, log_q_shared, log_q_rows)

    def start_at(self, log_joint: Callable[[dict[str, Tensor]], Tensor]) -> bool:
        """Begin at the normal law that is nearest to the posterior of u; False if none is found.

        With very many rows, of which a posterior is nearly normal, it is Laplace's approximation at the mode.

        Args:
            log_joint: from values of the joint law's latents, rows + (N or 1,) + event, to the log of their density with the
                training rows, or with those in which no latent is apart: rows.

        Raises:
            ValueError: where it is not `startable`.

        Source: Opper and Archambeau, "The variational Gaussian approximation revisited", Neural Computation 21 (2009).
        """
        if not self.startable or self.joint is None:
            raise ValueError(f"a start is looked for among at most {_STARTABLE} numbers that one joint law draws")

        def log_density(u: Tensor) -> Tensor:
            values, log_det = self._constrained(u)
            return log_joint(values) + log_det

        return self.joint.start(log_density, self._places(), min(_DRAWS, _CELLS // max(1, self.rows)))

    def about(self, name: str) -> str:
        """What draws a latent, in a few words."""
        each = next(each for each in self.latents if each.name == name)
        if not self._alone(each):
            word = {"mean_field": "normal", "full_rank": "full-rank normal", "flow": "flow"}[self.kind]
            others = [other.name for other in self.together if other is not each]
            return f"{word} with {', '.join(others)}" if others and self.kind != "mean_field" else word
        law = "normal" if not each.categories else "Bernoulli" if each.categories == 1 else "categorical"
        if self._by_network(each):
            return f"{law}, by a network of the row"
        return law if each.shared else f"{law} for each row"

    def _by_network(self, each: Latent) -> bool:
        return self.amortised and not each.shared

    def _entries(self, each: Latent) -> int:
        return 1 if each.shared else self.rows

    def _alone(self, each: Latent) -> bool:
        """Whether it is drawn by itself, and not in the joint law."""
        return bool(_has_own(each) or each.categories or each.cells or self._by_network(each))

    @property
    def _singles(self) -> Iterable[_Single]:
        return cast(Iterable[_Single], self.each)

    @property
    def _widths(self) -> list[int]:
        return [_outputs(single.latent) for single in self._singles if self._by_network(single.latent)]

    def _constrained(self, u: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The values of the joint law's latents, rows + (1 or N,) + event, at u, rows + (D,); and the log-determinant, rows."""
        values, total, sizes = {}, u.new_zeros(u.shape[:-1]), [self._entries(each) * _size(each) for each in self.together]
        for each, block in zip(self.together, u.split(sizes, -1), strict=True):
            values[each.name], log_det = constrain(
                block.unflatten(-1, (self._entries(each), _size(each))), each.support, each.event
            )
            total = total + log_det.sum(-1)
        return values, total

    def _places(self) -> Tensor:
        """Plausible values of the joint law, M x D, that are the same in every row."""
        starts = [_free(each) for each in self.together]
        least = min(len(start) for start in starts)
        return torch.cat(
            [start[:least].repeat(1, self._entries(each)) for start, each in zip(starts, self.together, strict=True)], 1
        )

    def extra_repr(self) -> str:
        return f"amortised={self.amortised}"


class _Single(nn.Module):
    """The law of one latent by itself, from parameters that a table holds or a network gives.

    Continuous ones are `u = shift + spread v`, v normal, so that parameters of the order of one suit every latent.
    """

    shift: Tensor
    spread: Tensor

    def __init__(self, latent: Latent, entries: int | None) -> None:
        super().__init__()
        self.latent = latent
        self.table = None if entries is None else nn.Parameter(torch.zeros(entries, _outputs(latent)))
        if not latent.categories:
            shift, spread = typical(_free(latent), narrow=latent.shared)
            self.register_buffer("shift", shift)
            self.register_buffer("spread", spread)

    def forward(self, draw: Draw, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """A value and its log-density."""
        law = self.law(parameters)
        v = draw(self.latent.name, law)
        log_q = detached(law).log_prob(v)
        if self.latent.categories:
            return v, log_q
        value, log_det = constrain(self.shift + self.spread * v, self.latent.support, self.latent.event)
        return value, log_q - self.spread.log().sum() - log_det

    def parameters_at(self, places: Tensor | None) -> Tensor:
        """From the table: those of all its entries, or of some."""
        table = cast(Tensor, self.table)
        return table if places is None else table[places]

    def law(self, parameters: Tensor) -> Distribution:
        """Of v, or of the discrete value; parameters are batch + (outputs,)."""
        event, categories = self.latent.event, self.latent.categories
        if categories:
            logits = parameters.reshape(parameters.shape[:-1] + event + ((categories,) if categories > 1 else ()))
            law: Distribution = Bernoulli(logits=logits) if categories == 1 else Categorical(logits=logits)
            return Independent(law, len(event)) if event else law
        loc, log_scale = parameters.chunk(2, -1)
        scale = (_FURTHEST * torch.tanh(log_scale / _FURTHEST)).exp()
        return Independent(Normal(loc, scale, validate_args=False), 1, validate_args=False)

    def extra_repr(self) -> str:
        return self.latent.name


def make_guide(latents: Sequence[Latent], config: Config, *, rows: int, features: int) -> Guide:
    """The guide of a model with these latents, of which there may be none; see [`Guide`][reparam.graphical.guide.Guide]."""
    return Guide(latents, config, rows=rows, features=features)


def constrain(u: Tensor, support: Constraint, event: torch.Size) -> tuple[Tensor, Tensor]:
    """From numbers without bounds to values of a support: `z = b(u)` with `log |dz/du|`.

    Args:
        u: batch + (size,), flat, of the size that [`free_size`][reparam.graphical.guide.free_size] tells.
        support: of z.
        event: shape of z.

    Returns:
        z, batch + event, inside the support and the floats; and the log-determinant, batch.

    Example:
        >>> import torch
        >>> from torch.distributions import constraints
        >>> z, log_det = constrain(torch.tensor([[0.0], [1.0]]), constraints.positive, torch.Size())
        >>> z, log_det
        (tensor([1.0000, 2.7183]), tensor([0., 1.]))
    """
    transform = _bijection(support)
    batch = u.shape[:-1]
    z, total = u.reshape(batch + transform.inverse_shape(event)), u.new_zeros(batch)
    for each in steps([transform]):
        y = step(each, z)
        log_det = log_abs_det(each, z, y)
        total = total + (log_det.flatten(len(batch)).sum(-1) if log_det.dim() > len(batch) else log_det)
        z = y
    return z, total


def free_size(support: Constraint, event: torch.Size) -> int:
    """How many numbers without bounds make a value of a support: 2 for three shares that sum to 1.

    Raises:
        BadInputError: for a support that has no unbounded coordinates.

    Example:
        >>> from torch.distributions import constraints
        >>> free_size(constraints.simplex, torch.Size([3]))
        2
    """
    return torch.Size(_bijection(support).inverse_shape(event)).numel()


def _bijection(support: Constraint) -> Transform:
    try:
        return cast(Transform, biject_to(support))
    except NotImplementedError:
        raise BadInputError(
            f"a latent has the support {support}, for which torch.distributions.biject_to has no map from the reals: register one, "
            "or write the node as a function of latents that have"
        ) from None


def _has_own(latent: Latent) -> bool:
    """Whether its node names another estimator than the one that joint laws have."""
    return latent.estimator is not None and not isinstance(latent.estimator, Pathwise)


def _size(latent: Latent) -> int:
    """Numbers without bounds that make a value."""
    return 0 if latent.categories else free_size(latent.support, latent.event)


def _outputs(latent: Latent) -> int:
    """Parameters of its law."""
    return latent.event.numel() * latent.categories if latent.categories else 2 * _size(latent)


def _free(latent: Latent) -> Tensor:
    """Its plausible values without bounds, M x size; those that are on a bound count as zero."""
    u = _bijection(latent.support).inv(latent.start.to(torch.get_default_dtype()))
    return torch.nan_to_num(u.reshape(len(u), -1), nan=0.0, posinf=0.0, neginf=0.0)
