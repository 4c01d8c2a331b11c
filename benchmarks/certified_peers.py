"""The certifier on other libraries' samplers: one row per sampler, as Markdown for docs/certify.md."""

import math
import sys

from diffuscope.adapters import load_target
from diffuscope.certify import Certificate, certify_sampler
from diffuscope.errors import InputError

TARGETS = (
    "azula:DDIMSampler",
    "azula:DDPMSampler",
    "azula:EulerSampler",
    "azula:HeunSampler",
    "azula:zABSampler?order=3",
    "azula:vABSampler?order=3",
    "azula:zEABSampler?order=2",
    "azula:zEABSampler?order=3",
    "azula:xEABSampler?order=3",
    "azula:REABSampler?order=1",
    "azula:REABSampler?order=2",
    "azula:REABSampler?order=3",
    "azula:ItoSampler",
    "k_diffusion:sample_euler",
    "k_diffusion:sample_heun",
    "k_diffusion:sample_dpm_2",
    "k_diffusion:sample_lms",
    "k_diffusion:sample_euler_ancestral",
    "k_diffusion:sample_dpmpp_2m",
    "k_diffusion:sample_dpmpp_2s_ancestral",
    "k_diffusion:sample_dpmpp_sde",
    "k_diffusion:sample_dpmpp_2m_sde",
    "k_diffusion:sample_dpmpp_3m_sde",
    "k_diffusion:sample_dpmpp_3m_sde?eta=0",
    "diffusers:DDIMScheduler",
    "diffusers:DDPMScheduler",
    "diffusers:EulerDiscreteScheduler",
    "diffusers:HeunDiscreteScheduler",
    "diffusers:KDPM2DiscreteScheduler",
    "diffusers:DPMSolverMultistepScheduler?solver_order=2",
    "diffusers:DPMSolverMultistepScheduler?solver_order=3",
    "diffusers:DPMSolverMultistepScheduler?algorithm_type=sde-dpmsolver++",
    "diffusers:DPMSolverMultistepScheduler?algorithm_type=sde-dpmsolver++&solver_order=3",
    "diffusers:DPMSolverSinglestepScheduler",
    "diffusers:UniPCMultistepScheduler",
    "diffusers:DEISMultistepScheduler",
    "diffusers:LMSDiscreteScheduler",
    "diffusers:SASolverScheduler",
    "diffusers:FlowMatchEulerDiscreteScheduler",
    "smalldiffusion:samples",
    "smalldiffusion:samples?gam=2",
    "smalldiffusion:samples?mu=0.5",
    "deepinv:EulerSolver",
    "deepinv:HeunSolver",
    "deepinv:HeunSolver?process=VariancePreservingDiffusion",
    "deepinv:HeunSolver?process=FlowMatching",
    "deepinv:EulerSolver?alpha=1&process=VariancePreservingDiffusion",
    "deepinv:DDIMSolver",
    "deepinv:DDPMSolver",
    "flow_matching:ODESolver?method=euler",
    "flow_matching:ODESolver?method=midpoint",
    "flow_matching:ODESolver?method=rk4",
    "torchebm:FlowSampler?integrator=heun",
    "torchebm:FlowSampler?integrator=rk4&interpolant=vp&prediction=score",
    "torchebm:FlowSampler?interpolant=vp&mode=sde",
)


def orders(certificate: Certificate) -> str:
    """The range of the measured orders."""
    found = [
        finding.value
        for finding in certificate.findings
        if finding.name.startswith(("order", "weak_order")) and not math.isnan(finding.value)
    ]
    if not found:
        return "not affine" if certificate.target.stochastic else "none"
    if all(math.isinf(value) for value in found):
        return "exact"
    low, high = min(found), max(value for value in found if math.isfinite(value))
    return f"{low:.2f}" if round(low, 2) == round(high, 2) else f"{low:.2f} to {high:.2f}"


def verdict(certificate: Certificate) -> str:
    """The verdict with the names of the questions behind it, those of orders counted."""
    if certificate.passed:
        notes = [finding.name for finding in certificate.findings if finding.tone == "attention"]
        return f"passes; notes: {', '.join(notes)}" if notes else "passes"
    names = [finding.name for finding in certificate.failures or certificate.undecided]
    every = [finding.name for finding in certificate.findings if finding.name.startswith(("order", "weak_order"))]
    missed = [name for name in names if name in every]
    told = [f"order in {len(missed)} of {len(every)}"] if missed else []
    told += [name for name in names if name not in every]
    return f"**{certificate.verdict}**: {', '.join(told)}"


def main() -> None:
    names = sys.argv[1:] or TARGETS
    print("| sampler | declared order | measured | verdict |\n|---|---|---|---|")
    for name in names:
        try:
            certificate = certify_sampler(load_target(name))
        except InputError as error:
            print(f"| `{name}` | | | not run: {error} |", flush=True)
            continue
        target = certificate.target
        declared = "none" if target.order is None else f"{target.order}{' (weak)' if target.stochastic else ''}"
        print(f"| `{name}` | {declared} | {orders(certificate)} | {verdict(certificate)} |", flush=True)


if __name__ == "__main__":
    main()
