"""Gradient estimators of E[f(z)] under one contract: draw rows, weigh costs."""

from reparam.estimators.baseline import MovingAverage
from reparam.estimators.choose import Choice, choose
from reparam.estimators.coupled import DisARM
from reparam.estimators.estimator import Draw, Estimator, expect
from reparam.estimators.exact import Enumerate
from reparam.estimators.graph import Sampler, graph
from reparam.estimators.pathwise import Pathwise
from reparam.estimators.relaxation import GumbelRao, GumbelSoftmax
from reparam.estimators.score import LeaveOneOut, Score
from reparam.estimators.straight_through import ReinMax, StraightThrough

__all__ = [
    "Choice",
    "DisARM",
    "Draw",
    "Enumerate",
    "Estimator",
    "GumbelRao",
    "GumbelSoftmax",
    "LeaveOneOut",
    "MovingAverage",
    "Pathwise",
    "ReinMax",
    "Sampler",
    "Score",
    "StraightThrough",
    "choose",
    "expect",
    "graph",
]
