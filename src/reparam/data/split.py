"""Rows for training, validation and test, drawn by a seed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from reparam.data.dataset import Data, Splits
from reparam.errors import BadInputError

__all__ = ["RULE", "split"]


#: How rows are drawn now; runs remember it.
RULE = 2

# A stream of its own: the plain stream of a seed is that of `np.random.default_rng(seed)`, of which people make data.
_STREAM = 0x73706C6974


def split(data: Data, *, seed: int = 0, validation: float = 0.1, test: float = 0.1, rule: int = RULE) -> Splits:
    """Training, validation and test rows of `data`.

    Where the source has a validation or a test set of its own, that one is used and its fraction has no effect. The same seed
    gives the same rows with any version of the libraries: the order sorts raw 64-bit outputs of the PCG64 generator.

    Args:
        data: what to split.
        seed: a whole number from 0; every bit of it counts.
        validation: fraction of the rows of `data`, rounded, at least one row; 0 takes the training rows, all of them, once more.
        test: likewise.
        rule: 1 draws as runs did that were made before there was a 2, from the stream of `np.random.default_rng(seed)`: of data
            that come from that stream too, the rows for the test then are those with the smallest numbers.

    Raises:
        BadInputError: when a fraction is outside [0, 1), when both leave nothing to train on, or when there are too few rows.

    Example:
        >>> from reparam.data import load, split
        >>> splits = split(load("digits"), seed=0)
        >>> len(splits.train), len(splits.validation), len(splits.test)
        (1437, 180, 180)
    """
    if seed < 0:
        raise BadInputError(f"the split seed is {seed}: a whole number from 0 is wanted")
    own = {"validation": data.validation, "test": data.test}
    wanted = {name: share for name, share in (("validation", validation), ("test", test)) if own[name] is None}
    for name, share in wanted.items():
        if not 0 <= share < 1:
            raise BadInputError(
                f"the {name} fraction is {share}: a number from 0 (the training rows once more) to below 1 is wanted"
            )
    sizes = [max(round(share * len(data)), 1) if share else 0 for share in wanted.values()]
    if sum(wanted.values()) >= 1 or sum(sizes) >= len(data):
        shares = " and ".join(f"{name}={share:g}" for name, share in wanted.items())
        noun, hint = ("sequence", "cut it into windows (window=..., --window)") if data.sequence else ("row", "give more rows")
        count = f"{len(data)} {noun}{'s' * (len(data) != 1)}"
        raise BadInputError(f"{data.name} has {count}, and {shares} leaves none to train on: {hint} or take less")
    stream = np.random.SeedSequence(seed, spawn_key=() if rule == 1 else (_STREAM,))
    order = torch.from_numpy(np.argsort(np.random.PCG64(stream).random_raw(len(data)), kind="stable"))
    *taken, rest = order.split_with_sizes([*sizes, len(data) - sum(sizes)])
    drawn = {name: _rows(data, rows if len(rows) else rest) for name, rows in zip(wanted, taken, strict=True)}
    return Splits(_rows(data, rest), data.validation or drawn["validation"], data.test or drawn["test"], seed)


def _rows(data: Data, rows: Tensor) -> Data:
    y, response = (None if given is None else given[rows] for given in (data.y, data.response))
    beside = {name: given[rows] for name, given in data.beside.items()}
    return replace(data, x=data.x[rows], y=y, response=response, beside=beside, validation=None, test=None, rows=rows)
