"""Gradient estimators of E[f(z)] under one contract: draw rows, weigh costs."""

from reparam.estimators.baseline import MovingAverage
from reparam.estimators.choose import Choice, choose
from reparam.estimators.control import LAX, REBAR, RELAX
from reparam.estimators.coupled import ARM, DisARM
from reparam.estimators.estimator import Draw, Estimator, expect
from reparam.estimators.exact import Enumerate
from reparam.estimators.graph import Sampler, graph
from reparam.estimators.integer import StochasticTriple
from reparam.estimators.measure import MeasureValued
from reparam.estimators.muprop import MuProp
from reparam.estimators.pathwise import Pathwise
from reparam.estimators.permutation import GumbelSinkhorn
from reparam.estimators.perturb import ImplicitMLE
from reparam.estimators.plan import Plan, plan
from reparam.estimators.quadrature import Quadrature
from reparam.estimators.relaxation import GumbelRao, GumbelSoftmax
from reparam.estimators.replacement import SumAndSample, WithoutReplacement
from reparam.estimators.score import LeaveOneOut, Score
from reparam.estimators.straight_through import ReinMax, StraightThrough
from reparam.estimators.subset import SIMPLE
from reparam.estimators.swap import ARSM

__all__ = [
    "ARM",
    "ARSM",
    "Choice",
    "DisARM",
    "Draw",
    "Enumerate",
    "Estimator",
    "GumbelRao",
    "GumbelSinkhorn",
    "GumbelSoftmax",
    "ImplicitMLE",
    "LAX",
    "LeaveOneOut",
    "MeasureValued",
    "MovingAverage",
    "MuProp",
    "Pathwise",
    "Plan",
    "Quadrature",
    "REBAR",
    "RELAX",
    "ReinMax",
    "SIMPLE",
    "Sampler",
    "Score",
    "StochasticTriple",
    "StraightThrough",
    "SumAndSample",
    "WithoutReplacement",
    "choose",
    "expect",
    "graph",
    "plan",
]
