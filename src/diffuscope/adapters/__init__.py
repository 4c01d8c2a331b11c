"""Other libraries' samplers as targets of `diffuscope certify`, and their models as denoisers.

>>> load_target("azula:REABSampler?order=3")                        # doctest: +SKIP
>>> load_target("k_diffusion:sample_dpmpp_2m")                      # doctest: +SKIP
>>> load_target("diffusers:UniPCMultistepScheduler?solver_order=3") # doctest: +SKIP
>>> load_target("deepinv:HeunSolver?alpha=1")                       # doctest: +SKIP
>>> load_target("my_module:my_sampler")                             # doctest: +SKIP
>>> load_model("diffusers:my/pipeline")                             # doctest: +SKIP
>>> from_azula(denoiser, event_shape=(3, 32, 32))                   # doctest: +SKIP

One file per library converts its states, times, options and noise to ours and lists what is not offered. A library's
sampler takes exactly the given times, one of its own steps between neighbors, by its own formulas, and its model is
asked at the times that it was trained at: the adapters only translate. A library is imported when one of its names is
loaded; none is a dependency.
"""

from .azula_models import from_azula
from .diffusers_folder import from_diffusers_folder
from .diffusers_models import from_diffusers
from .edm_models import from_edm
from .k_diffusion_models import from_k_diffusion
from .models import load_model
from .onnx_models import from_onnx
from .targets import known_targets, load_shipped, load_target

__all__ = [
    "from_azula", "from_diffusers", "from_diffusers_folder", "from_edm", "from_k_diffusion", "from_onnx",
    "known_targets", "load_model", "load_shipped", "load_target",
]  # fmt: skip
