"""Is it the score of a diffusing density, and how many nats does it know? Only with `--diagnostics`.

`score_consistency` differentiates the network; `entropy_budget` is reduced from the shared measurements. If the network
cannot be differentiated, the report says why the first part is missing.
"""

from dataclasses import dataclass
from functools import partial

from diffuscope.errors import InputError
from diffuscope.report import Cell, Table

from ..entropy_budget import Information, information, information_chart, information_findings
from ..question import Answer, Question
from ..score_consistency import (
    POINTS,
    PROBES,
    Equation,
    consistency_chart,
    consistency_findings,
    measure_equation,
    residuals,
)
from ..session import Session


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """Curl and score equation, or None and why they were not measured; Fisher information and entropies."""

    equation: Equation | None
    refusal: str
    information: Information


def diagnose(session: Session) -> Diagnostics:
    """Measure and reduce."""
    knowledge, levels = information(session, session.numpy_stream("information")), session.levels
    try:
        _ = session.points  # which all stages need
        measured = {f"equation-{index:02d}": partial(measure_equation, session, index) for index in range(len(levels))}
        squares = session.each_stage("differentiating", measured)
    except InputError as error:
        return Diagnostics(None, str(error), knowledge)
    ratios, scale, significance = levels.ratios.numpy(), session.subject.scale, session.settings.significance
    equation = residuals(squares, ratios, scale, significance, session.numpy_stream("equation"))
    return Diagnostics(equation, "", knowledge)


def _ask(session: Session) -> Answer | None:
    if not session.settings.diagnostics:
        return None
    result = diagnose(session)
    found = information_findings(result.information, session.settings.significance, session.truncation)
    blocks = [information_chart(result.information), _numbers(result)]
    if result.equation is not None:
        found = [*consistency_findings(result.equation), *found]
        blocks = [consistency_chart(result.equation), *blocks]
    text = f"Curl and score equation were not measured ({result.refusal})." if result.refusal else ""
    return Answer(findings=found, blocks=blocks, text=text, method=_method(result), result=result)


def _method(result: Diagnostics) -> str:
    equation = f"Score equation and curl need a model that torch can differentiate ({POINTS} examples at each level)."
    if result.equation is not None:
        equation = (
            f"Score equation and curl: {result.equation.points} held-out examples at each noise level, {PROBES} random "
            "sign vectors each, with the sampling noise of the probes subtracted from every square. Derivatives are by "
            "automatic differentiation, and in the noise level by finite differences if the model has only a table of "
            "steps. The residual of the equation is relative to the sum of the sizes of its terms, the curl to the "
            "smaller of two Jacobians (the denoiser's and the score's), so that neither end of the noise range looks "
            "perfect by construction."
        )
    return (
        f"{equation} Fisher information and relative entropies follow from the losses above, integrated over noise "
        "levels by the trapezoidal rule."
    )


def _numbers(result: Diagnostics) -> Table:
    budget, equation = result.information, result.equation
    rows: list[list[Cell]] = []
    for level, ratio in enumerate(budget.ratios):
        measured: list[Cell] = [None] * 3
        if equation is not None:
            residual, curl = equation.residual.value[level], equation.curl.value[level]
            measured = [round(100 * float(value), 1) for value in (*residual, curl[0])]
        rows.append([float(ratio), *measured, *map(float, (*budget.fisher.value[level], *budget.rates.value[level]))])
    fisher = ("Fisher σ²J/d: model", "implied by loss", "memorizer", "Gaussian")
    return Table(
        "All numbers by noise level",
        ["σ/α", "residual, %", "of a mixture, %", "curl, %", *fisher, "beyond the Gaussian", "from the memorizer"],
        rows,
        "The last two columns are in nats per coordinate and e-fold of noise, on held-out and on training data.",
        folded=True,
    )


QUESTION = Question(
    "diagnostics",
    "Is it the score of a diffusing density?",
    _ask,
    stages=lambda session: len(session.levels) if session.settings.diagnostics else 0,
    left_out=lambda session: not session.settings.diagnostics,
)
