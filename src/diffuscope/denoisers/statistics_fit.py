r"""Whether saved statistics belong to a model, or to data: the checks before a Gaussian is used in another's place.

Shape and range are compared where both are known. What they cannot tell is measured:

- of a model, at the level :math:`\sigma/\alpha = \sqrt{\lambda_1}` and for x_t from the noised Gaussian, the distance
  :math:`E|D - D_G|^2 / E|D_G - \mu|^2`. Networks trained on MNIST have 0.4 to 0.7 with the statistics of MNIST, and 1.4
  and more with those of MNIST turned by a right angle, shifted by three pixels, or of one digit. From 1 on the model is
  nearer to the mean than to the Gaussian, which then explains nothing;
- of data, the Mahalanobis distance at noise :math:`v = \mathrm{tr}\Sigma/D` relative to what it is on average,
  :math:`q = E[e^T(\Sigma + v)^{-1}e] / \mathrm{tr}\,\Sigma(\Sigma + v)^{-1}`. It is 1 on the examples of the fit and
  :math:`\kappa/v` (`exact.inflation`) on fresh ones, and may be RATIO times as large or as small.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffuscope.data import DataSet, DataStatistics
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, degrees_of_freedom, inflation

from .contract import Batch, Denoiser
from .predictors import nearest_trained_time

UNEXPLAINED, RATIO = 1.0, 1.5
SAMPLES = 64  # evaluations of the model
ERRORS = 4.0  # standard errors by which data must miss


def require_shape_and_range(gaussian: Gaussian, model: object) -> None:
    """Raises InputError if `model` has an `event_shape` or a `data_range` other than the Gaussian's; costs nothing.

    >>> import torch
    >>> from diffuscope import VE, Gaussian, InputError
    >>> from diffuscope.denoisers import MLP, DataPredictor, require_shape_and_range
    >>> model = DataPredictor(MLP((3,), width=4), VE(), event_shape=(3,), data_range=(-1.0, 1.0))
    >>> try:
    ...     require_shape_and_range(Gaussian.isotropic(torch.zeros(2), 1.0), model)
    ... except InputError as error:
    ...     print(error)
    gaussian: expected statistics of shape (3,), as the model's, got (2,)
    """
    shape, data_range = getattr(model, "event_shape", None), getattr(model, "data_range", None)
    if shape is not None and tuple(shape) != gaussian.event_shape:
        raise InputError(
            f"gaussian: expected statistics of shape {tuple(shape)}, as the model's, got {gaussian.event_shape}"
        )
    _require_range(gaussian, data_range, "the model")


@torch.no_grad()
def require_fits_model(gaussian: Gaussian | DataStatistics, denoiser: Denoiser, *, seed: int = 0) -> None:
    """Raises InputError for statistics of another shape or range than the model's, or of other data.

    Costs SAMPLES = 64 evaluations of the model.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian, InputError
    >>> from diffuscope.denoisers import require_fits_model
    >>> near, far = (Gaussian.isotropic(torch.full((8,), mean), 1.0) for mean in (0.0, 9.0))
    >>> require_fits_model(near, ExactDenoiser(near, VE()))
    >>> try:  # the answers differ by 9/2, and those of `far` by 1/sqrt(2) from its mean: 40 times in squares
    ...     require_fits_model(far, ExactDenoiser(near, VE()))
    ... except InputError as error:
    ...     print(error)
    gaussian: at noise 1 the squared distance of the model's answers from those of the statistics is ...
    """
    gaussian = gaussian.gaussian if isinstance(gaussian, DataStatistics) else gaussian
    require_shape_and_range(gaussian, denoiser)
    schedule, generator = denoiser.schedule, torch.Generator().manual_seed(seed)
    level = float(gaussian.variances.max()) ** 0.5
    low, high = (float(schedule.noise_to_signal(t)) for t in (schedule.t_min, schedule.t_max))
    wanted = schedule.time_of_noise_to_signal(torch.tensor([min(max(level, low, 1e-6), high)], dtype=torch.float64))
    t = float(nearest_trained_time(denoiser, wanted)[0])
    alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
    clean = gaussian.sample(SAMPLES, generator=generator)
    x_t = alpha * clean + sigma * torch.randn(clean.shape, dtype=torch.float64, generator=generator)
    own = gaussian.denoise(x_t, alpha, sigma)
    weight = next(denoiser.parameters(), None) if isinstance(denoiser, nn.Module) else None
    like = torch.zeros(()) if weight is None else weight
    answer = denoiser(x_t.to(like), t).to(own)
    size = float(((own - gaussian.mean) ** 2).sum())
    distance = float(((answer - own) ** 2).sum())
    if not distance < UNEXPLAINED * size:
        raise InputError(
            f"gaussian: at noise {sigma / alpha:.3g} the squared distance of the model's answers from those of the "
            f"statistics is {distance / size if size else float('inf'):.3g} times the distance of these from the mean; "
            f"expected less than {UNEXPLAINED:g}: statistics of the model's training data"
        )


def require_fits_data(gaussian: Gaussian | DataStatistics, data: DataSet | Batch) -> None:
    """Raises InputError for statistics of another shape or range than that of the examples, or of other data.

    >>> import torch
    >>> from diffuscope import Gaussian, InputError
    >>> from diffuscope.denoisers import require_fits_data
    >>> data = torch.tensor([[2.0], [-2.0], [2.0], [-2.0]])
    >>> require_fits_data(Gaussian.isotropic(torch.zeros(1), 4.0), data)
    >>> try:  # at noise 1/4 the distance is 4 / (1/4 + 1/4), instead of (1/4) / (1/4 + 1/4)
    ...     require_fits_data(Gaussian.isotropic(torch.zeros(1), 0.25), data)
    ... except InputError as error:
    ...     print(error)
    gaussian: the squared Mahalanobis distance of the data is 16 times that of the data behind the statistics; ...
    """
    gaussian = gaussian.gaussian if isinstance(gaussian, DataStatistics) else gaussian
    examples = data.train if isinstance(data, DataSet) else data
    name = data.name if isinstance(data, DataSet) else "the data"
    if tuple(examples.shape[1:]) != gaussian.event_shape:
        raise InputError(
            f"gaussian: expected statistics of shape {tuple(examples.shape[1:])}, as of {name}, got "
            f"{gaussian.event_shape}"
        )
    _require_range(gaussian, data.data_range if isinstance(data, DataSet) else None, name)
    variance = gaussian.trace / gaussian.dimension
    if variance == 0:
        return
    distances = _mahalanobis(gaussian, examples, variance)
    found = float(distances.mean())
    error = float(distances.std()) / len(distances) ** 0.5
    highest = RATIO * (1 + (0.0 if gaussian.count is None else inflation(gaussian, variance**0.5)))
    if not math.isfinite(found) or found - ERRORS * error > highest or found + ERRORS * error < 1 / RATIO:
        raise InputError(
            f"gaussian: the squared Mahalanobis distance of {name} is {found:.3g} times that of the data behind the "
            f"statistics; expected {1 / RATIO:.2g} to {highest:.2g}: statistics of these data"
        )


def _mahalanobis(gaussian: Gaussian, examples: Batch, variance: float) -> Float[Tensor, " n"]:
    """e^T (Sigma + v)^-1 e of every example, relative to its mean tr Sigma (Sigma + v)^-1 under the Gaussian."""
    # the score of x_t = x_0 at alpha = 1, sigma^2 = v is -(Sigma + v)^-1 e
    parts = [
        -(gaussian.score(part, 1.0, variance**0.5) * (part - gaussian.mean)).flatten(1).sum(1)
        for part in (some.double() for some in examples.split(4096))
    ]
    return torch.cat(parts) / degrees_of_freedom(gaussian, variance)


def _require_range(gaussian: Gaussian, data_range: tuple[float, float] | None, whose: str) -> None:
    if data_range is None or gaussian.data_range is None:
        return
    (low, high), (first, last) = data_range, gaussian.data_range
    if max(abs(low - first), abs(high - last)) > 1e-6 * (high - low):
        raise InputError(
            f"gaussian: expected statistics of values in [{low:g}, {high:g}], as of {whose}, got "
            f"[{first:g}, {last:g}]; in_range({low:g}, {high:g}) maps them"
        )
