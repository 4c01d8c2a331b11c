"""Published experiments, each with the numbers that it must reach; `diffuscope reproduce` runs them.

Each experiment is the module of its name, imported on demand; NAMES is their order on the page. The experiments of one
source have that source's order: the article's four come first.
"""

from difflib import get_close_matches
from importlib import import_module
from pathlib import Path

from diffuscope.errors import InputError

from .experiment import Answer, Experiment, Outcome
from .page import experiments_index
from .part import Part, kolmogorov, largest_difference, loglog, panel
from .record import Record, code_fingerprint

NAMES = (
    "heat-1d",
    "mixture-forward",
    "double-moon",
    "samplers",
    "poisson",
    "reverse-family",
    "support",
    "fixed-start",
    "finite-data",
    "entropy",
    "spectral-bias",
    "learning-curve",
    "sample-quality",
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
    "trained-denoiser",
    "maier-stein",
    "rates",
    "two-unit-network",
    "ring-diffusion",
    "dps-is-biased",
    "constraint-is-not-posterior",
    "darcy-sparse",
    "burgers-sparse",
)

SOURCES = {  # how `--source` names a publication, and what the `source` of its experiments contains
    "article": "PDE and Machine Learning (7)",
    "cao": "arxiv.org/abs/2501.17054",
    "variance": "arxiv.org/abs/2504.12532",
    "noether": "arxiv.org/abs/2504.09761",
    "gaussian": "arxiv.org/abs/2412.09726",
    "painters": "arxiv.org/abs/2303.02490",
}


def find(name: str) -> Experiment:
    """The experiment of that name; otherwise InputError, which suggests the closest name or lists all.

    >>> from diffuscope.experiments import find
    >>> find("heat-1d").source
    'Chen Kai, PDE and Machine Learning (7), experiment 1'
    >>> find("heat-2d")
    Traceback (most recent call last):
        ...
    diffuscope.errors.InputError: name: there is no experiment 'heat-2d'; did you mean heat-1d?
    """
    if name in NAMES:
        return import_module(f".{name.replace('-', '_')}", __name__).EXPERIMENT
    near = get_close_matches(name, NAMES, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(NAMES)}"
    raise InputError(f"name: there is no experiment {name!r}; {hint}")


def of_source(source: str) -> tuple[str, ...]:
    """The names of the experiments of one of the SOURCES, in order; InputError for another source.

    >>> from diffuscope.experiments import of_source
    >>> of_source("article")
    ('heat-1d', 'mixture-forward', 'double-moon', 'samplers', 'poisson')
    """
    if source not in SOURCES:
        raise InputError(f"source: expected one of {', '.join(SOURCES)}, got {source!r}")
    return tuple(name for name in NAMES if SOURCES[source] in find(name).source)


def reproduce(name: str, *, seed: int = 0, out: str | Path | None = None) -> Outcome:
    """Run the experiment `name`; with `out`, also write what `diffuscope reproduce` writes to `out`/`name`.

    Raises InputError for a name that no experiment has, and for a negative seed.

    >>> from diffuscope.experiments import reproduce
    >>> reproduce("boundary-map").failures
    ()
    """
    outcome = find(name).run(seed)
    if out is not None:
        outcome.save(Path(out) / name)
    return outcome


__all__ = [
    "NAMES", "SOURCES", "Answer", "Experiment", "Outcome", "Part", "Record", "code_fingerprint", "experiments_index",
    "find", "kolmogorov", "largest_difference", "loglog", "of_source", "panel", "reproduce",
]  # fmt: skip
