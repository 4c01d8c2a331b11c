"""`diffuscope train --forecast`: when copying will start, from pilots on fewer examples; and forecast.json."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from diffuscope.data import DataSet
from diffuscope.files import write_json
from diffuscope.progress import progress_bar
from diffuscope.theory import NoForecast, OnsetForecast, forecast_onset
from diffuscope.theory.onset_pilots import (
    REPEATS,
    Pilot,
    pilot_sizes,
    require_heldout,
    run_pilots,
    step_at,
    training_times,
)
from diffuscope.training import recipe

FILE = "forecast.json"
FORMAT = "diffuscope forecast 1"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The run that is planned: its steps and its batches."""

    steps: int
    batch_size: int
    seed: int
    precision: str
    compiled: bool


def forecast(data: DataSet, plan: Plan, out: Path) -> None:
    """Run the pilots, print the forecast, and write it; the run itself is not started."""
    sizes = pilot_sizes(len(data.train))
    require_heldout(len(data.heldout))
    listed = ", ".join(f"{size:,}" for size in sizes)
    print(f"Pilots: {REPEATS} runs each of {listed} of {len(data.train):,} examples, {plan.steps:,} steps at most each")
    with progress_bar(desc="pilots", unit="step", total=plan.steps * REPEATS * len(sizes)) as bar:

        def show(size: int, repeat: int, step: int, copies: int | None) -> None:
            before = (sizes.index(size) * REPEATS + repeat) * plan.steps
            said = "examples not fitted yet" if copies is None else f"{copies} of 1,000 samples copied"
            bar.set_postfix_str(f"{size} examples, run {repeat + 1}: {said}", refresh=False)
            bar.update(before + step - bar.n)

        pilots = run_pilots(data, **vars(plan), out=out, show=show)
    lines, record = told(pilots, len(data.train), plan)
    write_json(record, out / FILE)
    print("\n".join(lines))
    print(f"Forecast: {out / FILE}; run the same command without --forecast to train")


def told(pilots: Sequence[Pilot], n: int, plan: Plan) -> tuple[list[str], dict[str, Any]]:
    """The lines to print and the content of forecast.json for the run on `n` examples."""
    settings = recipe(1.0, steps=plan.steps, batch_size=plan.batch_size, seed=plan.seed)
    time = training_times(settings)
    used = usable(pilots)
    onsets = [time[pilot.onset] for pilot in used if pilot.onset is not None]
    found = forecast_onset([pilot.size for pilot in used], onsets, n)
    cost = sum(pilot.steps for pilot in pilots)
    sizes = ", ".join(f"{size:,}" for size in dict.fromkeys(pilot.size for pilot in pilots))
    source = f"from {len(pilots)} pilots of {sizes} examples, {cost:,} steps together"
    record: dict[str, object] = {
        "format": FORMAT, "examples": n, "planned_steps": plan.steps, "planned_training_time": time[-1],
        "pilots": [asdict(pilot) | {"valid": pilot.is_valid, "used": pilot in used} for pilot in pilots],
        "pilot_steps": cost, "forecast": asdict(found) if isinstance(found, OnsetForecast) else None,
    }  # fmt: skip
    if isinstance(found, OnsetForecast):
        place = standing(found, time[-1])
        record |= {"step": step_at(time, found.median), "planned_end": place}
        record |= {"steps_80": [step_at(time, end) for end in found.interval_80]}
        record |= {"steps_95": [step_at(time, end) for end in found.interval_95]}
        return [_expected(found, time, source), ENDS[place].format(steps=plan.steps)], record
    reason, later = _reason(found, pilots, used, plan.steps), _later_than(found, pilots, time)
    record |= {"reason": reason, "later_than_step": None if later is None else step_at(time, later)}
    lines = [f"When copying will start cannot be told: {reason}, {source}"]
    if later is not None:
        lines.append(f"It is expected {_after(step_at(time, later), plan.steps)}")
    return lines, record


ENDS = {
    "before": "The planned {steps:,} steps end before the 80% interval begins",
    "within": "The planned {steps:,} steps end within the 80% interval",
    "after": "The planned {steps:,} steps end after the 80% interval: the model is expected to copy",
}


def _after(step: int | None, steps: int) -> str:
    return f"after step {step:,}" if step is not None else f"after the planned {steps:,} steps"


def standing(found: OnsetForecast, end: float) -> Literal["before", "within", "after"]:
    """Where the planned training time `end` lies relative to the 80% interval."""
    low, high = found.interval_80
    return "before" if end < low else "within" if end <= high else "after"


def usable(pilots: Sequence[Pilot]) -> list[Pilot]:
    """The pilots with a small chance level, of the sizes of which all such pilots have copied."""
    valid = [pilot for pilot in pilots if pilot.is_valid]
    censored = {pilot.size for pilot in valid if pilot.onset is None}
    return [pilot for pilot in valid if pilot.size not in censored]


def _expected(found: OnsetForecast, time: Sequence[float], source: str) -> str:
    """The forecast in steps of the planned run, or in training time where that ends before."""

    def interval(ends: tuple[float, float]) -> str:
        low, high = (step_at(time, end) for end in ends)
        if None not in (low, high):
            return f"{low:,} to {high:,}"
        return f"later than {len(time) - 1:,}" if low is None else f"{low:,} to later than {len(time) - 1:,}"

    step = step_at(time, found.median)
    if step is not None:
        return (
            f"Copying is expected to start at step {step:,} (80% interval {interval(found.interval_80)}, 95% interval "
            f"{interval(found.interval_95)}), {source}"
        )
    (a, b), (c, d) = found.interval_80, found.interval_95
    return (
        f"Copying is expected to start after {found.median:,.0f} steps of the full learning rate (80% interval "
        f"{a:,.0f} to {b:,.0f}, 95% interval {c:,.0f} to {d:,.0f}; the planned steps amount to {time[-1]:,.0f}), "
        f"{source}"
    )


def _reason(found: NoForecast, pilots: Sequence[Pilot], used: Sequence[Pilot], steps: int) -> str:
    if any(not pilot.is_valid for pilot in pilots) and len({pilot.size for pilot in used}) < 2:
        worst = max(pilots, key=lambda pilot: pilot.chance / pilot.heldout)
        return (
            f"by chance {worst.chance} of {worst.heldout} held-out examples count as copies of {worst.size} examples, "
            "and expected is a share surely below 2%"
        )
    if not used:
        return f"not all pilots of {pilots[0].size} examples copied within {steps:,} steps"
    return found.reason


def _later_than(found: NoForecast, pilots: Sequence[Pilot], time: Sequence[float]) -> float | None:
    """The planned end if no valid pilot of some size has copied until then, and what the forecast says if later."""
    copied: dict[int, bool] = {}
    for pilot in pilots:
        if pilot.is_valid:
            copied[pilot.size] = copied.get(pilot.size, False) or pilot.onset is not None
    bounds = [found.later_than] if found.later_than is not None else []
    if not all(copied.values()):
        bounds.append(time[-1])
    return max(bounds, default=None)
