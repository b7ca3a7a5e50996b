"""Graphical models: nodes with laws given their parents, what is summed out, what a guide stands for, and what can be asked.

The model that holds them together and is trained is [`Graphical`][reparam.models.graphical.Graphical].
"""

from reparam.graphical.laws import CategoricalTable, LinearCategorical, LinearNormal
from reparam.graphical.node import Node, select
from reparam.graphical.posterior import Posterior

__all__ = ["CategoricalTable", "LinearCategorical", "LinearNormal", "Node", "Posterior", "select"]
