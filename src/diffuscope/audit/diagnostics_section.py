"""The optional section of an audit's report: is it the score of a density that diffuses?"""

from collections.abc import Sequence

from diffuscope.findings import Finding
from diffuscope.report.page import Block, Cell, Section, Table

from .diagnostics import Diagnostics
from .diagnostics_figures import equation_figure, information_figure
from .equation import POINTS, PROBES


def diagnostics_section(result: Diagnostics, findings: Sequence[Finding]) -> Section:
    """Curl and score equation where the model could be differentiated, Fisher information and entropies always."""
    blocks: list[Block] = []
    answer = findings[0].verdict
    if result.equation is None:
        answer = f"Curl and score equation were not measured ({result.refusal})."
    else:
        blocks.append(equation_figure(result.equation))
    return Section(
        "diagnostics",
        "Is it the score of a density that diffuses?",
        answer,
        [*blocks, information_figure(result.information), _numbers(result)],
        findings,
    )


def diagnostics_method(result: Diagnostics) -> str:
    """How the section was computed, in one paragraph."""
    equation = (
        f"Score equation and curl: {result.equation.points} unseen examples at each noise level, {PROBES} random sign "
        "vectors each, with the sampling noise of the probes subtracted from every square; derivatives by automatic "
        "differentiation, in the noise level by differences where the model knows only a table of steps. What is left "
        "of the equation is relative to the sum of its terms' sizes, the curl to the smaller of two Jacobians (the "
        "denoiser's, and that of the score), so that neither end of the noise range looks perfect by itself. "
        if result.equation is not None
        else f"Score equation and curl need a model that torch can differentiate (on {POINTS} examples at each level). "
    )
    return (
        equation + "Fisher information and entropies come from the losses of the sections above, summed over noise "
        "levels by the trapezoidal rule."
    )


def _numbers(result: Diagnostics) -> Table:
    information, equation = result.information, result.equation
    rows: list[list[Cell]] = []
    for level, ratio in enumerate(information.ratios):
        measured: list[Cell] = [None] * 3
        if equation is not None:
            residual, curl = equation.residual.value[level], equation.curl.value[level]
            measured = [round(100 * float(value), 1) for value in (*residual, curl[0])]
        rows.append(
            [
                float(ratio),
                *measured,
                *(float(value) for value in information.fisher.value[level]),
                *(float(value) for value in information.rates.value[level]),
            ]
        )
    return Table(
        "All numbers by noise level",
        [
            "noise",
            "left over, %",
            "of a mixture, %",
            "curl, %",
            "Fisher σ²J/d: model",
            "certain",
            "memorizer",
            "Gaussian",
            "beyond the Gaussian",
            "from the memorizer",
        ],
        rows,
        "The last two in nats per coordinate and e-fold of noise, on unseen and on training data.",
        folded=True,
    )
