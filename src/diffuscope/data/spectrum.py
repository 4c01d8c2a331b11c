"""The spectrum of a covariance as a picture: eigenvalues, and the variance that the leading ones explain."""

import math

import torch

from diffuscope.exact import Gaussian, reliable_from
from diffuscope.findings import Chart, Mark, Panel, Rule, line

DRAWN = 400  # points of a curve
ROUNDING = 1e-12  # eigenvalues that are zero, relative to the largest


def spectrum_chart(gaussian: Gaussian) -> Chart:
    """Eigenvalues and the explained share of the variance by rank; the tail is drawn as the constant that it is.

    >>> import torch
    >>> from diffuscope import Gaussian
    >>> from diffuscope.data import spectrum_chart
    >>> gaussian = Gaussian.from_covariance(torch.zeros(3), torch.diag(torch.tensor([1.0, 5.0, 2.0])))
    >>> (explained,) = spectrum_chart(gaussian).panels[1].marks
    >>> [round(share, 6) for share in explained.y]  # 5 / 8, 7 / 8, 8 / 8
    [0.625, 0.875, 1.0]
    """
    D, k = gaussian.dimension, len(gaussian.eigenvalues)
    ranks = torch.logspace(0, math.log10(D), DRAWN, dtype=torch.float64).round().long().unique()
    values = torch.where(
        ranks <= k,
        torch.cat([gaussian.eigenvalues, gaussian.eigenvalues.new_zeros(1)])[(ranks - 1).clamp(max=k)],
        gaussian.tail_variance,
    )
    sums = torch.cat([gaussian.eigenvalues.new_zeros(1), gaussian.eigenvalues.cumsum(0)])
    explained = sums[ranks.clamp(max=k)] + (ranks - k).clamp(min=0) * gaussian.tail_variance
    positive = values > ROUNDING * float(values.max())
    marks: list[Mark] = [line(ranks[positive], values[positive], "eigenvalues")]
    if gaussian.count is not None and 0 < (level := reliable_from(gaussian)) < float(values.max()) ** 0.5:
        marks.append(Rule(level**2, label="square of the lowest reliable noise level"))
    return Chart(
        "Spectrum of the data",
        (
            Panel("Variance per component", "component", "variance", tuple(marks), x_log=True, y_log=True),
            Panel(
                "Explained variance", "number of components", "share",
                (line(ranks, explained / gaussian.trace if gaussian.trace > 0 else explained, "explained"),),
                x_log=True, y_range=(0.0, 1.02),
            ),
        ),
        "Left: the variance of the data along each principal component; a flat end is the mean of those that were not "
        "kept. At noise below the dotted line the sample is too small for the denoiser of this Gaussian. Right: the "
        "share of the total variance in the leading components.",
    )  # fmt: skip
