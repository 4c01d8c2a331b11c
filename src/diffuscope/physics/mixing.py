r"""Whether Markov chains have mixed: split R-hat and the effective sample size.

With W the mean variance within the halves of all chains and B/S the variance of their means,

.. math::
    \hat R^2 = \frac{(S-1)/S\, W + B/S}{W}, \qquad
    \mathrm{ESS} = \frac{C S}{1 + 2\sum_{k \ge 1} \rho_k}, \qquad
    \rho_k = 1 - \frac{W - \overline{\gamma_k}}{\hat R^2 W},

the sum stopped by Geyer's initial monotone sequence of pairs. The standard error of a mean is the standard deviation
over sqrt(ESS). Sources: Gelman et al. 2013, section 11.4; Geyer 1992; Vehtari et al. 2021 (arXiv:1903.08008).
"""

import torch
from jaxtyping import Float
from torch import Tensor

Series = Float[Tensor, "*batch chains sweeps"]


def split_r_hat(series: Series) -> Float[Tensor, "*batch"]:
    """R-hat of the halves of the chains; 1 for a quantity that is constant."""
    return _moments(_halves(series))[2]


def effective_sample_size(series: Series) -> Float[Tensor, "*batch"]:
    """How many independent draws have the same variance of the mean; at most the draws times log10 of their number."""
    halves = _halves(series)
    chains, sweeps = halves.shape[-2:]
    centered = halves - halves.mean(-1, keepdim=True)
    spectrum = torch.fft.rfft(centered, 2 * sweeps).abs().square().mean(-2)
    covariance = torch.fft.irfft(spectrum)[..., :sweeps] / sweeps
    within, total, _ = _moments(halves)
    rho = 1 - (within[..., None] - covariance) / total[..., None]
    rho[..., 0] = 1.0
    pairs = rho[..., : sweeps // 2 * 2].unflatten(-1, (-1, 2)).sum(-1)
    positive = (pairs > 0).cumprod(-1)
    monotone = pairs.cummin(-1).values
    draws = torch.tensor(float(chains * sweeps), dtype=series.dtype)
    time = (2 * (monotone * positive).sum(-1) - 1).clamp(min=1 / float(draws.log10()))
    return torch.where(total > 0, draws / time, draws)


def standard_error(series: Series) -> Float[Tensor, "*batch"]:
    """Of the mean over all chains and sweeps."""
    return series.flatten(-2).std(-1) / effective_sample_size(series).sqrt()


def _halves(series: Series) -> Tensor:
    half = series.shape[-1] // 2
    return torch.cat([series[..., :half], series[..., half : 2 * half]], -2)


def _moments(chains: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(W, R-hat^2 W, R-hat)."""
    sweeps = chains.shape[-1]
    within = chains.var(-1).mean(-1)
    total = (sweeps - 1) / sweeps * within + chains.mean(-1).var(-1)
    constant = total <= 1e-24 * chains.square().mean((-2, -1))
    ratio = torch.where(constant, 1.0, total / within)
    return within, torch.where(constant, 0.0, total), ratio.sqrt()
