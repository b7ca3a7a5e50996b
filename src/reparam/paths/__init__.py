"""How noise becomes a sample, per class of `torch.distributions`."""

from reparam.paths import affine, beta, circular, compose, gamma, lkj, matrix, mixture, quantile, student, wishart  # noqa: F401
from reparam.paths.beta import ratio_of_gammas
from reparam.paths.cumulative import cdf, icdf, icdf_from_log, log_cdf, log_survival
from reparam.paths.delegate import reparameterized
from reparam.paths.discrete import sample, steps
from reparam.paths.implicit import implicit
from reparam.paths.joint import sample_and_log_prob
from reparam.paths.parameters import detached
from reparam.paths.path import NoPathError, Path, noise_like, path, rsample
from reparam.paths.relaxed import relaxed
from reparam.paths.student import normal_over_chi
from reparam.paths.transport import optimal_transport

__all__ = [
    "NoPathError",
    "Path",
    "cdf",
    "detached",
    "icdf",
    "icdf_from_log",
    "implicit",
    "log_cdf",
    "log_survival",
    "noise_like",
    "normal_over_chi",
    "optimal_transport",
    "path",
    "ratio_of_gammas",
    "relaxed",
    "reparameterized",
    "rsample",
    "sample",
    "sample_and_log_prob",
    "steps",
]
