"""Beta, Dirichlet, Student's t and what is made of them."""

from __future__ import annotations

from cases.case import Case

UNIVARIATE: list[Case] = []

VECTOR: list[Case] = []

EXTREME: list[Case] = []
