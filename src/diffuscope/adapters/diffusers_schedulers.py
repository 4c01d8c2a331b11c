"""Which of diffusers' schedulers can be driven, of which kind they are, and what they declare."""

from typing import Any

from .libraries import Options

CHAINS = ("DDIMScheduler", "DDPMScheduler")
SOLVERS = (
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "UniPCMultistepScheduler",
    "DEISMultistepScheduler",
    "SASolverScheduler",
)
VARIANCE_EXPLODING = (
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "LMSDiscreteScheduler",
    "DPMSolverSDEScheduler",
)
FLOWS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
EDMS = ("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")
DRIVEN = (*CHAINS, *SOLVERS, *VARIANCE_EXPLODING, *FLOWS, *EDMS)
TWO_EVALUATIONS = (
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverSDEScheduler",
    "FlowMatchHeunDiscreteScheduler",
)
# these cast the state to float32, or keep a table of half steps in it
SINGLE_PRECISION = (
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "EDMEulerScheduler",
    *FLOWS,
)
STOCHASTIC = (
    "DDPMScheduler",
    "EulerAncestralDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverSDEScheduler",
    "SASolverScheduler",
)
ORDERS = {
    "DDIMScheduler": 1,
    "EulerDiscreteScheduler": 1,
    "EDMEulerScheduler": 1,
    "FlowMatchEulerDiscreteScheduler": 1,
    "HeunDiscreteScheduler": 2,
    "KDPM2DiscreteScheduler": 2,
    "FlowMatchHeunDiscreteScheduler": 2,
}
OF_STEP = {"eta", "use_clipped_model_output", "s_churn", "s_tmin", "s_tmax", "s_noise", "order"}
OF_CONSTRUCTOR = {
    "prediction_type",
    "variance_type",
    "clip_sample",
    "clip_sample_range",
    "solver_order",
    "algorithm_type",
    "solver_type",
    "lower_order_final",
    "euler_at_final",
    "use_flow_sigmas",
    "predict_x0",
    "predictor_order",
    "corrector_order",
    "sigma_data",
    "stochastic_sampling",
}


def kind_of(name: str, settings: Options) -> str:
    """Which states and table a scheduler has: chain or vp, ve, flow, edm."""
    if name in FLOWS or settings.get("use_flow_sigmas"):
        return "flow"
    kinds = {"chain": CHAINS, "vp": SOLVERS, "ve": VARIANCE_EXPLODING, "edm": EDMS}
    return next(kind for kind, members in kinds.items() if name in members)


def is_stochastic(name: str, settings: dict[str, Any]) -> bool:
    """Whether the scheduler draws noise with these settings."""
    dials = ("eta", "s_churn", "stochastic_sampling")
    by_algorithm = str(settings.get("algorithm_type")).startswith("sde")
    return name in STOCHASTIC or by_algorithm or any(settings.get(dial) for dial in dials)


def declared_order(name: str, settings: dict[str, Any]) -> int | None:
    """The order that the library states, None where it states none."""
    if name == "UniPCMultistepScheduler":
        return settings["solver_order"] + 1
    return settings.get("solver_order") or settings.get("order") or ORDERS.get(name)
