"""What a guide is told of a latent: its support, in which it has coordinates without bounds, or how many values it has."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Independent, VonMises, biject_to, constraints
from torch.distributions.constraints import Constraint

from reparam.errors import BadInputError
from reparam.estimators.support import law_name
from reparam.graphical.node import Latent, Node
from reparam.paths.path import bounds, is_discrete

__all__ = ["latent_of", "support_of"]


def latent_of(node: Node, law: Distribution, other: Distribution, start: Tensor, *, cells: bool) -> Latent:
    """What a guide is told of a node, whose law is given at two sets of values of its parents.

    Args:
        node: which is latent, in some rows at least.
        law: its law at typical values.
        other: its law at others.
        start: M + event, plausible values.
        cells: whether it stands for the gaps of a column.

    Raises:
        BadInputError: for a discrete law other than Bernoulli and Categorical; for a support that has no coordinates without
            bounds, or whose bounds depend on parents.

    Example:
        >>> import torch
        >>> from torch.distributions import HalfCauchy
        >>> from reparam.graphical.latent import latent_of
        >>> node = Node("tau", lambda: HalfCauchy(5.0), shared=True)
        >>> latent_of(node, node.law(), node.law(), torch.ones(3), cells=False).support
        GreaterThanEq(lower_bound=0.0)
    """
    categories = 0
    support: Constraint = constraints.real
    if is_discrete(law):
        categories = _categories(node, law)
    else:
        support = support_of(node, law)
        if _ends(support) != _ends(support_of(node, other)):
            raise BadInputError(_moving(node))
        try:
            biject_to(support)
        except NotImplementedError:
            raise BadInputError(
                f"node {node.name!r} is latent, and the support of {law_name(law)}, {support}, has no map from the line in "
                "torch.distributions.biject_to: register one"
            ) from None
    return Latent(node.name, law.event_shape, support, node.shared, cells, node.estimator, start, categories)


def support_of(node: Node, law: Distribution) -> Constraint:
    """The support of one element of a law, an interval without end as a half-line, an angle as an interval.

    Raises:
        BadInputError: for bounds that are not the same in all rows.

    Example:
        >>> from torch.distributions import Uniform
        >>> from reparam.graphical.latent import support_of
        >>> support_of(Node("u"), Uniform(0.0, torch.tensor([2.0, 2.0])))
        Interval(lower_bound=0.0, upper_bound=2.0)
    """

    def one(support: Constraint) -> Constraint:
        if isinstance(support, constraints.independent):
            return constraints.independent(one(support.base_constraint), support.reinterpreted_batch_ndims)
        ends = [getattr(support, name) for name in ("lower_bound", "upper_bound") if hasattr(support, name)]
        if not any(isinstance(end, Tensor) for end in ends):
            return support
        wide = [torch.as_tensor(end).expand(law.batch_shape + law.event_shape) for end in ends]
        rows = [end.reshape((-1, *law.event_shape)) for end in wide]
        if any(bool((end != end[0]).any()) for end in rows):
            raise BadInputError(_moving(node))
        return _between(support, [end[0] for end in rows])

    if isinstance(law, VonMises):
        return constraints.interval(-torch.pi, torch.pi)
    return one(law.support or constraints.real)


def _between(support: Constraint, ends: list[Tensor]) -> Constraint:
    """A support of the same kind with these ends; without those that are infinite."""
    infinite = [bool(end.isinf().all()) for end in ends]
    if len(ends) < 2 or not any(infinite):
        made: Constraint = type(support)(*ends)
        return made
    low, high = ends
    if all(infinite):
        return constraints.real
    return constraints.greater_than(low) if infinite[1] else constraints.less_than(high)


def _categories(node: Node, law: Distribution) -> int:
    """How many values each component has, 1 for coins."""
    inside = law
    while isinstance(inside, Independent):
        inside = inside.base_dist
    if isinstance(inside, Bernoulli):
        return 1
    if isinstance(inside, Categorical):
        return inside.logits.shape[-1]
    raise BadInputError(
        f"node {node.name!r} is latent and {law_name(law)}: of discrete latents only Bernoulli and Categorical ones are sampled; "
        "sum it out (fewer values, no estimator), or observe it"
    )


def _ends(support: Constraint) -> list[object]:
    """The bounds of a support, to compare."""
    return [end.tolist() if isinstance(end, Tensor) else end for end in bounds(support)]


def _moving(node: Node) -> str:
    return (
        f"node {node.name!r} is latent, and the bounds of its support differ with its parents: make it a function of a node with "
        "a support of its own, such as low + (high - low) * share, with share from Uniform(0, 1)"
    )
