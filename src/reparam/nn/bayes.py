"""The best denoiser there is, where it is known: that of a Gaussian mixture."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Independent, MixtureSameFamily, Normal

from reparam.nn.noising import Denoise, Schedule, beside

__all__ = ["bayes"]


def bayes(mixture: MixtureSameFamily, schedule: Schedule) -> Denoise:
    """The denoiser `E[x | z]` of data `x` from a mixture of diagonal Gaussians: what a trained network is held against.

    Of component k, `z ~ N(alpha m_k, v_k)` with `v_k = alpha^2 s_k^2 + sigma^2`. So

        E[x | z] = sum_k p(k | z) (m_k + alpha s_k^2 (z - alpha m_k) / v_k),   p(k | z) ~ w_k N(z; alpha m_k, v_k).

    Args:
        mixture: of `Independent(Normal(m, s), r)` with m and s of shape (K,) + event.
        schedule: whose states the denoiser takes.

    Returns:
        `denoise(z, log_snr)`, computed in the wider of the dtypes of the mixture and of z, in that of z.

    Raises:
        TypeError: for another mixture.

    Example:
        >>> import torch
        >>> from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal
        >>> from reparam.nn.bayes import bayes
        >>> from reparam.nn.noising import VP
        >>> means = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
        >>> two = MixtureSameFamily(Categorical(torch.ones(2)), Independent(Normal(means, 0.1), 1))
        >>> denoise = bayes(two, VP())
        >>> torch.allclose(denoise(torch.tensor([[0.9, 0.0]]), torch.tensor([2.0])), torch.tensor([[1.0, 0.0]]), atol=0.02)
        True
    """
    components = mixture.component_distribution
    if not isinstance(components, Independent) or not isinstance(components.base_dist, Normal) or len(mixture.batch_shape):
        raise TypeError(
            f"{mixture} is no single mixture of Independent(Normal(...), r): the Bayes denoiser is known of those in closed form"
        )
    loc, variance = components.base_dist.loc, components.base_dist.variance
    log_weights = mixture.mixture_distribution.logits
    event = tuple(range(2, loc.dim() + 1))

    def denoise(z: Tensor, log_snr: Tensor) -> Tensor:
        alpha, sigma = (beside(c, z).unsqueeze(1) for c in (schedule.alpha(log_snr), schedule.sigma(log_snr)))
        spread = (alpha**2 * variance + sigma**2).to(torch.promote_types(z.dtype, loc.dtype))
        off = z.unsqueeze(1) - alpha * loc
        log_p = log_weights - 0.5 * (off**2 / spread + spread.log()).sum(event)
        share = log_p.softmax(1).reshape(log_p.shape + (1,) * len(event))
        return (share * (loc + alpha * variance / spread * off)).sum(1).to(z.dtype)

    return denoise
