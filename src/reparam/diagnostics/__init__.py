"""What a gradient estimate is worth."""

from reparam.diagnostics.diagnose import Diagnosis, diagnose, diagnose_losses
from reparam.diagnostics.finding import Finding, Part
from reparam.diagnostics.gradient import Moments, gradient_moments
from reparam.diagnostics.meter import GradientMeter
from reparam.diagnostics.shares import NoiseShares, noise_shares

__all__ = [
    "Diagnosis",
    "Finding",
    "GradientMeter",
    "Moments",
    "NoiseShares",
    "Part",
    "diagnose",
    "diagnose_losses",
    "gradient_moments",
    "noise_shares",
]
