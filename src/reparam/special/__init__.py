"""Functions that torch lacks, differentiable to any order."""

from reparam.special.relative import exprel, log1prel
from reparam.special.saturate import normal_exp, normal_range
from reparam.special.slopes import with_slopes

__all__ = ["exprel", "log1prel", "normal_exp", "normal_range", "with_slopes"]
