"""Published experiments, each with the numbers that it must reach; `diffuscope reproduce` runs them.

Each experiment is the module of its name, imported on demand; NAMES is their order on the page.
"""

from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from diffuscope.errors import InputError

from .experiment import Answer, Experiment, Outcome
from .page import experiments_index
from .part import Part, kolmogorov, loglog, panel
from .record import Record, code_fingerprint

NAMES = (
    "heat-1d",
    "mixture-forward",
    "reverse-family",
    "support",
    "fixed-start",
    "finite-data",
    "entropy",
    "samplers",
    "spectral-bias",
    "learning-curve",
    "sample-quality",
    "double-moon",
    "memorization-transition",
    "target-variance",
    "boundary-map",
    "naive-variance",
    "feature-kernel",
    "kernel-flow",
    "closure",
    "gap-filling",
    "cross",
    "variance-on-digits",
    "painters",
    "emergence",
    "perturbation",
    "variations",
    "neural-vs-analytic",
    "analytic-denoisers",
    "teleport",
    "cifar-moments",
    "held-out-leak",
    "drift-diffusion",
    "ornstein-uhlenbeck",
    "reverse-diffusion-is-a-bridge",
    "maier-stein",
    "rates",
    "two-unit-network",
    "ring-diffusion",
)


def find(name: str) -> Experiment:
    """The experiment of that name; otherwise InputError, which suggests the closest name or lists all."""
    if name in NAMES:
        return import_module(f".{name.replace('-', '_')}", __name__).EXPERIMENT
    near = get_close_matches(name, NAMES, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(NAMES)}"
    raise InputError(f"name: there is no experiment {name!r}; {hint}")


def reproduce(name: str, *, seed: int = 0, out: str | Path | None = None) -> Outcome:
    """Run the experiment `name`; with `out`, also write what `diffuscope reproduce` writes to `out`/`name`.

    Raises InputError for a name that no experiment has, and for a negative seed.

    >>> reproduce("heat-1d").failures
    ()
    """
    outcome = find(name).run(seed)
    if out is not None:
        outcome.save(Path(out) / name)
    return outcome


__all__ = [
    "NAMES", "Answer", "Experiment", "Outcome", "Part", "Record", "code_fingerprint", "experiments_index", "find",
    "kolmogorov", "loglog", "panel", "reproduce",
]  # fmt: skip
