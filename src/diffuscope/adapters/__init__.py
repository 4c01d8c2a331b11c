"""Other libraries' samplers as targets of `diffuscope certify`, their models as denoisers, and ours in their loops.

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

The other way, `teleported`, `TeleportScheduler` and `teleport_levels` put a closed-form jump before the first step of a
pipeline or sampler, and `k_diffusion_sampler` gives a sampler of ours k-diffusion's call shape. `SamplerScheduler` and
`AzulaSampler` are subclasses of classes of diffusers and azula, so they are in modules of their own:
`sampler_scheduler` and `azula_sampler`.
"""

from .azula_models import from_azula
from .diffusers_folder import from_diffusers_folder
from .diffusers_models import from_diffusers
from .edm_models import from_edm
from .k_diffusion_call import k_diffusion_sampler
from .k_diffusion_models import from_k_diffusion
from .models import load_model
from .onnx_models import from_onnx
from .targets import known_targets, load_shipped, load_target
from .teleport_pipeline import teleported
from .teleport_scheduler import TeleportScheduler
from .teleport_start import TeleportedLevels, teleport_levels

__all__ = [
    "TeleportScheduler", "TeleportedLevels", "from_azula", "from_diffusers", "from_diffusers_folder", "from_edm",
    "from_k_diffusion", "from_onnx", "k_diffusion_sampler", "known_targets", "load_model", "load_shipped",
    "load_target", "teleport_levels", "teleported",
]  # fmt: skip
