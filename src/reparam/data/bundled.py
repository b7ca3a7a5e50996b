"""Data sets known by name."""

from __future__ import annotations

import os
from http.client import HTTPException
from pathlib import Path

import numpy as np
import torch

from reparam.data.dataset import Data, Part, assemble
from reparam.errors import BadInputError

__all__ = ["BUNDLED", "LABELS"]

_MNIST_TRAIN = 60_000


def digits() -> Data:
    """1797 handwritten digits of 8 x 8 pixels with counts 0..16, which ship with scikit-learn."""
    from sklearn.datasets import load_digits

    found = load_digits()
    return assemble(
        {"train": Part(found.images, found.target, "digits")}, name="digits", source="digits", values="counts", levels=16
    )


def mnist() -> Data:
    """MNIST, 60000 + 10000 handwritten digits of 28 x 28 pixels, fetched from OpenML once.

    The copy is kept under `$REPARAM_CACHE`, or `~/.cache/reparam`.
    """
    from sklearn.datasets import fetch_openml

    cache = Path(os.environ.get("REPARAM_CACHE") or Path.home() / ".cache" / "reparam")
    try:
        x, y = fetch_openml("mnist_784", version=1, return_X_y=True, as_frame=False, parser="pandas", data_home=cache)
    except (OSError, HTTPException, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise BadInputError(
            f"MNIST could not be fetched from OpenML ({reason}): check the network and {str(cache)!r}, "
            "or give a folder with its four IDX files instead of 'mnist'"
        ) from error
    if x.shape != (70_000, 784) or y.shape != (70_000,):
        raise BadInputError(f"OpenML sent arrays of shape {x.shape} and {y.shape} for MNIST: remove {str(cache)!r} and try again")
    x, n = x.reshape(-1, 28, 28), _MNIST_TRAIN
    parts = {"train": Part(x[:n], y[:n], "mnist"), "test": Part(x[n:], y[n:], "the test set of mnist")}
    return assemble(parts, name="mnist", source="mnist", values="counts", levels=255)


def moons() -> Data:
    """2000 points of the plane on two half circles that hold each other, with normal noise of 0.08; the label says which."""
    from sklearn.datasets import make_moons

    x, y = make_moons(2000, noise=0.08, random_state=0)
    return assemble({"train": Part(x, y, "moons")}, name="moons", source="moons")


def breast_cancer() -> Data:
    """30 measurements of the cell nuclei of 569 tumours, malignant or benign, which ship with scikit-learn."""
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    part = Part(found.data, found.target_names[found.target], "breast_cancer", tuple(map(str, found.feature_names)))
    return assemble({"train": part}, name="breast_cancer", source="breast_cancer")


def diabetes() -> Data:
    """442 patients with diabetes: 10 measurements, and as the response how far the disease has gone after a year."""
    from sklearn.datasets import load_diabetes

    found = load_diabetes(scaled=False)
    columns = tuple(found.feature_names)
    part = Part(found.data, None, "diabetes", columns, response=found.target, responses=("progression",))
    return assemble({"train": part}, name="diabetes", source="diabetes")


def iris() -> Data:
    """150 irises: length and width of sepals and petals in cm, and as the label which of three species; Fisher, 1936."""
    from sklearn.datasets import load_iris

    found = load_iris()
    columns = ("sepal_length", "sepal_width", "petal_length", "petal_width")
    return assemble({"train": Part(found.data, found.target_names[found.target], "iris", columns)}, name="iris", source="iris")


def eight_schools() -> Data:
    """What coaching did to test scores in 8 schools: estimates y of the effect, and their standard errors sigma; Rubin, 1981."""
    y = (28, 8, -3, 7, -1, 1, 18, 12)
    sigma = (15, 10, 16, 11, 9, 11, 10, 18)
    part = Part(np.array([y, sigma]).T, None, "eight_schools", ("y", "sigma"))
    return assemble({"train": part}, name="eight_schools", source="eight_schools")


def none() -> Data:
    """10000 rows that count samples, for a model that is fitted to a density and sees no data."""
    nothing, says = torch.zeros(10_000, 1), "no data: each row asks for a sample"
    return Data(x=nothing, y=None, name="none", source="none", values="real", levels=None, scaling=says)


BUNDLED = {
    "digits": digits,
    "mnist": mnist,
    "moons": moons,
    "breast_cancer": breast_cancer,
    "diabetes": diabetes,
    "iris": iris,
    "eight_schools": eight_schools,
    "none": none,
}
# What the column of labels is called where all of a data set is one table.
LABELS = {"moons": "half", "breast_cancer": "diagnosis", "iris": "species"}
