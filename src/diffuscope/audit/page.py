"""The report of an audit: verdicts first, then one section per question, then how it was computed."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from torch import Tensor

from diffuscope.findings import Finding
from diffuscope.report.images import image_png
from diffuscope.report.page import Block, Cell, Gallery, GalleryItem, Page, Picture, Section, Table

from . import figures
from .copies import Copies
from .diagnostics_section import diagnostics_method, diagnostics_section
from .learned import best_ranges
from .quality_section import quality_method, quality_section
from .run import AuditResult
from .steps import REFERENCE_STEPS, rms

SHOWN_PAIRS = 12
SHOWN_ROWS = 200


def audit_page(result: AuditResult) -> Page:
    """The page of an audit; `report.write_page` makes it a file."""
    found = result.findings
    verdicts = [found["memorized"][0], found["learned"][0], _loss_verdict(result), _steps_verdict(found["steps"])]
    sections = [_learned(result), _loss(result), _memorized(result), _steps(result)]
    if result.quality.measured is not None:
        verdicts.append(found["quality"][0])
        sections.append(quality_section(result.quality.measured))
    if result.diagnostics is not None:
        verdicts.append(found["diagnostics"][0])
        sections.append(diagnostics_section(result.diagnostics, found["diagnostics"]))
    return Page(
        f"Audit of {result.subject.name}",
        f"{result.subject.data_name}: {len(result.subject.train):,} training and "
        f"{len(result.subject.heldout):,} unseen examples",
        found["memorized"][0].verdict,
        verdicts,
        sections,
        _method(result),
    )


def _loss_verdict(result: AuditResult) -> Finding:
    return next(f for f in result.findings["loss"] if f.name == "loss.memorizer_on_heldout")


def _steps_verdict(found: Sequence[Finding]) -> Finding:
    return next(f for f in found if f.name == "steps.enough")


def _learned(result: AuditResult) -> Section:
    learned = result.learned
    ranges = Table(
        "The exact model that explains the network best, by noise range",
        ["model", "from noise", "down to noise", "agreement of resamples, %"],
        [[model, high, low, 100 * support] for model, high, low, support in best_ranges(learned)],
        "Judged at unseen points by the larger of the two unexplained fractions.",
    )
    rows: list[list[Cell]] = []
    for level, ratio in enumerate(learned.ratios):
        for column, model in enumerate(learned.models):
            rows.append(
                [
                    f"{ratio:.3g}",
                    model,
                    *(
                        100 * float(curve["heldout"].value[level, column])
                        for curve in (learned.unexplained, learned.unexplained_per_sample, learned.unexplained_score)
                    ),
                    float(learned.cosine["heldout"].value[level, column]),
                ]
            )
    numbers = Table(
        "All numbers at unseen points",
        [
            "noise",
            "model",
            "unexplained, pooled, %",
            "unexplained, per sample, %",
            "unexplained score, %",
            "cosine",
        ],
        rows,
        "Pooled: ratio of sums over points. Per sample: mean of ratios. The score is not centered.",
        folded=True,
    )
    return Section(
        "learned",
        "What did it learn at each noise level?",
        result.findings["learned"][0].verdict,
        [
            figures.unexplained_figure(learned),
            ranges,
            figures.sets_figure(learned),
            figures.bands_figure(learned),
            figures.cosine_figure(learned),
            numbers,
        ],
        result.findings["learned"],
    )


def _loss(result: AuditResult) -> Section:
    loss = result.loss
    rows: list[list[Cell]] = [
        [
            float(ratio),
            *(
                float(loss.value[name][part][level])
                for name in ("training", "heldout")
                for part in ("irreducible", "distance", "measured")
            ),
        ]
        for level, ratio in enumerate(loss.ratios)
    ]
    return Section(
        "loss",
        "Where does its loss come from?",
        result.findings["loss"][0].verdict,
        [
            figures.loss_figure(loss),
            Table(
                "The loss by noise level, in units of the data's variance",
                [
                    "noise",
                    "training: irreducible",
                    "distance",
                    "measured",
                    "unseen: irreducible",
                    "distance",
                    "measured",
                ],
                rows,
                "On unseen data the optimum is that of the unseen examples themselves.",
                folded=True,
            ),
        ],
        result.findings["loss"],
    )


def _memorized(result: AuditResult) -> Section:
    memorization = result.memorization
    blocks: list[Block] = []
    if memorization.gap is not None:
        gap = memorization.gap
        blocks += [
            figures.gap_figure(gap),
            Table(
                "The gap by noise level",
                ["noise", "gap, %", "low", "high", "control, %", "p-value"],
                [
                    [float(r), 100 * float(s), 100 * float(lo), 100 * float(hi), 100 * float(c), float(p)]
                    for r, s, lo, hi, c, p in zip(
                        gap.ratios, gap.share, gap.low, gap.high, gap.control, gap.p_values, strict=True
                    )
                ],
                f"{gap.pairs} pairs. The p-values are for single levels; the one over all levels is in the findings.",
                folded=True,
            ),
        ]
    for space, found in memorization.copies.items():
        blocks.append(figures.distances_figure(found, space))
        shown = np.argsort(found.p_values, kind="stable")[:SHOWN_PAIRS]
        if _are_images(result.subject.train):
            blocks.append(_pairs(result, found, shown, space))
        if found.listed.any():
            listed = np.flatnonzero(found.listed)
            listed = listed[np.argsort(found.p_values[listed], kind="stable")]
            blocks.append(
                Table(
                    f"Samples listed as copies ({space})",
                    ["sample", "training example", "distance", "to nearest unseen", "p-value"],
                    [
                        [
                            int(i),
                            int(found.nearest_training[i]),
                            float(found.distance[i]),
                            float(found.heldout_distance[i]),
                            float(found.p_values[i]),
                        ]
                        for i in listed[:SHOWN_ROWS]
                    ],
                    f"The first {SHOWN_ROWS} of {len(listed)}; all are in audit.json."
                    if len(listed) > SHOWN_ROWS
                    else "",
                    folded=len(listed) > SHOWN_PAIRS,
                )
            )
    return Section("memorized", "Did it memorize?", memorization.verdict.verdict, blocks, result.findings["memorized"])


def _pairs(result: AuditResult, found: Copies, shown: np.ndarray, space: str) -> Gallery:
    low, high = float(result.subject.train.min()), float(result.subject.train.max())

    def picture(image: Tensor, label: str) -> Picture:
        return Picture(image_png(image.numpy(), low, high), label)

    items = [
        GalleryItem(
            [
                picture(result.samples[i], "sample"),
                picture(result.subject.train[int(found.nearest_training[i])], "training"),
                picture(result.subject.heldout[int(found.nearest_heldout[i])], "unseen"),
            ],
            f"sample {i}: p = {found.p_values[i]:.2g}" + (", listed" if found.listed[i] else ""),
        )
        for i in shown
    ]
    return Gallery(
        f"The most suspicious samples with their neighbors ({space})",
        items,
        "Left the sample, in the middle its nearest training example, right its nearest unseen example. A copy looks "
        "like the middle picture and unlike the right one.",
    )


def _steps(result: AuditResult) -> Section:
    steps = result.steps
    rows: list[list[Cell]] = [
        [sampler + suffix, *(float(v) for v in rms(table)[row])]
        for table, suffix in ((steps.plain, ""), (steps.teleported, ", teleported"))
        for row, sampler in enumerate(steps.samplers)
    ]
    return Section(
        "steps",
        "How few steps does it need?",
        " ".join(f.verdict for f in result.findings["steps"] if f.name in ("steps.enough", "steps.teleport")),
        [
            figures.steps_figure(steps),
            Table(
                "Distance from the finely integrated result, in deviations of the data",
                ["sampler", *(f"{budget} evaluations" for budget in steps.budgets)],
                rows,
                f"Root mean square over {len(steps.plain)} trajectories; the last evaluation is always a denoise. "
                f"Reference: Heun, {REFERENCE_STEPS} steps, exact to {steps.reference_error:.1g}.",
            ),
            figures.teleport_figure(steps),
        ],
        result.findings["steps"],
    )


def _method(result: AuditResult) -> list[Block]:
    settings = [
        [name, ", ".join(value) if isinstance(value, tuple) else value]
        for name, value in asdict(result.settings).items()
    ]
    facts: list[Sequence[Cell]] = [
        ["model", result.subject.name],
        ["schedule", repr(result.subject.denoiser.schedule)[:200]],
        ["data", result.subject.data_name],
        ["training examples", f"{len(result.subject.train):,}"],
        ["unseen examples", f"{len(result.subject.heldout):,}"],
        ["noise levels", f"{result.levels.ratios[-1]:.3g} to {result.levels.ratios[0]:.3g} ({len(result.levels)})"],
        *([name, str(value)] for name, value in settings),
        *([name, version] for name, version in result.versions.items()),
    ]
    return [
        *(f"Note: {note}" for note in result.subject.notes),
        "The network is compared with four diffusions that are solved exactly: isotropic Gaussian, Gaussian, Gaussian "
        "mixture and the finite set of training examples. All points, noise and resamples come from the seed below: "
        "the same inputs give the same report.",
        "Own trajectories and samples: Heun's method on the probability-flow ODE through the audited noise levels, "
        "from a Gaussian with the first two moments of the noised data; a last call of the network removes the "
        "remaining noise.",
        f"The quality of the samples was not measured: {result.quality.refusal}."
        if result.quality.measured is None
        else quality_method(result.quality.measured),
        *([] if result.diagnostics is None else [diagnostics_method(result.diagnostics)]),
        "Limits. The unseen data must be drawn like the training data: a difference between the two sets looks like "
        "memorization (the control line in section 3 shows how much). Copies are found as far as the chosen distance "
        "sees them: a shifted or recolored copy needs a feature space of its own. The power statements concern exact "
        "copies. Intervals hold with probability 95% each, not all at once. The teleport estimate is of first order in "
        "the difference between network and Gaussian.",
        Table("Inputs, settings and versions", ["", ""], facts),
    ]


def _are_images(data: Tensor) -> bool:
    return data.ndim == 4 and data.shape[1] in (1, 3)
