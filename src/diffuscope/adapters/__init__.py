"""Other libraries' samplers, and any callable, as targets of `diffuscope certify`.

>>> load_target("azula:REABSampler?order=3")                        # doctest: +SKIP
>>> load_target("k_diffusion:sample_dpmpp_2m")                      # doctest: +SKIP
>>> load_target("diffusers:UniPCMultistepScheduler?solver_order=3") # doctest: +SKIP
>>> load_target("my_module:my_sampler")                             # doctest: +SKIP

One file per library says how its states, times, options and noise become ours, what is offered and what is not.
A peer walks exactly the times that it is given, one of its own steps between neighbors, on its own formulas: the
adapters only translate. They import a library when a target of it is asked for; none is a dependency.
"""

from .targets import known_targets, load_target

__all__ = ["known_targets", "load_target"]
