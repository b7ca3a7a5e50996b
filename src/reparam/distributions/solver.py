"""Solvers: from scores to the value of a structure that has the largest sum of scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

__all__ = ["Solver", "matching", "solve", "top_k"]

Solver = Callable[[Tensor], Tensor]  # scores of shape any + event to values of the same shape: argmax of the sum of z * scores


def top_k(k: int) -> Solver:
    """The solver that takes the k largest of the last dimension.

    Example:
        >>> import torch
        >>> top_k(2)(torch.tensor([0.3, -1.0, 2.0]))
        tensor([1., 0., 1.])
    """
    if isinstance(k, bool) or not isinstance(k, int) or k < 0:
        raise ValueError(f"top_k takes the number of items, an integer that is not negative; got {k!r}")

    def top(scores: Tensor) -> Tensor:
        return torch.zeros_like(scores).scatter(-1, scores.topk(k).indices, 1.0)

    return top


def matching(scores: Tensor) -> Tensor:
    """The permutation matrix of the largest total score, for scores of shape `any + (n, n)`; one at (i, j) where j is given to i.

    On the CPU, matrix by matrix, in n^3 steps.

    Raises:
        ValueError: for scores that are not square matrices of finite numbers.

    Source: Jonker and Volgenant (1987), "A shortest augmenting path algorithm for dense and sparse linear assignment problems".

    Example:
        >>> import torch
        >>> matching(torch.tensor([[5.0, 4.0], [4.0, 0.0]]))
        tensor([[0., 1.],
                [1., 0.]])
    """
    n = scores.shape[-1] if scores.dim() else 0
    if scores.shape[-2:] != (n, n) or not bool(scores.isfinite().all()):
        raise ValueError(f"matching takes square matrices of finite scores; got scores of shape {tuple(scores.shape)}")
    if not scores.numel():
        return torch.zeros_like(scores)
    costs = -scores.detach().reshape(-1, n, n).cpu().double().numpy()
    columns = np.array([_assign(cost) for cost in costs], dtype=np.int64).reshape(scores.shape[:-1])
    return torch.nn.functional.one_hot(torch.from_numpy(columns), n).to(scores)


def _assign(cost: np.ndarray) -> np.ndarray:
    """The column of each row in the assignment of the least cost: row by row, along a shortest path in reduced costs."""
    n = len(cost)
    u, v = np.zeros(n), np.zeros(n)  # prices: cost[i, j] - u[i] - v[j] >= 0, and 0 where j is given to i
    row_of, column_of = np.full(n, -1), np.full(n, -1)
    for start in range(n):
        length, before, reached = np.full(n, np.inf), np.full(n, -1), np.zeros(n, dtype=bool)
        i, so_far = start, 0.0
        while True:
            through = so_far + cost[i] - u[i] - v
            shorter = ~reached & (through < length)
            length[shorter], before[shorter] = through[shorter], i
            j = int(np.where(reached, np.inf, length).argmin())
            so_far = length[j]
            if row_of[j] < 0:
                break
            reached[j], i = True, row_of[j]
        u[start] += so_far
        u[row_of[reached]] += so_far - length[reached]
        v[reached] -= so_far - length[reached]
        while True:  # each row on the path moves to the column that it reached
            i = before[j]
            row_of[j], column_of[i], j = i, j, column_of[i]
            if i == start:
                break
    return column_of


def solve(solver: Solver, scores: Tensor) -> Tensor:
    """The values at the scores, cut from the graph; what a solver got wrong is said.

    Raises:
        RuntimeError: when the solver fails.
        TypeError, ValueError: when it returns something other than finite values of the shape of the scores.
    """
    name = getattr(solver, "__name__", type(solver).__name__)
    wanted = f"scores of shape {tuple(scores.shape)}; a solver takes rows + batch + event at once and returns values of that shape"
    with torch.no_grad():
        try:
            z = solver(scores.detach().clone())
        except Exception as error:
            raise RuntimeError(f"the solver {name} failed with {error!r} on {wanted}") from error
    if not isinstance(z, Tensor):
        raise TypeError(f"the solver {name} returned a {type(z).__name__}, not a tensor, for {wanted}")
    if z.shape != scores.shape:
        raise ValueError(f"the solver {name} returned shape {tuple(z.shape)} for {wanted}")
    z = z.detach().to(scores)
    if not bool(z.isfinite().all()):
        raise ValueError(f"the solver {name} returned values that are not finite for {wanted}")
    return z
