"""Averaged weights as trainers keep them: of the parameters alone, without their names, or with names without dots.

Averages over training steps are often kept of the parameters only, or of those that are trained: in a dictionary by
their names, in a list in their order (diffusers, torch_ema, score_sde), or, as names of buffers have no dots, by names
without dots (`LitEma` of latent diffusion: `model_ema.diffusion_modelinput_blocks00weight`). What else the network has,
its buffers and the parameters that are not trained, is then taken from the raw weights in the same file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from .weights_file import AVERAGED, Tensors, WeightsFile
from .weights_fit import (
    Fit,
    Shape,
    expected_shapes,
    few,
    fits_of,
    have_shapes,
    unwrapped,
    with_prefix,
    without_wrappers,
)

COUNTERS = {"decay", "num_updates"}  # beside the averages of LitEma
OF_PARAMETERS = "averages of the parameters alone were taken"
IN_ORDER = "averages without names were matched by their order"
WITHOUT_DOTS = "averages were matched by names without dots"


def averages(file: WeightsFile, network: nn.Module, found: list[Fit]) -> list[Fit]:
    """Averages that `fits` does not find, completed by raw weights among `found`, those that it does."""
    shapes, known = expected_shapes(network), {fit.place for fit in found}
    parts = (part for part in _kept(file, network, shapes) if part.averaged and part.place not in known)
    return [fit for part in parts if (fit := _completed(part, network, shapes, found)) is not None]


def misfit_in_order(averages: list[Tensor], network: nn.Module) -> str:
    """How averages without names differ from the parameters of the network in their order."""
    parameters = dict(network.named_parameters())
    if len(averages) != len(parameters):
        return f"{len(averages)} tensors without names for {len(parameters)} parameters"
    for (name, value), average in zip(parameters.items(), averages, strict=True):
        if value.shape != average.shape:
            return f"in the order of the parameters, {name} expected {tuple(value.shape)}, got {tuple(average.shape)}"
    rest = [name for name in network.state_dict() if name not in parameters]
    return f"averages without names, which do not have {few(rest)}, and no weights beside them that do"


def _kept(file: WeightsFile, network: nn.Module, shapes: Mapping[str, Shape]) -> Iterator[Fit]:
    """Averages of all parameters, or of those that are trained, without what they lack."""
    parameters = {without_wrappers(name): value for name, value in network.named_parameters()}
    trained = [name for name, value in parameters.items() if value.requires_grad]
    for names in dict.fromkeys((tuple(parameters), tuple(trained))):
        wanted = {name: shapes.get(name) for name in names}
        for keys, values in file.shadows.items():
            in_order = Fit(keys, "", dict(zip(names, values, strict=False)), IN_ORDER)
            if len(values) == len(names) and have_shapes(in_order.tensors, wanted):
                yield in_order
        for keys, tensors in file.dicts.items():
            if wanted.keys() != shapes.keys():
                yield from (replace(fit, remark=OF_PARAMETERS) for fit in fits_of(keys, tensors, wanted))
            yield from _without_dots(keys, unwrapped(tensors), wanted)


def _without_dots(keys: str, tensors: Tensors, wanted: Mapping[str, Shape]) -> Iterator[Fit]:
    """Averages under names from which the dots were removed, where these are still different."""
    flat = {name.replace(".", ""): name for name in wanted}
    if not wanted or len(flat) < len(wanted) or flat.keys() == wanted.keys():
        return
    longest, ordered = max(flat, key=len), sorted(tensors)
    for last in ordered:
        prefix = last.removesuffix(longest)
        if prefix == last or not AVERAGED.search(f"{keys}.{prefix}"):
            continue
        named = with_prefix(prefix, ordered, len(flat) + len(COUNTERS) + 1)
        if {name.removeprefix(prefix) for name in named} - COUNTERS == flat.keys():
            under = {name: tensors[prefix + short] for short, name in flat.items()}
            if have_shapes(under, wanted):
                yield Fit(keys, prefix.rstrip("."), under, WITHOUT_DOTS)


def _completed(part: Fit, network: nn.Module, shapes: Mapping[str, Shape], found: list[Fit]) -> Fit | None:
    """With what is missing from the raw weights; None where there are none, or several that differ."""
    tensors = _with_second_names(network, part.tensors)
    rest = shapes.keys() - tensors.keys()
    if not rest:
        return replace(part, tensors=tensors)
    raw = [fit for fit in found if not fit.averaged]
    if not raw or any(not torch.equal(raw[0].tensors[name], fit.tensors[name]) for fit in raw for name in rest):
        return None
    others = f"the others are those of {raw[0].place or 'the file'}"
    return replace(part, tensors={**raw[0].tensors, **tensors}, remark=f"{part.remark}, {others}")


def _with_second_names(network: nn.Module, tensors: Mapping[str, Tensor]) -> Tensors:
    """Parameters that several layers share have one name in a list, and several in a state dict."""
    first = {id(value): without_wrappers(name) for name, value in network.named_parameters()}
    every = network.named_parameters(remove_duplicate=False)
    return {without_wrappers(name): tensors[first[id(value)]] for name, value in every if first[id(value)] in tensors}
