"""How noise becomes a sample, per class of `torch.distributions`."""

from reparam.paths import affine, beta, compose, gamma, lkj, matrix, mixture, quantile, student  # noqa: F401  (each registers its paths)
from reparam.paths.cumulative import cdf, icdf, icdf_from_log, log_cdf, log_survival
from reparam.paths.delegate import reparameterized
from reparam.paths.discrete import sample
from reparam.paths.joint import sample_and_log_prob
from reparam.paths.parameters import detached
from reparam.paths.path import NoPathError, Path, noise_like, path, rsample
from reparam.paths.relaxed import relaxed

__all__ = [
    "NoPathError",
    "Path",
    "cdf",
    "detached",
    "icdf",
    "icdf_from_log",
    "log_cdf",
    "log_survival",
    "noise_like",
    "path",
    "relaxed",
    "reparameterized",
    "rsample",
    "sample",
    "sample_and_log_prob",
]
