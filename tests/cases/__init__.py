"""One table: the laws that have a path, with exact distribution functions. The properties in test_paths_*.py run over it."""

from cases import beta, circular, explicit, gamma, mixture, simple, structured
from cases.case import Case, holds, ids
from cases.explicit import FACTOR, LOC

_FAMILIES = (explicit, gamma, beta, circular, mixture, simple, structured)

UNIVARIATE = [case for family in _FAMILIES for case in family.UNIVARIATE]
VECTOR = [case for family in _FAMILIES for case in family.VECTOR]
CASES = UNIVARIATE + VECTOR
EXTREME = [case for family in _FAMILIES for case in family.EXTREME]  # parameters at the ends of the floats

__all__ = ["CASES", "EXTREME", "FACTOR", "LOC", "UNIVARIATE", "VECTOR", "Case", "holds", "ids"]
