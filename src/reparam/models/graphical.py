"""The graphical model: random variables with laws given their parents, fitted to a table by variational inference."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from reparam.data import Data
from reparam.errors import BadInputError
from reparam.estimators import Enumerate, Estimator, LeaveOneOut, MeasureValued, Score
from reparam.estimators.support import support_size
from reparam.graphical import query as query_of
from reparam.graphical.bound import Seen, bound, drawer, draws_of, start_guide
from reparam.graphical.columns import Columns, as_data, columns_of
from reparam.graphical.density import Joint
from reparam.graphical.evidence import LogEvidence, log_evidence
from reparam.graphical.fit import fit
from reparam.graphical.guide import Draws, Guide, make_guide
from reparam.graphical.node import Node, ordered, select
from reparam.graphical.plan import Plan, make_plan
from reparam.graphical.posterior import Posterior
from reparam.graphical.query import Query
from reparam.graphical.rows import Given, joint, rows_of_table
from reparam.models.graphical_config import Config, Sampling
from reparam.models.graphical_evaluation import Evaluation, describe, evaluate
from reparam.noise import Source
from reparam.paths.path import is_discrete
from reparam.training import Batch, Loss, Monitor

__all__ = ["Config", "Graphical", "Node", "Sampling", "as_data", "fit", "select"]

_ESTIMATORS: dict[str, type[Estimator]] = {
    "score": Score,
    "leave_one_out": LeaveOneOut,
    "measure_valued": MeasureValued,
    "enumerate": Enumerate,
}
_UNSEEN = "the model has not seen data: model.observe(data) first, or reparam.models.graphical.fit(model, data)"


class Graphical(nn.Module):
    """A graphical model of a table: p(s) prod_r p(row r | s), each factor the law of a node given its parents.

    It is fitted by the evidence lower bound, for each of the N rows

        E_q [log p(x_r, z_r | s) - log q(z_r)] + E_q [log p(s) - log q(s)] / N

    with s the latents that all rows share and z_r those of row r. Discrete latents of rows are summed out exactly; q, the guide,
    is a law of the others. A missing value of which nothing observed depends is left out, which is exact; others are latents.
    Parameters of laws that are modules are trained along, to maximise the bound.

    Args:
        nodes: the variables, in any order.
        config: the settings.
        data: what to observe, as `observe` takes it.

    Raises:
        BadInputError: for nodes that make no graph, or do not fit the data.

    Source: Hoffman et al., arXiv:1206.7051; Kucukelbir et al., arXiv:1603.00788.

    Example:
        >>> import torch
        >>> from torch.distributions import HalfCauchy, Normal
        >>> from reparam.models.graphical import Config, Graphical, Node, fit
        >>> schools = Graphical([
        ...     Node("sigma"),                                            # given: a column of the data
        ...     Node("mu", lambda: Normal(0.0, 5.0), shared=True),        # one value for all rows
        ...     Node("tau", lambda: HalfCauchy(5.0), shared=True),
        ...     Node("z", lambda: Normal(0.0, 1.0)),                      # a value for each row
        ...     Node("theta", lambda mu, tau, z: mu + tau * z),           # a function of its parents
        ...     Node("y", lambda theta, sigma: Normal(theta, sigma)),
        ... ])
        >>> data = {"y": torch.tensor([28.0, 8.0, -3.0, 7.0]), "sigma": torch.tensor([15.0, 10.0, 16.0, 11.0])}
        >>> history = fit(schools, data, steps=20)
        >>> len(history), schools.size
        (20, 4)
    """

    Sampling = Sampling
    monitor = Monitor("elbo", "ELBO")
    known_rows: Tensor
    fingerprint: Tensor
    columns: Columns
    guide: Guide | None
    rows: tuple[Tensor, Tensor] | None = None  # the training rows
    done: frozenset[str] = frozenset()  # nodes that `do` has set

    def __init__(self, nodes: Iterable[Node], config: Config | None = None, data: Any = None) -> None:
        super().__init__()
        self.config = config or Config()
        self.nodes = ordered(nodes)
        make = _ESTIMATORS.get(self.config.estimator)
        for name, node in self.nodes.items():
            if node.estimator is None and node.law is not None and make is not None:
                node = replace(node, estimator=make())
            self.nodes[name] = replace(node, draws=node.draws or self.config.draws)
        modules = {name: node.law for name, node in self.nodes.items() if isinstance(node.law, nn.Module)}
        self.laws = nn.ModuleDict({f"p({name.replace('%', '%25').replace('.', '%2E')})": law for name, law in modules.items()})
        self.columns = Columns(self.nodes, (), {})
        self.guide, self.size = None, 0
        self._plan: Plan | None = None
        if data is not None:
            self.observe(data)

    @classmethod
    def for_data(cls, config: Config, data: Data) -> Graphical:
        """The model of `config.graph` for a table: its training rows only, for which the guide is made.

        Raises:
            BadInputError: for a graph that is not known or does not fit the columns.
        """
        from reparam.models.graphical_examples import Table, find_graph

        names, categories = columns_of(data)
        name, nodes = find_graph(config, data.name, Table.of(names, categories, data.x))
        hide = ("species",) if name == "iris" and config.hide is None else config.hide
        made = cls(nodes, replace(config, graph=name, hide=hide), data)
        if not any(parameter.numel() for parameter in made.parameters()):
            raise BadInputError(
                f"the graph {name} has nothing to learn: no latent that is not summed out, and no law with parameters"
            )
        return made

    @classmethod
    def from_record(cls, config: Config, data: Mapping[str, Any]) -> Graphical:
        """The model that `for_data` made, but for its weights, from what a run remembers of its data."""
        from reparam.models.graphical_examples import Table, given_graph

        codec = data.get("codec") or {}
        names = tuple(data.get("columns") or (f"x{i}" for i in range(data["shape"][0])))
        categories = {name: tuple(known) for name, known in codec.get("categories", {}).items()}
        made = cls(given_graph(config, Table.of(names, categories)), config)
        made._build(names, categories, frozenset(codec.get("gaps", ())), int(data["sizes"]["train"]), None)
        return made

    def observe(self, data: Any) -> Graphical:
        """Take the rows that the model is fitted to: the guide is made for them.

        Args:
            data: a [`Data`][reparam.data.Data] of a table, a DataFrame, or a dictionary of columns; NaN or None for
                what is missing.

        Returns:
            The model itself.

        Raises:
            BadInputError: for data that do not fit the nodes, naming the node or column.
        """
        if self.done:
            raise BadInputError("do(...) is for questions, not for fitting: observe with the model that it was called on")
        rows = as_data(data)
        names, categories = columns_of(rows)
        x = rows.x.to(torch.get_default_dtype())
        missing = {name for i, name in enumerate(names) if bool(x[:, i].isnan().any())}
        self._build(names, categories, frozenset(missing | set(getattr(rows.codec, "gaps", ()))), len(x), x)
        self.known_rows.copy_(torch.arange(len(x)) if rows.rows is None else rows.rows)
        self.fingerprint.copy_(_fingerprint(x))
        self.remember(rows)
        start_guide(self)
        return self

    def remember(self, data: Any) -> None:
        """Take the training rows again, for questions about them, in a model that was made from its record."""
        x, index = self.inputs(data)[:2]
        self.rows = (x, index)
        self._plan = self.plan().with_counts({name: int(there.sum()) for name, there in self.columns.read(x)[1].items()})

    def plan(self) -> Plan:
        """What becomes of each node: print it.

        Raises:
            BadInputError: before data were observed.
        """
        if self._plan is None:
            raise BadInputError(_UNSEEN)
        return self._plan

    @property
    def shape(self) -> torch.Size:
        """Of one datum: (D,), its columns."""
        return torch.Size([len(self.columns.names)])

    @property
    def enumerated(self) -> tuple[str, ...]:
        """The discrete nodes that are summed out in training."""
        return self.plan().enumerated

    def inputs(self, data: Any) -> Batch:
        """What `loss` takes of data: rows N x D with gaps, and the place of each among the rows that were observed, or -1.

        Where columns are hidden, the rows as they are come as a third tensor, for `evaluate`.

        Raises:
            BadInputError: for other columns or categories than those of the model.
        """
        self.plan()
        rows = as_data(data, self.columns)
        x = rows.x.to(self.columns.shift)
        index = self._places(x, rows.rows)
        shown = (self._hidden(x, index), index.to(x.device))
        return (*shown, x) if self.config.hide else shown

    def read(self, given: Mapping[str, Any]) -> Batch:
        """New rows of which these values are observed and no others, as `loss` takes them.

        Args:
            given: by name of column or node a number, the name of a category, or one of these for each row.

        Raises:
            BadInputError: for what has no column, unknown categories, and unequal lengths.
        """
        self.plan()
        x = self.columns.encode(given)
        return x, torch.full((len(x),), -1, device=x.device)

    def forward(self, batch: Batch, source: Source | None = None) -> Loss:
        return self.loss(batch, source)

    def loss(self, batch: Batch, source: Source | None = None) -> Loss:
        """The loss of a batch: the negative of the evidence lower bound for each row, from `config.samples` draws of the guide.

        Returns:
            `total`, to minimise. `parts`: "elbo", and its terms "log_joint" = E log p and "entropy" = -E log q, in nats a row. Of
            new rows, with a guide that is one joint law of what is shared and of the training rows, the terms of p(s) and q(s) are
            left out.

        Raises:
            BadInputError: for a law that fails, or a value outside of its support, naming the node.
        """
        return bound(self, batch, source)

    @torch.no_grad()
    def draw_latents(self, n: int, batch: Batch, source: Source | None = None) -> Draws:
        """`n` draws of the guide: values of the latents of the rows of a batch, and their log-densities.

        Returns:
            `values`: by name, n + (B,) + event, n + (1,) + event of shared ones; `log_q_shared`, n + (1,), and `log_q_rows`, of
            shape n + (B,).
        """
        return draws_of(self, self.seen(batch), drawer(n, source))

    def joint(self, batch: Batch, latents: Mapping[str, Tensor], source: Source | None = None) -> Joint:
        """The terms of log p of rows, at values of latents, all values of discrete latents at once.

        A latent that is needed and not given, and cannot be summed out, is drawn from its own law; its density then does not count.

        Args:
            batch: as `inputs` and `read` give it.
            latents: by name, n + (B,) + event; of shared nodes n + (1,) + event. All have the same n.
            source: of the noise of those that are drawn.

        Raises:
            BadInputError: for a name that is no node, and as `loss`.
        """
        for name in latents:
            if name not in self.nodes:
                raise BadInputError(f"{name!r} is no node: they are {', '.join(self.nodes)}")
        return joint(self.nodes, self.seen(batch).rows, Given(latents, self.front(latents)), self.enumerable, source)

    @torch.no_grad()
    def describe(self, inputs: Batch, source: Source | None = None, *, n: int = 100) -> dict[str, Tensor]:
        """What is known of the latents of rows: probabilities N x S of discrete ones that are summed, means N + event of others.

        Args:
            inputs: as `inputs` gives them.
            source: of the noise.
            n: draws of the guide.
        """
        return describe(self, inputs, source, n)

    @torch.no_grad()
    def evaluate(self, inputs: Batch, *, k: int, source: Source | None = None, batch_size: int = 128) -> Evaluation:
        """How probable the model finds rows, by `k` draws of the latents, and how well it finds what is hidden of them.

        Raises:
            BadInputError: for no rows.
        """
        return evaluate(self, inputs, k=k, source=source, batch_size=batch_size)

    def posterior(
        self, query: Query = None, evidence: Mapping[str, Any] | None = None, *, n: int = 1000, source: Source | None = None
    ) -> Posterior:
        """What is known of nodes given the training data, or of new rows given evidence.

        See [`posterior`][reparam.graphical.query.posterior].
        """
        return query_of.posterior(self, query, evidence, n=n, source=source)

    def do(self, values: Mapping[str, Any]) -> Graphical:
        """The model in which nodes are set, cut from their parents; see [`do`][reparam.graphical.query.do]."""
        return query_of.do(self, values)

    def simulate(
        self, n: int, *, prior: bool = False, given: Mapping[str, Any] | None = None, source: Source | None = None
    ) -> dict[str, Tensor]:
        """`n` new rows, all nodes of them; see [`simulate`][reparam.graphical.query.simulate]."""
        return query_of.simulate(self, n, prior=prior, given=given, source=source)

    @torch.no_grad()
    def sample(self, n: int, source: Source | None = None, *, prior: bool = False) -> Tensor:
        """`n` new rows of the table, n x D: from the posterior predictive law, or the prior one."""
        return query_of.table_of(self, query_of.simulate(self, n, prior=prior, source=source))

    def impute(self, x: Tensor, known: Tensor, source: Source | None = None, *, n: int = 200) -> Tensor:
        """Rows x, N x D, with what is not known of them, N x D, drawn given the rest of the row.

        See [`impute`][reparam.graphical.query.impute].
        """
        return query_of.impute(self, x, known, source, n=n)

    def log_evidence(self, n: int = 1000, *, source: Source | None = None) -> LogEvidence:
        """The log of p(training data); see [`log_evidence`][reparam.graphical.evidence.log_evidence]."""
        return log_evidence(self, n, source=source)

    def extra_repr(self) -> str:
        return f"{', '.join(self.nodes)}; {self.size} rows"

    def _build(
        self, names: tuple[str, ...], categories: Mapping[str, tuple[str, ...]], gaps: frozenset[str], rows: int, x: Tensor | None
    ) -> None:
        """Everything that is made for data: their columns, what becomes of the nodes, and the guide; x, where it is there."""
        for name in self.config.hide or ():
            if name not in names:
                raise BadInputError(f"hide={name!r} is no column: the data have {', '.join(names)}")
        self.columns, self.size = Columns(self.nodes, names, categories), rows
        if x is not None:
            self.columns.fit(x)
            x = self._hidden(x, torch.arange(rows))
        gaps = gaps.union(self.config.hide or ())
        self._plan = plan = make_plan(self.nodes, self.columns, x, gaps, rows, self.config.enumerate)
        self.columns.integers |= {name for name, law in plan.laws.items() if is_discrete(law) and not _floats(law)}
        self.guide = make_guide(plan.latents, self.config, rows=rows, features=self.columns.features) if plan.latents else None
        if self.guide is not None:
            self._plan = plan.with_guide(self.guide.about)
        self.register_buffer("known_rows", torch.zeros(rows, dtype=torch.int64))
        self.register_buffer("fingerprint", torch.zeros((), dtype=torch.int64))

    def _hidden(self, x: Tensor, index: Tensor) -> Tensor:
        """The rows without what is hidden of them."""
        if not self.config.hide:
            return x
        # Which training rows are shown is a function of their number.
        order = torch.randperm(self.size, generator=torch.Generator().manual_seed(0))
        shown = torch.isin(index, order[: round(self.config.shown * self.size)])
        places = torch.tensor([name in self.config.hide for name in self.columns.names])
        return x.masked_fill((~shown[:, None] & places).to(x.device), torch.nan)

    def _places(self, x: Tensor, numbers: Tensor | None) -> Tensor:
        """Where each row is among those that were observed: in the same table, or of the same number and values; otherwise -1."""
        if len(x) == self.size and bool(_fingerprint(x) == self.fingerprint):
            return torch.arange(len(x))
        if numbers is None or self.rows is None:
            return torch.full((len(x),), -1)
        places = {row: place for place, row in enumerate(self.known_rows.tolist())}
        index = torch.tensor([places.get(row, -1) for row in numbers.tolist()], dtype=torch.int64)
        known, own = (tensor[index.to(tensor.device)].to(x.device) for tensor in self.rows)
        same = torch.isclose(self._hidden(x, index), known, rtol=0, atol=0, equal_nan=True).all(1)
        return torch.where((same & (own == index.to(x.device))).cpu(), index, -1)

    def seen(self, batch: Batch) -> Seen:
        """A batch as the model and its guide see it.

        Raises:
            ValueError: for another number of columns.
        """
        self.plan()
        x, index = (batch, torch.full((len(batch),), -1, device=batch.device)) if isinstance(batch, Tensor) else batch[:2]
        if x.dim() != 2 or x.shape[1] != len(self.columns.names):
            raise ValueError(f"the batch has shape {tuple(x.shape)}: this model takes N x {len(self.columns.names)}")
        values, there = self.columns.read(x)
        return Seen(rows_of_table(self.nodes, values, there, x), self.columns.seen(x), index)

    def front(self, values: Mapping[str, Tensor]) -> torch.Size:
        """The rows of values, in front of (B,) + event."""
        events = {name: len(self.plan().laws[name].event_shape) for name in values}
        shapes = [value.shape[: value.dim() - events[name] - 1] for name, value in values.items()]
        return torch.Size(torch.broadcast_shapes((), *shapes))

    def enumerable(self, name: str) -> bool:
        """Whether a node can be summed out."""
        node, law = self.nodes[name], self.plan().laws.get(name)
        return law is not None and not node.shared and node.estimator is None and is_discrete(law) and support_size(law) is not None


def _floats(law: Distribution) -> bool:
    return law.sample().is_floating_point()


def _fingerprint(x: Tensor) -> Tensor:
    """A number that tells tables apart."""
    digest = hashlib.sha256(x.detach().cpu().float().numpy().tobytes()).digest()
    return torch.tensor(int.from_bytes(digest[:8], "little", signed=True), dtype=torch.int64)
