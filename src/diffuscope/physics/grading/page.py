"""The result of a grading: the page, its JSON, and the lines of the terminal."""

import math
from collections.abc import Sequence
from dataclasses import asdict

import torch

from diffuscope.findings import Chart, Finding, Panel, Tone, cells
from diffuscope.report import Page, Section, Table

from .run import DETECTABLE, LEVEL, PLANTED, REPEATS, TITLES, Row, Settings

TONES: dict[str, Tone] = {"right": "good", "wrong": "alarm", "cannot tell": "unknown"}
SHOWN = {  # scores, with what exact draws score subtracted and in percent for two of them
    "mean": "mean error",
    "spread": "variance",
    "coverage": "coverage",
    "crps": "CRPS %",
    "energy": "energy %",
    "misfit": "misfit",
}
COLUMNS = (
    "Mean error in Monte-Carlo standard errors; variance and misfit over those of the posterior; coverage of 90% "
    "intervals; excess of the CRPS and of the energy score over those of exact draws; chi-square of the points of a "
    "finite set over its degrees of freedom."
)


def shown(row: Row, score: str) -> float | None:
    """A score as it is printed: of the mean the root of its ratio to exact draws, of fair scores the excess."""
    if score not in row.scores:
        return None
    found = row.scores[score]
    if score == "mean":
        return math.sqrt(found.value / found.expected)
    if score in ("crps", "energy"):
        return 100 * (found.value / found.expected - 1)
    return found.value


def headline(rows: Sequence[Row]) -> str:
    """Which methods are right, in one sentence."""
    names = list(dict.fromkeys(row.method for row in rows))
    judged = {name: [row.verdict for row in rows if row.method == name] for name in names}
    right = [name for name in names if all(verdict == "right" for verdict in judged[name])]
    wrong = [name for name in names if "wrong" in judged[name]]
    return (
        f"{len(right)} of {len(names)} methods get every posterior right{': ' if right else ''}{', '.join(right)}; "
        f"{len(wrong)} get at least one wrong."
    )


def size(settings: Settings) -> str:
    """Of one family."""
    problems = f"{settings.problems} problem{'s' if settings.problems > 1 else ''}"
    return f"{problems}, {settings.draws} draws each, {settings.steps} noise levels"


def grading_page(rows: Sequence[Row], settings: Settings) -> Page:
    """Verdict first, a table per family of problems, and the method of the grading.

    >>> from diffuscope.physics.grading import Pooled, Row, Settings, grading_page
    >>> fair = Pooled(name="spread", value=1.4, expected=1.0, error=0.2, p_value=0.05)
    >>> rows = [Row(method=name, title=name, family="gaussian", scores={"spread": fair}, error="", seconds=1.0,
    ...             threshold=p, detectable=0.1) for name, p in (("mine", 0.01), ("theirs", 0.1))]
    >>> page = grading_page(rows, Settings())  # p = 0.05 is below the threshold of one of them
    >>> page.sections[0].answer
    '1 of 2 methods: mine.'
    """
    families = list(dict.fromkeys(row.family for row in rows))
    wrong = sum(row.verdict == "wrong" for row in rows)
    unknown = sum(row.verdict == "cannot tell" for row in rows)
    found = [row.detectable for row in rows if row.detectable is not None]
    power = (
        f"Planted faults (a variance, or a power of the likelihood, wrong by a share) of {max(found):.0%} are found in "
        f"every one of {REPEATS} repetitions in every family."
        if found and len(found) == len(rows)
        else "In at least one family no planted fault was found: more problems or draws are needed."
    )
    verdict = Finding(
        name="grading.wrong",
        title="Which method gets the posterior right?",
        value=float(wrong),
        unit="wrong",
        verdict=headline(rows),
        tone="unknown" if unknown == len(rows) else "neutral",
        null=f"In a family, any sampler of the exact posterior is called wrong with probability {LEVEL:.0%} at most.",
        power=power,
    )
    return Page(
        "Which posterior sampler is right?",
        "; ".join(f"{TITLES.get(name, name)}: {size(settings.within(name))}" for name in families),
        headline(rows),
        [verdict],
        [_section(family, [row for row in rows if row.family == family]) for family in families],
        [
            "Every problem has an exact posterior. Draws of a method are scored, and as many exact draws are scored in "
            "the same way many times over; the difference in their standard deviations makes the p-value. Scores of "
            f"independent problems are added. A method is wrong below p = {LEVEL} divided by the number of scores and "
            "methods in its family; it is right otherwise, if a planted fault of at most "
            f"{DETECTABLE:.0%} is found (planted: {', '.join(f'{fault:.0%}' for fault in PLANTED)}).",
            f"In every family the probability that any exact sampler is called wrong is at most {LEVEL:.0%}; over the "
            f"{len(families)} here, at most {LEVEL * len(families):.0%}.",
            COLUMNS,
            "Draws within a tenth of the least distance between two points of a finite set count as that point.",
            "Fair CRPS and energy scores are unbiased in the number of draws; their excess over exact draws is a "
            "squared distance of distributions. Intervals are those of order statistics, which exact draws cover with "
            "probability 1 - 2j/(n + 1), and more where values repeat (a finite set).",
        ],
    )


def _section(family: str, rows: Sequence[Row]) -> Section:
    right = [row.method for row in rows if row.verdict == "right"]
    table = Table(
        "Methods",
        ["method", "verdict", *SHOWN.values(), "chi-square", "CPU s", "why"],
        [
            [
                row.method, row.verdict, *(shown(row, score) for score in SHOWN),
                row.scores["points"].value / row.scores["points"].expected if "points" in row.scores else None,
                row.seconds, row.reason,
            ]
            for row in rows
        ],
    )  # fmt: skip
    exact = next((row for row in rows if row.scores), None)
    blocks = [] if exact is None else [_chart(rows), table]
    answer = f"{len(right)} of {len(rows)} methods: {', '.join(right) or 'none'}."
    findings = [
        Finding(
            name=f"{family}.{row.method}",
            title=row.title,
            value=math.nan if row.worst is None else row.worst.value,
            unit="" if row.worst is None else row.worst.name,
            verdict=f"{row.verdict}: {row.reason}.",
            tone=TONES[row.verdict],
            p_value=None if row.worst is None else row.worst.p_value,
        )
        for row in rows
    ]
    return Section(family, f"{TITLES.get(family, family)}: which method is right?", answer, blocks or [table], findings)


def _chart(rows: Sequence[Row]) -> Chart:
    """The standard deviations by which every score of every method differs from exact draws."""
    family = TITLES.get(rows[0].family, rows[0].family)
    rows = [row for row in rows if row.scores]
    names = [name for name in [*SHOWN, "covariance", "points"] if any(name in row.scores for row in rows)]
    z = [
        [
            min(10.0, abs(row.scores[name].value - row.scores[name].expected) / row.scores[name].error)
            if name in row.scores
            else math.nan
            for name in names
        ]
        for row in rows
    ]
    mark = cells([row.method for row in rows], names, torch.tensor(z, dtype=torch.float64), color_range=(0, 10))
    how = "Standard deviations between a method's score and that of exact draws, cut at 10. Exact draws stay below 4."
    return Chart(f"{family}: distance from exact draws", (Panel("", "score", "method", (mark,)),), how)


def grading_json(rows: Sequence[Row], settings: Settings) -> dict[str, object]:
    """Plain JSON types.

    >>> from diffuscope.physics.grading import Pooled, Row, Settings, grading_json
    >>> fair = Pooled(name="spread", value=1.4, expected=1.0, error=0.2, p_value=0.05)
    >>> row = Row(method="mine", title="Mine", family="gaussian", scores={"spread": fair}, error="", seconds=1.0,
    ...           threshold=0.1, detectable=0.1)
    >>> found = grading_json([row], Settings())["rows"][0]
    >>> found["verdict"], found["scores"]["spread"]["value"]  # p = 0.05 is below the threshold
    ('wrong', 1.4)
    """
    return {
        "settings": asdict(settings),
        "headline": headline(rows),
        "rows": [
            {
                "method": row.method, "title": row.title, "family": row.family, "verdict": row.verdict,
                "reason": row.reason, "error": row.error, "seconds": row.seconds, "threshold": row.threshold,
                "detectable": row.detectable, "scores": {name: asdict(score) for name, score in row.scores.items()},
            }
            for row in rows
        ],
        "charts": [
            asdict(_chart(group))
            for family in dict.fromkeys(row.family for row in rows)
            for group in [[row for row in rows if row.family == family and row.scores]]
            if group
        ],
    }  # fmt: skip
