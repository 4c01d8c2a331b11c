"""Faults that people make in samplers: each is planted in one of ours, and the certifier has to find it.

Each breaks the declared order, the distribution, the cost or the arithmetic. Not listed are departures from a formula
that keep all of these: another eta, which has the same marginals, or sigma_t for sigma_s in DDPM's noise, of the same
order.

`python tests/certify/planted_faults.py` prints what is found, one line of JSON per sampler and per fault; with a number
k as its argument, of every k-th.
"""

import sys

from planting import Subject, planted, report

from diffuscope.samplers import DDIM, Heun

SUBJECTS = {
    "Euler": Subject("ode", lambda m, _: m.Euler()),
    "Heun": Subject("ode", lambda m, _: m.Heun()),
    "RungeKutta4": Subject("ode", lambda m, _: m.RungeKutta4()),
    "DDIM": Subject("ddim", lambda m, _: m.DDIM()),
    "StochasticDDIM": Subject("ddim_eta", lambda m, _: m.StochasticDDIM(0.5)),
    "ReverseBridge": Subject("bridge", lambda m, _: m.ReverseBridge(0.7)),
    "DDPM": Subject("ddpm", lambda m, _: m.DDPM()),
    "DDPM, upper variance": Subject("ddpm", lambda m, _: m.DDPM(m.upper_variance)),
    "DPM++ 2M": Subject("dpm_solver", lambda m, _: m.DPMSolverPP2M()),
    "DPM++ 2S": Subject("dpm_solver", lambda m, _: m.DPMSolverPP2S(0.4)),
    "DPM++ 3M": Subject("dpm_solver", lambda m, _: m.DPMSolverPP3M()),
    "SDE-DPM++ 2M": Subject("dpm_solver_sde", lambda m, _: m.SDEDPMSolverPP2M()),
    "SDE-DPM++ 3M": Subject("dpm_solver_sde", lambda m, _: m.SDEDPMSolverPP3M(0.5)),
    "noise Adams-Bashforth": Subject("adams_bashforth", lambda m, _: m.NoiseAdamsBashforth(3)),
    "data Adams-Bashforth": Subject("adams_bashforth", lambda m, _: m.DataAdamsBashforth(3)),
    "UniPC-2": Subject("unipc", lambda m, _: m.UniPC(2)),
    "UniPC-1 bh1": Subject("unipc", lambda m, _: m.UniPC(1, "bh1")),
    "Euler-Maruyama": Subject("sde", lambda m, _: m.EulerMaruyama()),
    "stochastic Heun": Subject("sde", lambda m, _: m.StochasticHeun()),
    "SRA1": Subject("sde", lambda m, _: m.StrongOrder15()),
    "restart": Subject("restart", lambda m, _: m.Restart(Heun(), 0.3, 1.0)),
    "MALA": Subject("langevin", lambda m, walk: m.MetropolisLangevin(DDIM(), walk.distribution, 2, 3.0), "vector"),
    "churn": Subject("churn", lambda m, walk: m.EDMChurn(2.0, walk.steps)),
}

FAULTS = (
    *planted(
        "Euler",
        "ode",
        {
            "no alpha' in the velocity": ("(at.alpha_dot - growth * at.alpha)", "(-growth * at.alpha)"),
            "sign of the noise in the velocity": ("alpha_dot - growth * at", "alpha_dot + growth * at"),
            "a step too short by half": ("x_t + (s.t - t.t) * velocity(", "x_t + (s.t - t.t) / 2 * velocity("),
        },
    ),
    *planted(
        "Heun",
        "ode",
        {
            "alpha and sigma swapped in the velocity": ("at.sigma_dot / at.sigma", "at.sigma_dot / at.alpha"),
            "no half in the trapezoidal rule": ("(s.t - t.t) / 2 * (v_t", "(s.t - t.t) * (v_t"),
            "denoiser asked at t for the far slope": ("denoiser(predicted, s.t)", "denoiser(predicted, t.t)"),
            "far slope at the state before the prediction": (
                "velocity(predicted, denoiser(predicted, s.t), s)",
                "velocity(x_t, denoiser(x_t, s.t), s)",
            ),
            "far slope with t's coefficients": ("s.t), s)\n        return", "s.t), t)\n        return"),
            "first denoised reused for the far slope": ("denoiser(predicted, s.t)", "denoised"),
            "step to sigma = 0 not treated apart": ("return s.sigma == 0 or not", "return not"),
        },
    ),
    *planted(
        "RungeKutta4",
        "ode",
        {
            "middle in the logarithm of time": ("(t.t + s.t) / 2)", "math.sqrt(t.t * s.t))"),
            "third stage from the first": ("x_t + h / 2 * k_2", "x_t + h / 2 * k_1"),
            "fourth stage from half a step": ("x_t + h * k_3", "x_t + h / 2 * k_3"),
            "3/8 weights at the classical nodes": (
                "h / 6 * (k_1 + 2 * k_2 + 2 * k_3",
                "h / 8 * (k_1 + 3 * k_2 + 3 * k_3",
            ),
        },
    ),
    *planted(
        "DDIM",
        "ddim",
        {
            "alpha_t for alpha_s": ("(s.alpha - kept * t.alpha) *", "(t.alpha - kept * t.alpha) *"),
            "sigma_s and sigma_t swapped": ("kept = s.sigma / t.sigma", "kept = t.sigma / s.sigma"),
            "last step skipped": (
                "        denoised = denoiser(",
                "        if s.sigma == 0:\n            return State(s, state.x_t)\n        denoised = denoiser(",
            ),
            "single precision for the network": (
                "denoiser(state.x_t, state.t)",
                "denoiser(state.x_t.float(), state.t).to(state.x_t)",
            ),
            "single precision kept": ("denoiser(state.x_t, state.t)", "denoiser(state.x_t.float(), state.t)"),
            "denoised clipped to -1 .. 1": (
                "denoiser(state.x_t, state.t)",
                "denoiser(state.x_t, state.t).clamp(-1, 1)",
            ),
            "denoised clipped to a quantile of the batch": (
                "        return State(s, frozen_denoised_step(state.x_t",
                "        denoised = denoised.clamp(max=float(denoised.quantile(0.98)))\n"
                "        return State(s, frozen_denoised_step(state.x_t",
            ),
        },
    ),
    *planted(
        "StochasticDDIM",
        "ddim_eta",
        {
            "eta for its square in the fresh noise": ("fresh = self.eta**2 *", "fresh = self.eta *"),
            "eta for its square in the predicted noise": ("(1 - self.eta**2) *", "(1 - self.eta) *"),
            "variance for deviation": ("s.sigma * math.sqrt(fresh)", "s.sigma * fresh"),
            "predicted noise not shrunk": ("math.sqrt(predicted) * s.sigma", "s.sigma"),
        },
    ),
    *planted(
        "ReverseBridge",
        "bridge",
        {
            "variance for deviation": ("math.sqrt((1 - memory) * (1 + memory))", "(1 - memory) * (1 + memory)"),
            "no 2 in the exponent of the variance": (
                "math.sqrt((1 - memory) * (1 + memory))",
                "math.sqrt(1 - memory)",
            ),
            "eta not in the drift": ("kept = memory * s.sigma", "kept = decay(t, s) * s.sigma"),
            "alpha_t and alpha_s swapped": ("(s.alpha - kept * t.alpha)", "(t.alpha - kept * s.alpha)"),
        },
    ),
    *planted(
        "DDPM",
        "ddpm",
        {
            "half of the posterior variance": (
                "return s.sigma**2 * (1 - memory) * (1 + memory)",
                "return s.sigma**2 * (1 - memory)",
            ),
            "sigma for its square": ("return s.sigma**2 * (1", "return s.sigma * (1"),
            "variance for deviation": ("else math.sqrt(variance)", "else variance"),
            "DDIM's mean with DDPM's noise": ("kept = decay(t, s) * s.sigma", "kept = s.sigma"),
            "memory squared in the mean": ("kept = decay(t, s) * s.sigma", "kept = decay(t, s) ** 2 * s.sigma"),
            "alpha_s for alpha_t in the mean": ("(s.alpha - kept * t.alpha)", "(s.alpha - kept * s.alpha)"),
        },
    ),
    *planted(
        "DDPM, upper variance",
        "ddpm",
        {
            "noise at the last step": ("if s.sigma > 0:", "if t.sigma > 0:"),
            "per unit, not its square": ("per_unit**2 * variance", "per_unit * variance"),
        },
    ),
    *planted(
        "DPM++ 2M",
        "dpm_solver",
        {
            "no half in the extrapolation": ("/ (2 * (t.lam - previous.at.lam))", "/ (t.lam - previous.at.lam)"),
            "ratio of the steps taken for one": (
                "(s.lam - t.lam) / (2 * (t.lam - previous.at.lam))",
                "1 / 2",
            ),
            # order 2 on any grid: its errors, as h_k^2 - h_(k-1)^2, cancel in the sum over steps
            "ratio of the steps inverted": (
                "(s.lam - t.lam) / (2 * (t.lam - previous.at.lam))",
                "(t.lam - previous.at.lam) / (2 * (s.lam - t.lam))",
            ),
            "sign of the extrapolation": ("extrapolated + weight *", "extrapolated - weight *"),
            "the extrapolation remembered": (
                "t, s), (latest,))",
                "t, s), (Evaluation(t, state.x_t, extrapolated),))",
            ),
            "the first evaluation remembered for good": ("t, s), (latest,))", "t, s), state.history or (latest,))"),
        },
    ),
    *planted(
        "DPM++ 2S",
        "dpm_solver",
        {
            "1/(2r) forgotten": ("1 / (2 * self.r) * (inside", "(inside"),
            "denoiser asked at t inside the step": ("t, u), u.t)", "t, u), t.t)"),
            "r counted from the end": ("t.lam + self.r * (s.lam - t.lam)", "s.lam + self.r * (t.lam - s.lam)"),
        },
    ),
    *planted(
        "DPM++ 3M",
        "dpm_solver",
        {
            "a history one short": ("adams_bashforth_step(self.order, ", "adams_bashforth_step(2, "),
        },
    ),
    *planted(
        "SDE-DPM++ 2M",
        "dpm_solver_sde",
        {
            "no half in the extrapolation": ("/ (2 * (t.lam - previous.at.lam))", "/ (t.lam - previous.at.lam)"),
            "ratio of the steps taken for one": (
                "(s.lam - t.lam) / (2 * (t.lam - previous.at.lam))",
                "1 / 2",
            ),
            # order 2 on any grid: its errors, as h_k^2 - h_(k-1)^2, cancel in the sum over steps
            "ratio of the steps inverted": (
                "(s.lam - t.lam) / (2 * (t.lam - previous.at.lam))",
                "(t.lam - previous.at.lam) / (2 * (s.lam - t.lam))",
            ),
        },
    ),
    *planted(
        "SDE-DPM++ 3M",
        "bridge",
        {
            "the noise of eta = 1 at any eta": ("mean + std *", "mean + reverse_bridge(x_t, denoised, t, s, 1.0)[1] *"),
        },
    ),
    *planted(
        "noise Adams-Bashforth",
        "adams_bashforth",
        {
            "the exponential of data prediction": ("rate=-1.0", "rate=1.0"),
            "a history one short": ("len(nodes) - order + 1) :]", "len(nodes) - order + 2) :]"),
            "the start not corrected": ("if isinstance(state, Predicted):", "if False:"),
            "alpha and sigma of today in the noise of before": (
                "share * weight * node.at.alpha / node.at.sigma",
                "share * weight * a.alpha / a.sigma",
            ),
        },
    ),
    *planted(
        "data Adams-Bashforth",
        "adams_bashforth",
        {
            "the exponential of noise prediction": ("b.lam, rate=1.0", "b.lam, rate=-1.0"),
            "the predicted state kept": (
                "return Evaluation(latest.at, x_t, ",
                "return Evaluation(latest.at, latest.x_t, ",
            ),
            "nodes counted from the wrong end": ("_variable(lam - b, power) for", "_variable(lam - a, power) for"),
        },
    ),
    *planted(
        "UniPC-1 bh1",
        "unipc",
        {
            "sign of the corrector": ("start.denoised + scale", "start.denoised - scale"),
            "no half in the corrector": ("scale / (2 * r)", "scale / r"),
        },
    ),
    *planted(
        "UniPC-2",
        "unipc",
        {
            "predicted for corrected state": (
                "return Evaluation(latest.at, x_t, ",
                "return Evaluation(latest.at, latest.x_t, ",
            ),
            "corrector without the new evaluation": ("latest.at, (*past, latest), begin)", "latest.at, past, begin)"),
            "sign of the step before": ("r = (other.at.lam - a.lam) / h", "r = abs(other.at.lam - a.lam) / h"),
            "evaluated again after every correction": (
                "if again else latest.denoised",
                "if x_t is not None else latest.denoised",
            ),
        },
    ),
    *planted(
        "Euler-Maruyama",
        "sde",
        {
            "twice the score": ("return v - eta**2 * at", "return v - 2 * eta**2 * at"),
            "sign of the score": ("return v - eta**2 * at", "return v + eta**2 * at"),
            "no 2 in g^2": ("math.sqrt(-2 * at.lam_dot)", "math.sqrt(-at.lam_dot)"),
            "time for its root in the noise": (
                "diffusion(t, eta) * math.sqrt(t.t - s.t)",
                "diffusion(t, eta) * (t.t - s.t)",
            ),
            "the root of t for that of the step": (
                "diffusion(t, eta) * math.sqrt(t.t - s.t)",
                "diffusion(t, eta) * math.sqrt(t.t)",
            ),
        },
    ),
    *planted(
        "stochastic Heun",
        "sde",
        {
            "no noise in the prediction": ("* b_t + kick", "* b_t"),
            "other noise in the step than in the prediction": (
                "(b_t + b_s) + kick",
                "(b_t + b_s) + G * math.sqrt(t.t - s.t) * required(noise, self).increment(x_t, t.t, s.t)",
            ),
            "the diffusion of the start": (
                "G = (diffusion(t, eta) + diffusion(s, eta)) / 2",
                "G = diffusion(t, eta)",
            ),
            "no half in the mean diffusion": (
                "(diffusion(t, eta) + diffusion(s, eta)) / 2",
                "diffusion(t, eta) + diffusion(s, eta)",
            ),
        },
    ),
    *planted(
        "SRA1",
        "sde",
        {
            "sign of the area": ("(G_t - G_s) * mean", "(G_s - G_t) * mean"),
            "the stage in the middle": ("t.t + 0.75 * (s.t - t.t)", "t.t + 0.5 * (s.t - t.t)"),
            "weights of the stages swapped": ("b_t / 3 + 2 * b_middle / 3", "2 * b_t / 3 + b_middle / 3"),
            # missed: it lowers the strong order, and the weak one is what is asked
            "3 for its root in the area": ("zeta / math.sqrt(3)", "zeta / 3"),
        },
    ),
    *planted(
        "churn",
        "churn",
        {
            "difference of levels for that of squares": (
                "math.sqrt((raised_level - level) * (raised_level + level))",
                "(raised_level - level)",
            ),
            "denoiser asked at the level before the churn": ("denoiser(x_t, raised.t)", "denoiser(x_t, state.t)"),
            "step counted from before the churn": (
                "level, level_s = raised.sigma / raised.alpha,",
                "level, level_s = state.at.sigma / state.at.alpha,",
            ),
            "no half in Heun's step": ("(level_s - level) / 2 *", "(level_s - level) *"),
        },
    ),
    *planted(
        "restart",
        "restart",
        {
            "difference of levels for that of squares": (
                "math.sqrt((level_h - level_l) * (level_h + level_l))",
                "(level_h - level_l)",
            ),
            "noise without the state's scale": ("spread = high.alpha * math.sqrt", "spread = low.alpha * math.sqrt"),
            "state not scaled on the way up": ("high.alpha / low.alpha * x_l", "x_l"),
            "variance of the upper level alone": ("(level_h - level_l) * (level_h + level_l)", "level_h * level_h"),
            "restarted from the time of the lower level": ("State(down[0], raised(", "State(bottom, raised("),
        },
    ),
    *planted(
        "MALA",
        "langevin",
        {
            "accepted without the proposal's density": (
                "log_p_proposed - log_p + back - forth",
                "log_p_proposed - log_p",
            ),
            "proposal's densities swapped": ("+ back - forth", "+ forth - back"),
            "every proposal accepted": (
                "accepted = noise.uniform(x).log() < log_ratio",
                "accepted = log_ratio == log_ratio",
            ),
            # missed: rows are compared without noise
            "one decision for the whole batch": (
                "noise.uniform(x).log() < log_ratio",
                "noise.uniform(x).log() < log_ratio.mean()",
            ),
            "proposal's mean not kept": ("torch.where(here, mean_back, mean)", "mean"),
        },
    ),
    *planted(
        "DDPM",
        "noise",
        {
            "the global generator": (
                "device=self.generator.device, generator=self.generator)",
                "device=self.generator.device)",
            ),
            "one draw for the whole batch": (
                "torch.randn(like.shape, dtype=like.dtype, device=self.generator.device, generator=self.generator)",
                "torch.randn(like.shape[1:], dtype=like.dtype, generator=self.generator).expand(like.shape)",
            ),
            "the same draw at every step": (
                "        drawn = torch.randn(",
                "        if 'drawn' in self.__dict__:\n            return self.drawn\n"
                "        drawn = self.drawn = torch.randn(",
            ),
            "uniform for normal": ("torch.randn(like", "torch.rand(like"),
            "double precision for every state": ("dtype=like.dtype", "dtype=torch.float64"),
        },
    ),
    *planted(
        "SRA1",
        "noise",
        {
            "one draw for increment and area": (
                "return self.normal(like), self.normal(like)",
                "return (xi := self.normal(like)), xi",
            ),
        },
    ),
    *planted(
        "DDIM",
        "contract",
        {
            "the last time left out": ("for s in grid[1:]:", "for s in grid[1:-1]:"),
            "the first time left out": ("for s in grid[1:]:", "for s in grid[2:]:"),
        },
    ),
    *planted(
        "DPM++ 2M",
        "contract",
        {
            "history lost between steps": (
                "sampler.step(denoiser, state, s",
                "sampler.step(denoiser, State(state.at, state.x_t), s",
            ),
        },
    ),
    *planted(
        "DDPM",
        "contract",
        {
            "seeded anew at every step": (
                "denoiser, state, s, noise)",
                "denoiser, state, s, Noise(torch.Generator().manual_seed(0)))",
            ),
        },
    ),
    *planted(
        "Heun",
        "schedule_values",
        {
            "derivatives of alpha and sigma swapped": (
                "schedule.alpha_dot, schedule.sigma_dot",
                "schedule.sigma_dot, schedule.alpha_dot",
            ),
        },
    ),
    *planted(
        "DPM++ 3M",
        "schedule_values",
        {
            "sign of lambda": ("schedule.lam)", "lambda times: -schedule.lam(times))"),
        },
    ),
    *planted(
        "RungeKutta4",
        "schedule_values",
        {
            "times in single precision": ("times.double().cpu()", "times.float().double().cpu()"),
        },
    ),
)


def main(every: int) -> None:
    report(dict(list(SUBJECTS.items())[::every]), FAULTS[::every], SUBJECTS)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
