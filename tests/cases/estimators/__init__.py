"""Estimators at work: each row is a law, a cost, and its exact answer. One file a family; adding an estimator adds a row."""

from cases.estimators import control, coupled, integer, measure, quadrature, relaxation, score, structured
from cases.estimators.row import Row

ROWS: dict[str, Row] = {
    **control.ROWS,
    **coupled.ROWS,
    **integer.ROWS,
    **measure.ROWS,
    **quadrature.ROWS,
    **relaxation.ROWS,
    **score.ROWS,
    **structured.ROWS,
}
