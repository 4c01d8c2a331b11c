r"""The Gaussians about which a calibrated sampler may expand.

The data's Gaussian is the right known part of a model that learned it. A network that is poor at high noise, or poor in
the directions of small variance, is farther from it than from an isotropic one, N(mu, v I):

- v -> 0: z = (x_t - alpha mu)/sigma and Delta = D - mu, so that the steps are those of data prediction;
- v large: z ~ x_t/alpha and Delta ~ -(sigma/alpha) epsilon, noise prediction;
- v in between: noise prediction below sigma/alpha = sqrt(v), data prediction above.

The plain exponential Adams-Bashforth methods are among these, each with certain weights. The search chooses.
"""

from dataclasses import dataclass, replace

from diffuscope.exact import Gaussian

from .reference import Trajectories
from .whitened_model import WhitenedModel

VARIANCES = (1.0, 0.0, 1e2, 1e6)  # of the isotropic Gaussians, in mean variances of the data


@dataclass(frozen=True, eq=False)
class View:
    """The model and the reference in the coordinates of one Gaussian."""

    gaussian: Gaussian
    model: WhitenedModel
    fitting: Trajectories
    validating: Trajectories


def views_of(model: WhitenedModel, gaussian: Gaussian, reference: Trajectories) -> list[View]:
    """About the data's Gaussian, which is that of `model`, first; then about isotropic ones."""
    views = [_view(gaussian, model, reference)]
    for share in VARIANCES:
        isotropic = Gaussian.isotropic(gaussian.mean, share * model.rms_std**2)
        seen = model.about(isotropic)
        views.append(_view(isotropic, seen, replace(reference, frame=seen.basis)))
    return views


def _view(gaussian: Gaussian, model: WhitenedModel, reference: Trajectories) -> View:
    """Every second trajectory is for fitting, the others for validation."""
    return View(gaussian, model, reference.part(slice(0, None, 2)), reference.part(slice(1, None, 2)))
