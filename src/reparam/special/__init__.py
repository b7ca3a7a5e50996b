"""Functions that torch lacks, differentiable to any order."""

from reparam.special.beta import betainc, log_betainc, log_betaincc, logit_beta_quantile, logit_beta_slopes
from reparam.special.gamma import (
    gammainc,
    gammaincc,
    log_gamma_hazard,
    log_gamma_quantile,
    log_gamma_slope,
    log_gammainc,
    log_gammaincc,
)
from reparam.special.normal import hazard_from_normal, log_ndtr, log_ndtri, normal_from_hazard
from reparam.special.relative import exprel, log1prel
from reparam.special.saturate import normal_exp, normal_range
from reparam.special.slopes import with_slopes
from reparam.special.student import log_student_cdf, log_student_sf, student_quantile
from reparam.special.von_mises import angle_hazard, angle_quantile

__all__ = [
    "angle_hazard",
    "angle_quantile",
    "betainc",
    "exprel",
    "gammainc",
    "gammaincc",
    "hazard_from_normal",
    "log1prel",
    "log_betainc",
    "log_betaincc",
    "log_gamma_hazard",
    "log_gamma_quantile",
    "log_gamma_slope",
    "log_gammainc",
    "log_gammaincc",
    "log_ndtr",
    "log_ndtri",
    "log_student_cdf",
    "log_student_sf",
    "logit_beta_quantile",
    "logit_beta_slopes",
    "normal_exp",
    "normal_from_hazard",
    "normal_range",
    "student_quantile",
    "with_slopes",
]
