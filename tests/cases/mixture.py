"""Mixtures and paths from distribution functions."""

from __future__ import annotations

from cases.case import Case

UNIVARIATE: list[Case] = []

VECTOR: list[Case] = []

EXTREME: list[Case] = []
