"""The page of a monitored run: what was said, and the curves of copies, denoising gap and quality over the steps."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict

from diffuscope.audit import Settings, Subject
from diffuscope.audit.frechet_ratio import BAR
from diffuscope.findings import Chart, Finding, Mark, Panel, Rule, Tone, line, numbers
from diffuscope.report import Block, Cell, Page, Section, Table

from .judged_copies import Word
from .look import Look

TONES: dict[Word, Tone] = {
    "copies": "alarm", "suspected": "attention", "not-detected": "good", "cannot-tell": "unknown",
}  # fmt: skip


def monitor_page(looks: Sequence[Look], subject: Subject, settings: Settings, false_stop: float | int) -> Page:
    """The page of at least one look."""
    detected = next((look for look in looks if look.word == "copies"), None)
    said = detected or looks[-1]
    headline = (
        f"Copying was detected at step {detected.step:,}, look {detected.look} of {len(looks)}."
        if detected
        else f"Until step {said.step:,}: {said.sentence}"
    )
    verdict = Finding(
        name="monitor.copies",
        title="Has it begun to copy?",
        value=100 * said.copied,
        unit="%",
        verdict=said.sentence,
        tone=TONES[said.word],
        interval=None if math.isnan(said.copied) else (100 * said.copied_interval[0], 100 * said.copied_interval[1]),
        null=f"Samples resemble training examples no more than held-out examples do. {_control(false_stop)}",
        p_value=None if math.isnan(said.p_value) else said.p_value,
        power=_power(said),
    )
    return Page(
        "Monitor of a training",
        f"{subject.data_name}: {len(subject.train):,} training and {len(subject.heldout):,} held-out examples",
        headline,
        [verdict],
        [Section("copies", "Has it begun to copy?", said.sentence, _blocks(looks, detected), [verdict])],
        [_control(false_stop), METHOD, _settings(settings)],
        TONES[said.word],
    )


METHOD = (
    "At every look, samples of the model are searched for copies of training examples, and copies are planted to "
    "measure what the search would have found; the denoising errors on training and held-out examples are compared; "
    "and the Frechet distance of the samples to held-out data is divided by that between two held-out sets, in "
    "principal components. These are an audit's measurements of fewer samples and points. No verdict is given on "
    "quality, which an audit judges against planted faults; but of samples at least half as far from the data as white "
    "noise, nothing is said on copying."
)


def _control(false_stop: float | int) -> str:
    return (
        f"Look k has the level {false_stop:g} / (k (k + 1)), so that a run whose samples never copy is stopped with "
        f"probability {false_stop:g} at most, however often it is looked at."
    )


def _power(said: Look) -> str:
    found = {kind: share for kind, share in said.detectable.items() if share <= 1}
    if not found:
        return "None: not even copies alone would have been found at this look."
    shares = ", ".join(f"{kind} {share:.1%}" for kind, share in found.items())
    lost = [kind for kind in said.detectable if kind not in found]
    return (
        "Copies of training examples were planted. With probability 0.95 they would be found if this share of the "
        f"samples were copies: {shares}." + (f" Not found at any share: {', '.join(lost)}." if lost else "")
    )


def _blocks(looks: Sequence[Look], detected: Look | None) -> list[Block]:
    mark = [Rule(detected.step, "x", label="copying detected")] if detected else []

    def curve(
        title: str, unit: str, value: Callable[[Look], float], ends: Callable[[Look], tuple[float, float]], *more: Mark
    ) -> Panel | None:
        known = [look for look in looks if math.isfinite(value(look))]
        if not known:
            return None
        low, high = zip(*map(ends, known), strict=True)
        steps = [look.step for look in known]
        drawn = line(steps, [value(look) for look in known], "", low=low, high=high)
        return Panel(title, "step", unit, (drawn, *more, *mark))

    able = [look for look in looks if look.detectable.get("exact", math.inf) <= 1]
    power = [line([look.step for look in able], [100 * look.detectable["exact"] for look in able], "would be found",
                  style="dashed")] if able else []  # fmt: skip
    curves = (
        ("Copies among the samples", curve("", "listed as copies, % of the samples", lambda look: 100 * look.copied,
                                           lambda look: _percent(look.copied_interval), *power),
         "Dashed: the share of exact copies that would be found with probability 0.95."),
        ("How much better training examples are denoised than held-out ones",
         curve("", "gap, % of the loss", lambda look: 100 * look.gap, lambda look: _percent(look.gap_interval),
               Rule(0.0)),
         "Above zero the network knows its training examples; this comes before copies. It also shows what differs "
         "between the two sets."),
        ("Frechet distance of the samples to held-out data",
         curve("", "ratio to two held-out sets", lambda look: look.quality,
               lambda look: look.quality_interval, Rule(BAR)),
         f"At 1 the samples are as good as real data; up to {BAR:g} counts as close. Copies pass this test."),
    )  # fmt: skip
    charts: list[Block] = [Chart(title, (panel,), text) for title, panel, text in curves if panel is not None]
    return [*charts, _table(looks)]


def _table(looks: Sequence[Look]) -> Table:
    rows: list[list[Cell]] = [
        [look.step, look.word.replace("-", " "), _cell(100 * look.copied), _p(look.p_value), _cell(look.level),
         _cell(100 * look.detectable.get("exact", math.inf)), _cell(100 * look.gap), _cell(look.quality),
         look.seconds]
        for look in looks
    ]  # fmt: skip
    header = ["step", "", "copies, %", "p-value", "level", "would be found, %", "gap, %", "distance", "seconds"]
    return Table("All looks", header, rows)


def _settings(settings: Settings) -> Table:
    rows = [[name, ", ".join(value) if isinstance(value, tuple) else str(value)] for name, value in
            asdict(settings).items()]  # fmt: skip
    return Table("Settings", ["", ""], rows, folded=True)


def _percent(ends: tuple[float, float]) -> tuple[float, float]:
    return 100 * ends[0], 100 * ends[1]


def _p(value: float) -> str | None:
    return None if math.isnan(value) else numbers.p_value(value)


def _cell(value: float) -> float | None:
    return value if math.isfinite(value) else None
