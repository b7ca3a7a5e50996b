"""Distributions that torch lacks: `torch.distributions.Distribution` subclasses, each with its path."""

from reparam.distributions.asymmetric_laplace import AsymmetricLaplace
from reparam.distributions.beta_prime import BetaPrime
from reparam.distributions.chi import Chi
from reparam.distributions.delta import Delta
from reparam.distributions.exponentially_modified_normal import ExponentiallyModifiedNormal
from reparam.distributions.frechet import Frechet
from reparam.distributions.gaussian_copula import GaussianCopula
from reparam.distributions.generalized_extreme_value import GeneralizedExtremeValue
from reparam.distributions.generalized_normal import GeneralizedNormal
from reparam.distributions.gompertz import Gompertz
from reparam.distributions.hyperbolic_secant import HyperbolicSecant
from reparam.distributions.hyperspherical_uniform import HypersphericalUniform
from reparam.distributions.inverse_gaussian import InverseGaussian
from reparam.distributions.inverse_wishart import InverseWishart
from reparam.distributions.johnson_su import JohnsonSU
from reparam.distributions.k_subset import KSubset
from reparam.distributions.law import Discrete, Law, Univariate
from reparam.distributions.lkj import LKJ
from reparam.distributions.log_dirichlet import LogDirichlet
from reparam.distributions.log_gamma import LogGamma
from reparam.distributions.log_logistic import LogLogistic
from reparam.distributions.logistic import Logistic
from reparam.distributions.logit_beta import LogitBeta
from reparam.distributions.logit_normal import LogitNormal
from reparam.distributions.lomax import Lomax
from reparam.distributions.matrix_normal import MatrixNormal
from reparam.distributions.maxwell import Maxwell
from reparam.distributions.moyal import Moyal
from reparam.distributions.multivariate_student_t import MultivariateStudentT
from reparam.distributions.nakagami import Nakagami
from reparam.distributions.perturb_and_map import PerturbAndMAP
from reparam.distributions.plackett_luce import PlackettLuce
from reparam.distributions.power_spherical import PowerSpherical
from reparam.distributions.projected_normal import ProjectedNormal
from reparam.distributions.rayleigh import Rayleigh
from reparam.distributions.sinh_arcsinh import SinhArcsinh
from reparam.distributions.skew_normal import SkewNormal
from reparam.distributions.tanh_normal import TanhNormal
from reparam.distributions.triangular import Triangular
from reparam.distributions.truncated import Truncated
from reparam.distributions.truncated_normal import TruncatedNormal
from reparam.distributions.von_mises_fisher import VonMisesFisher

__all__ = [
    "AsymmetricLaplace",
    "BetaPrime",
    "Chi",
    "Delta",
    "Discrete",
    "ExponentiallyModifiedNormal",
    "Frechet",
    "GaussianCopula",
    "GeneralizedExtremeValue",
    "GeneralizedNormal",
    "Gompertz",
    "HyperbolicSecant",
    "HypersphericalUniform",
    "InverseGaussian",
    "InverseWishart",
    "JohnsonSU",
    "KSubset",
    "LKJ",
    "Law",
    "LogDirichlet",
    "LogGamma",
    "LogLogistic",
    "Logistic",
    "LogitBeta",
    "LogitNormal",
    "Lomax",
    "MatrixNormal",
    "Maxwell",
    "Moyal",
    "MultivariateStudentT",
    "Nakagami",
    "PerturbAndMAP",
    "PlackettLuce",
    "PowerSpherical",
    "ProjectedNormal",
    "Rayleigh",
    "SinhArcsinh",
    "SkewNormal",
    "TanhNormal",
    "Triangular",
    "Truncated",
    "TruncatedNormal",
    "Univariate",
    "VonMisesFisher",
]
