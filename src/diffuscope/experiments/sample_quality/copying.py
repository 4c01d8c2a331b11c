"""Reciting the training digits passes the distance's bar, and is found by the search for copies."""

import numpy as np
import torch
from torch import Tensor

from diffuscope.audit.copies import Copies, copies, nearness
from diffuscope.audit.fidelity import BAR
from diffuscope.findings import Chart, Panel, at_least, at_most, density_bars, exact_share_interval

from ..experiment import Answer
from . import setting
from .setting import ASKED, DERIVED, Ruler, ruler, samples

FALSE_ENTRIES = 0.05  # of a list of copies, at most, in expectation
COPIES = 0.01


def copying(generator: torch.Generator) -> Answer:
    """The search for copies on the network's samples, and on samples that are copies."""
    seed = generator.initial_seed()
    found, made = ruler(seed), samples(seed, setting.STEPS)
    train = found.data.train
    recited = train[torch.randint(len(train), (len(made),), generator=generator)]
    ratio = found.ratio(recited, generator)
    of_network, of_recital = (_search(found, x, seed) for x in (made, recited))
    near = nearness(made.flatten(1), train.flatten(1), found.data.heldout.flatten(1), 0.01, seed)
    listed = int(of_network.listed.sum())
    claims = (
        at_most(
            "recited-passes",
            "A model that recites its training digits passes the bar of the distance: the ratio",
            ratio,
            BAR,
            because="derived: 1.25 in expectation; the distance cannot see copies",
            source=DERIVED,
        ),
        at_least(
            "recited-found",
            "The search for copies finds what it recites: the share of its samples that are listed",
            of_recital.share,
            0.9,
            because="every one is a copy",
            source=ASKED,
        ),
        at_most(
            "copies",
            f"The trained network's samples that copy a training digit: the share of {len(made)}",
            of_network.share,
            COPIES,
            because=f"none is wanted; one share in {round(1 / COPIES)} is left for false entries",
            source=ASKED,
        ),
    )
    low, high = exact_share_interval(listed, len(made))
    apart = float(np.median(of_network.distance) / np.median(of_network.null_distance))
    told = (
        f"The distance sees no copies: reciting the training digits gives {ratio:.2f}. The search for copies does: it "
        f"lists {of_recital.share:.0%} of those, and of the network's samples {listed} of {len(made)} (95% interval "
        f"{low:.1%} to {high:.1%}). {near.share:.0%} of its samples are nearer to training than to unseen digits "
        f"(p = {near.p_value:.2g}; 50% if it had no memory), and their distance to training "
        f"digits is {apart:.2f} times that of unseen digits (medians)."
    )
    return Answer(told, claims, (_chart(of_network),))


def _search(found: Ruler, x: Tensor, seed: int) -> Copies:
    train, unseen = found.data.train.flatten(1), found.data.heldout.flatten(1)
    return copies(x.flatten(1), train, unseen, len(unseen), FALSE_ENTRIES, seed)


def _chart(of_network: Copies) -> Chart:
    edges = torch.linspace(0, 1.05 * float(max(of_network.distance.max(), of_network.null_distance.max())), 40)
    bars = (
        density_bars(torch.from_numpy(of_network.null_distance), edges, "unseen digits"),
        density_bars(torch.from_numpy(of_network.distance), edges, "samples"),
    )
    panel = Panel("", "distance to the nearest training digit", "density", bars)
    how = "Copies would stand near 0. Samples as far from the training digits as unseen digits are something new."
    return Chart("How near samples come to training digits", (panel,), how)
