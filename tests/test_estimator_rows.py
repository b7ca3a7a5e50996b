"""Every estimator keeps its promise on every row of its table.

Each property fails without a fault once in 1e9 runs at most, and says what it would miss: an error of a tenth of the truth at
most, and mostly a hundredth (`detects`). Where the noise would hide more than that, the property fails.
"""

import pytest

from cases.estimators import ROWS
from reparam.testing import check_estimator


@pytest.mark.parametrize("name", ROWS)
def test_row(name):
    row = ROWS[name]
    check_estimator(row.estimator, row.make, *row.parameters, f=row.f, **row.known)
