"""Noise seeds and the order of the data, as pure functions of the run's seed and of a place in the run.

A run that resumes needs no saved stream: it asks for the seed of step 1234 and gets what the run that never stopped got.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from reparam.noise import Antithetic, Fresh, Sobol, Source

__all__ = ["data_order", "source_of", "stream_seed"]

_MASK = 0xFFFFFFFF


@lru_cache(maxsize=64)
def _base(seed: int, stream: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{stream} {seed}".encode()).digest()[:4], "little")


def stream_seed(seed: int, stream: str, counter: int) -> int:
    """A seed for a generator: `mix(base(seed, stream) + counter mod 2^32)`.

    Torch's CPU generator (Mersenne twister) looks at the low 32 bits of its seed only, so a 64-bit hash would promise more than
    it keeps, and 10^5 hashed steps would repeat a seed for certain. Here `base` is 32 bits of SHA-256 over all bits of `seed`
    and `mix`, the finaliser of MurmurHash3, is a bijection of 32-bit words: within a stream, no two counters below 2^32
    share a seed, and neighbours have unrelated ones.

    Example:
        >>> from reparam.training.randomness import stream_seed
        >>> len({stream_seed(7, "noise", step) for step in range(10_000)})
        10000
    """
    h = (_base(seed, stream) + counter) & _MASK
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & _MASK
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & _MASK
    return h ^ (h >> 16)


def data_order(seed: int, epoch: int, n: int) -> Tensor:
    """The permutation of `n` rows for an epoch, the same on every device."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(stream_seed(seed, "order", epoch)))


def source_of(noise: Literal["fresh", "antithetic", "sobol"], seed: int, device: torch.device | str = "cpu") -> Source:
    """The source of noise of a name, started from a seed."""
    if noise == "sobol":
        return Sobol(seed)
    fresh = Fresh(torch.Generator(device).manual_seed(seed))
    return Antithetic(fresh) if noise == "antithetic" else fresh
