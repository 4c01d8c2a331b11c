"""Other libraries' samplers, and any callable, as targets of `diffuscope certify`.

>>> load_target("azula:REABSampler?order=3")                        # doctest: +SKIP
>>> load_target("k_diffusion:sample_dpmpp_2m")                      # doctest: +SKIP
>>> load_target("diffusers:UniPCMultistepScheduler?solver_order=3") # doctest: +SKIP
>>> load_target("deepinv:HeunSolver?alpha=1")                       # doctest: +SKIP
>>> load_target("my_module:my_sampler")                             # doctest: +SKIP

One file per library converts its states, times, options and noise to ours and lists what is not offered. A library's
sampler takes exactly the given times, one of its own steps between neighbors, by its own formulas: the adapters only
translate. A library is imported when one of its targets is loaded; none is a dependency.
"""

from .targets import known_targets, load_shipped, load_target

__all__ = ["known_targets", "load_shipped", "load_target"]
