"""Which of diffusers' schedulers can be used, of which kind they are, and what they declare."""

from typing import Any, NamedTuple

from torch import Tensor

from diffuscope.denoisers import Batch

from .libraries import Options


class Scheduler(NamedTuple):
    """A scheduler's kind of states and table, its stated order, and its peculiarities.

    `order` is None where `solver_order` or `order` is an option, and for stochastic schedulers. `single_precision`:
    it casts the state to float32, or keeps a table of half steps in it.
    """

    kind: str
    order: int | None = None
    evaluations: int = 1
    single_precision: bool = False
    stochastic: bool = False


SCHEDULERS = {
    "DDIMScheduler": Scheduler("chain", 1),
    "DDPMScheduler": Scheduler("chain", stochastic=True),
    "DPMSolverMultistepScheduler": Scheduler("vp", single_precision=True),
    "DPMSolverSinglestepScheduler": Scheduler("vp"),
    "UniPCMultistepScheduler": Scheduler("vp"),
    "DEISMultistepScheduler": Scheduler("vp"),
    "SASolverScheduler": Scheduler("vp", stochastic=True),
    "EulerDiscreteScheduler": Scheduler("ve", 1, single_precision=True),
    "EulerAncestralDiscreteScheduler": Scheduler("ve", single_precision=True, stochastic=True),
    "HeunDiscreteScheduler": Scheduler("ve", 2, evaluations=2),
    "KDPM2DiscreteScheduler": Scheduler("ve", 2, evaluations=2, single_precision=True),
    "KDPM2AncestralDiscreteScheduler": Scheduler("ve", None, 2, single_precision=True, stochastic=True),
    "LMSDiscreteScheduler": Scheduler("ve"),
    "DPMSolverSDEScheduler": Scheduler("ve", evaluations=2, stochastic=True),
    "FlowMatchEulerDiscreteScheduler": Scheduler("flow", 1, single_precision=True),
    "FlowMatchHeunDiscreteScheduler": Scheduler("flow", 2, evaluations=2, single_precision=True),
    "EDMEulerScheduler": Scheduler("edm", 1, single_precision=True),
    "EDMDPMSolverMultistepScheduler": Scheduler("edm"),
}
# their levels cannot be set: only as shipped
WITH_OWN_LEVELS = {
    "PNDMScheduler": Scheduler("chain"),
    "IPNDMScheduler": Scheduler("angle"),
    "CosineDPMSolverMultistepScheduler": Scheduler("edm", stochastic=True),
    "LTXEulerAncestralRFScheduler": Scheduler("flow", single_precision=True),
}
OF_STEP = {"eta", "use_clipped_model_output", "s_churn", "s_tmin", "s_tmax", "s_noise", "order"}
OF_CONSTRUCTOR = {
    "prediction_type", "variance_type", "clip_sample", "clip_sample_range", "solver_order", "algorithm_type",
    "solver_type", "lower_order_final", "euler_at_final", "use_flow_sigmas", "predict_x0", "predictor_order",
    "corrector_order", "sigma_data", "stochastic_sampling",
}  # fmt: skip


def kind_of(name: str, settings: Options) -> str:
    """Which states and table a scheduler has: chain or vp, ve, flow, edm."""
    return "flow" if settings.get("use_flow_sigmas") else SCHEDULERS[name].kind


def is_stochastic(name: str, settings: dict[str, Any]) -> bool:
    """Whether the scheduler draws noise with these settings."""
    by_option = any(settings.get(option) for option in ("eta", "s_churn", "stochastic_sampling"))
    return (
        (SCHEDULERS | WITH_OWN_LEVELS)[name].stochastic
        or by_option
        or str(settings.get("algorithm_type")).startswith("sde")
    )


def declared_order(name: str, settings: dict[str, Any]) -> int | None:
    """The order that the library states, None where it states none."""
    if name == "UniPCMultistepScheduler":
        return settings["solver_order"] + 1
    return settings.get("solver_order") or settings.get("order") or SCHEDULERS[name].order


def clean_of(prediction: str, x: Batch, output: Batch, alpha: Tensor | float, sigma: Tensor | float) -> Batch:
    """The clean data x_0 of x = alpha x_0 + sigma eps in a network's `output`.

    `prediction` is sample (x_0), epsilon (eps), v_prediction (alpha eps - sigma x_0), or flow_prediction (eps - x_0,
    where alpha + sigma = 1).
    """
    if prediction == "sample":
        return output
    if prediction == "epsilon":
        return (x - sigma * output) / alpha
    return x - sigma * output if prediction == "flow_prediction" else alpha * x - sigma * output
