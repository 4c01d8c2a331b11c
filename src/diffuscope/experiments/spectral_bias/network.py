r"""A small nonlinear network on Gaussian data with a known power-law spectrum: what of the law is left.

An MLP in EDM preconditioning, trained by AdamW on samples, not a linear map and not gradient flow: the theory predicts
nothing exact, and the exponent is measured. EDM's untrained denoiser generates the variance :math:`s^2` along every
component (s: `sigma_data`), so that s decides whether a component has to grow or to shrink: far below the spectrum
(:math:`s = 0.1`) all grow; at the deviation of the data, EDM's own choice, the small ones shrink.

Variances are those of SAMPLES samples from one set of starts, and emergence is the crossing of the geometric mean; a
component counts where it did cross within the training.

Source: Wang & Pehlevan 2025, https://arxiv.org/abs/2503.03206: -1.05 to -1.13 for MLPs on Gaussian data; their
setting is another one (a larger network, longer training).
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import MLP, Preconditioned, seeded
from diffuscope.exact import Gaussian
from diffuscope.findings import Chart, Panel, at_least, at_most, line, points
from diffuscope.samplers import DPMSolverPP2M, sample
from diffuscope.schedules import VE
from diffuscope.theory import PowerLaw, emergence_times, fit_power_law, learned_variance
from diffuscope.times import karras_times
from diffuscope.training import EDMWeight, LogNormalNoise, TrainingSettings, train

from ..experiment import Answer
from .setting import PAPER, spread

COMPONENTS, LARGEST, SMALLEST = 12, 4.0, 0.15
STEPS, BATCH, EXAMPLES, SAMPLES = 450, 128, 8192, 600
SMALL_START = 0.1
SCHEDULE = VE(0.01, 20.0)


@dataclass(frozen=True, eq=False)
class Watched:
    """Generated variances over the steps of one training."""

    variances: Float[Tensor, " modes"]
    steps: Float[Tensor, " times"]
    curves: Float[Tensor, "times modes"]
    emerged: Float[Tensor, " modes"]
    fit: PowerLaw


def watched(sigma_data: float | None, generator: torch.Generator) -> Watched:
    """Train with `sigma_data` (None: the deviation of the data) and watch what is generated."""
    lam = torch.logspace(math.log10(LARGEST), math.log10(SMALLEST), COMPONENTS, dtype=torch.float64)
    noise = torch.randn(COMPONENTS, COMPONENTS, dtype=torch.float64, generator=generator)
    law = Gaussian(torch.zeros(COMPONENTS), torch.linalg.qr(noise)[0], lam)
    data = law.sample(EXAMPLES, generator=generator).float()
    seed = int(torch.randint(2**31, (), generator=generator))
    scale = sigma_data or float(data.std())
    with seeded(seed):
        network = MLP((COMPONENTS,), width=96, depth=2)
    model = Preconditioned(network, SCHEDULE, scale, event_shape=(COMPONENTS,), data_range=(-1.0, 1.0))
    settings = TrainingSettings(
        steps=STEPS,
        batch_size=BATCH,
        warmup_steps=0,
        final_fraction=1.0,
        noise=LogNormalNoise(math.log(scale), 1.8),
        weight=EDMWeight(scale),
        seed=seed,
    )
    starts = SCHEDULE.t_max * torch.randn(SAMPLES, COMPONENTS, generator=generator)
    times = karras_times(SCHEDULE, SCHEDULE.t_max, SCHEDULE.t_min, 14)

    def variances() -> Tensor:
        with torch.no_grad():
            made = sample(DPMSolverPP2M(), model, starts, times).double()
        return (made @ law.eigenvectors).square().mean(0)

    logged = {round(step) for step in torch.logspace(0, math.log10(STEPS), 24).tolist()}
    steps, curves = [0.0], [variances()]
    for progress in train(model, data, settings, checkpoint=None):
        if progress.step in logged:
            steps.append(float(progress.step))
            curves.append(variances())
    seen, found = torch.tensor(steps, dtype=torch.float64), torch.stack(curves)
    emerged = emergence_times(seen, found, learned_variance(lam, sigma_0=SCHEDULE.t_min, sigma_T=SCHEDULE.t_max))
    count = int(emerged.isfinite().sum())
    fit = fit_power_law(lam, emerged) if count >= 3 else PowerLaw(math.nan, math.nan, math.nan, count)
    return Watched(lam, seen, found, emerged, fit)


def network(generator: torch.Generator) -> Answer:
    """Exponents of an MLP from two starts."""
    grown, inside = watched(SMALL_START, generator), watched(None, generator)
    claims = (
        at_most(
            "network-order",
            "An MLP whose components all have to grow learns large variances first: the upper end of the exponent's "
            "95% interval",
            grown.fit.exponent + grown.fit.interval,
            0.0,
            because="an interval that reaches 0 would show no order",
            source=PAPER,
        ),
        at_least(
            "network-learned",
            "Every component emerged within the training: how many of the exponent's points",
            grown.fit.count,
            COMPONENTS,
            because="an exponent of those that are early would be another one",
            source="measured here",
        ),
    )
    panels = tuple(
        Panel(
            title,
            "training step",
            "generated variance",
            tuple(
                line(seen.steps[1:], seen.curves[1:, mode], f"λ = {float(seen.variances[mode]):.2g}")
                for mode in spread(6, COMPONENTS)
            ),
            x_log=True,
            y_log=True,
        )
        for title, seen in (("all components grow", grown), ("EDM's start", inside))
    )
    marks = []
    for title, seen in (("all grow", grown), ("EDM's start", inside)):
        emerged = seen.emerged.isfinite()
        marks.append(points(seen.variances[emerged], seen.emerged[emerged], title))
        told = f"λ^{seen.fit.exponent:.2f} ± {seen.fit.interval:.2f}"
        marks.append(line(seen.variances, seen.fit(seen.variances), told, style="dashed"))
    emergence = Panel("emergence", "variance λ", "step", tuple(marks), x_log=True, y_log=True)
    return Answer(
        f"The order: exponent {grown.fit.exponent:.2f} ± {grown.fit.interval:.2f} where all components grow, "
        f"{inside.fit.exponent:.2f} ± {inside.fit.interval:.2f} from EDM's start. Published for Gaussian data: -1.05 "
        "to -1.13, in another setting, which this does not reproduce.",
        claims,
        (
            Chart("A small MLP in training", panels, "Variance of its samples along six components.", shared_y=True),
            Chart("Its emergence times", (emergence,), "One point per component; dashed: the fitted power law."),
        ),
    )
