"""The certificate of a sampler as a page: the verdict, every question, error against evaluations, how it was asked."""

import platform

import scipy
import torch
from matplotlib.figure import Figure as Drawing

from diffuscope.findings import Finding
from diffuscope.report.charts import plain_log_ticks
from diffuscope.report.page import Figure, Page, Section, Table
from diffuscope.report.theme import LIGHT, figure_style, figure_svg

from .certificate import Certificate
from .convergence import STRONG_TOLERANCE, WEAK_TOLERANCE
from .order import STEPS
from .problems import oracle_problems

WORDS = {"good": "passes", "alarm": "FAILS", "attention": "note", "neutral": "for information"}


def certificate_page(certificate: Certificate) -> Page:
    """The page of a certificate; `report.write_page` makes it a file."""
    target, failures = certificate.target, certificate.failures
    answered = sum(finding.tone == "good" for finding in certificate.findings)
    if failures:
        headline = f"{target.name} fails {len(failures)} of {len(certificate.findings)} questions."
    else:
        headline = f"{target.name} passes: {answered} questions answered as they should be, none failed."
    kind = "stochastic" if target.stochastic else "deterministic"
    declared = "no declared order" if target.order is None else f"declared order {target.order}"
    return Page(
        f"Certificate of {target.name}",
        f"a {kind} sampler, {declared}",
        headline,
        [_verdict(certificate, headline)],
        [_questions(certificate), _errors(certificate)],
        _method(certificate),
    )


def _verdict(certificate: Certificate, headline: str) -> Finding:
    failures = certificate.failures
    told = headline
    if failures:
        told = f"{failures[0].title}: {failures[0].verdict}"
        told += f" {len(failures) - 1} more answers are wrong; all are listed below." if len(failures) > 1 else ""
    return Finding(
        name="certificate",
        title="Is it right?",
        value=float(len(failures)),
        unit="failures",
        verdict=told,
        tone="alarm" if failures else "good",
        null="A correct sampler fails nothing.",
        power=f"An order short by more than {STRONG_TOLERANCE} (weak order: {WEAK_TOLERANCE}) between {STEPS[0]} and "
        f"{STEPS[-1]} steps fails; a fault that leaves order, law, end and cost unchanged does not.",
    )


def _questions(certificate: Certificate) -> Section:
    rows = [[finding.title, WORDS[finding.tone], finding.verdict] for finding in certificate.findings]
    return Section(
        "questions",
        "What was asked, and what came out",
        f"{len(certificate.failures)} of {len(rows)} questions failed.",
        [Table("Every question", ["question", "verdict", "what was measured"], rows)],
    )


def _errors(certificate: Certificate) -> Section:
    rows = [
        [name, steps, evaluations, error]
        for name, table in certificate.errors.items()
        for steps, evaluations, error in table
    ]
    blocks = [_figure(certificate)] if rows else []
    header = ["problem", "steps", "evaluations", "error"]
    table = Table("Error against evaluations", header, rows, "Relative to the data's scale.", folded=True)
    answer = (
        "The distance of the endpoints from the exact ones, relative to the data's scale."
        if not certificate.target.stochastic
        else "The error of mean and covariance on Gaussian data, exact and relative to the spread."
    )
    return Section("errors", "How large is the error?", answer, [*blocks, table] if rows else [])


def _figure(certificate: Certificate) -> Figure:
    with figure_style():
        drawing = Drawing(figsize=(7.2, 3.8))
        axes = drawing.subplots()
        for name, table in certificate.errors.items():
            axes.plot([row[1] for row in table], [row[2] for row in table], marker="o", label=name)
        order, tables = certificate.target.order, [table for table in certificate.errors.values() if len(table) > 1]
        if order and tables:
            first, last = tables[0][0], tables[0][-1]
            slope = [first[2] * (first[0] / row[0]) ** order for row in tables[0]]
            axes.plot([row[1] for row in tables[0]], slope, color=LIGHT["ink"], linestyle=":", label=f"order {order}")
            axes.set_xlim(first[1] * 0.9, last[1] * 1.1)
        axes.set_xscale("log")
        axes.set_yscale("log")
        plain_log_ticks(axes.xaxis)
        axes.set_xlabel("evaluations of the denoiser")
        axes.set_ylabel("error")
        axes.legend(fontsize=9)
        return Figure(
            "Error against evaluations",
            figure_svg(drawing),
            "Lower is better. A sampler of order p falls in parallel to the dotted line once its steps are small.",
            "A log-log chart of the error on each oracle problem against the number of evaluations.",
        )


def _method(certificate: Certificate) -> list[str | Table]:
    target = certificate.target
    facts = [
        ["target", target.name],
        ["declared order", "none" if target.order is None else str(target.order)],
        ["declared evaluations per step", "varies" if target.nfe_per_step is None else str(target.nfe_per_step)],
        ["schedules", ", ".join(repr(schedule) for schedule in target.schedules)[:300]],
        ["steps of the orders", ", ".join(map(str, STEPS))],
        ["python", platform.python_version()],
        ["torch", torch.__version__],
        ["scipy", scipy.__version__],
    ]
    problems = [[problem.name, problem.title, problem.high, problem.low] for problem in oracle_problems()]
    return [
        "Deterministic samplers start from fixed points of the noised law and are compared with the exact "
        "probability-flow map: in closed form for the Gaussian, by an explicit Runge-Kutta method of order 8 at a "
        "relative tolerance of 1e-12 elsewhere. The order is fitted to log(error) = c - p log n + a/n over a decade of "
        "numbers of steps n, equal in log-SNR.",
        "Stochastic samplers: on Gaussian data the endpoint is an affine function of the start and of every random "
        "draw. The draws are replaced by unit vectors, so that mean and covariance of the endpoint follow without "
        "Monte Carlo. On the mixture, means, second moments, component weights and widths are estimated from samples.",
        Table("Oracle problems", ["name", "what", "from noise", "to noise"], problems),
        Table("Inputs and versions", ["", ""], facts),
    ]
