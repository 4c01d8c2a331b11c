"""What a solution says to somebody who reads one screen: what was inferred, how sure, and whether to believe it."""

import math
from dataclasses import dataclass
from functools import cached_property, partial

import torch

from diffuscope.findings import NORMAL_95, Finding
from diffuscope.findings.numbers import number, typeset

from .solution import ENOUGH, Solution
from .solution_charts import unit_of
from .solution_moments import KNOWN, LEVEL, NOISIER, SURPRISING

ENOUGH_POWER = 0.5  # a disagreement found in fewer cases than this is one that the readings cannot tell
NEAR = 0.05  # a coverage this close to the level is calibrated
FOLLOWS = 2  # standard deviations of the noise by which samples of a posterior may miss the readings; one is usual
EXACT = 1e-8  # a residual that rounding explains


@dataclass(frozen=True, eq=False)
class SolutionVerdicts:
    """The four findings of a solution and the sentence above them."""

    found: Solution

    @cached_property
    def findings(self) -> list[Finding]:
        """What was inferred, whether data and prior agree, calibration, and the equation."""
        return [self._inferred(), self._agreement(), self._calibration(), self._equation()]

    @property
    def headline(self) -> str:
        """One sentence."""
        found = self.found
        if not found.has_intervals:
            return f"Cannot tell: {self._too_few()}."
        if found.contradicted:
            return "The readings contradict the prior: do not trust the intervals."
        if found.too_probable:
            return "The readings scatter less than the stated noise: the intervals are probably too wide."
        coverage = self._calibration()
        if coverage.tone == "attention":
            return f"{coverage.verdict}"
        certified = "not certified" if coverage.tone == "unknown" else "calibrated for fields of the prior"
        misses = " The samples do not solve the equation exactly." if self._equation().tone == "attention" else ""
        return f"{self._inferred().verdict} The intervals are {certified}.{misses}"

    def _inferred(self) -> Finding:
        found = self.found
        if not found.has_intervals:
            return Finding(
                name="solve.inferred", title="What was inferred", value=found.effective or math.nan, unit="fields",
                verdict=f"Cannot tell: {self._too_few()}.", tone="unknown",
                power=f"Below {ENOUGH} effective fields no interval is given: its ends would be single fields.",
            )  # fmt: skip
        shares = self._shares()
        known = " and ".join(f"the {name} to ±{number(half)}{share}" for name, half, share in shares)
        k = len(found.problem.channels) - 1
        power = "The half-width of the 90% intervals, as root mean square over the values that are not known beforehand"
        if found.effective is not None:
            power += f"; {found.effective:,.0f} effective fields of {_count(found):,} agree with the data"
        return Finding(
            name="solve.inferred", title="What was inferred", value=self._half_width(k),
            unit=unit_of(found, "solution"), verdict=f"The readings determine {known}.", tone="neutral",
            power=f"{power}.",
        )  # fmt: skip

    def _half_width(self, k: int) -> float:
        m = self.found.moments
        assert m is not None
        width = (m.high[k] - m.low[k]) / 2
        free = self.free(k)
        return float(width[free].square().mean().sqrt()) if bool(free.any()) else 0.0

    def free(self, k: int) -> torch.Tensor:
        """Which values of a channel are not known beforehand."""
        found = self.found
        sd = found.prior_sd if found.prior_sd is not None else found.moments.sd if found.moments else found.samples[0]
        return sd[k] > KNOWN * float(sd[k].max())

    def _shares(self) -> list[tuple[str, float, str]]:
        found, widths = self.found, []
        assert found.moments is not None
        for k, name in enumerate(found.problem.channels):
            share = ""
            if found.prior_sd is not None:
                free = self.free(k)
                ratio = (found.moments.sd[k][free].square().mean() / found.prior_sd[k][free].square().mean()).sqrt()
                share = f" ({100 * float(ratio):.2g}% of the prior's spread)"
            widths.append((name, self._half_width(k), share))
        return widths

    def _agreement(self) -> Finding:
        found, p = self.found, self.found.percentile
        misfit = float(found.misfit.mean())
        fits = f"The samples miss the readings by {number(misfit)} standard deviations of the noise on average"
        if p is None:
            return Finding(
                name="solve.agreement", title="Do data and prior agree?", value=misfit, unit="standard deviations",
                verdict=f"{fits}." if misfit < FOLLOWS else f"The readings are not followed. {fits}, not by about one.",
                tone="neutral" if misfit < FOLLOWS else "attention",
                power="Samples that ignore the readings would miss them by the spread of the prior over the noise. "
                "Readings cannot be simulated from this prior, so how probable they are under it is not known.",
            )  # fmt: skip
        assert found.calibration is not None
        count = len(found.calibration.log_evidence)
        noticed = found.calibration.noticed
        tells = noticed >= ENOUGH_POWER
        readings = f"{len(found.sensors)} reading{'' if len(found.sensors) == 1 else 's'}"
        says = (
            f"No: the readings are at least as probable as only {100 * p:.2g}% of readings simulated from the prior"
            if found.contradicted
            else f"No: the readings are more probable than {100 * p:.3g}% of readings simulated from the prior, so "
            "that the noise is probably stated too large"
            if found.too_probable
            else f"Yes{'' if tells else f', as far as {readings} can tell'}: the readings are at least as probable as "
            f"{100 * p:.2g}% of readings simulated from the prior"
        )
        tone = "alarm" if found.contradicted else "attention" if found.too_probable else "good" if tells else "neutral"
        power = f"Compared with {count} simulated readings; those beyond {100 * SURPRISING:g}% on either side, or less "
        power += "probable than all of them, are reported."
        if math.isfinite(noticed):
            power += (
                f" Readings with {NOISIER} times the stated noise would be noticed in {100 * noticed:.2g}% of cases."
            )
        return Finding(
            name="solve.agreement", title="Do data and prior agree?", value=100 * p, unit="%", p_value=p,
            verdict=f"{says}. {fits}.",
            tone=tone, null="The readings come from a field of the prior.", power=power,
        )  # fmt: skip

    def _calibration(self) -> Finding:
        found, calibration = self.found, self.found.calibration
        k = len(found.problem.channels) - 1
        finding = partial(Finding, name="solve.calibration", title="Are the intervals right?", unit="%")
        if calibration is None or not math.isfinite(calibration.at(k)[0]) or not math.isfinite(calibration.at(k)[1]):
            why = (
                "readings cannot be simulated from this prior, and nothing here certifies its answers; grade it with "
                "`diffuscope grade`"
                if calibration is None
                else "too few of the simulated readings leave enough fields to give an interval"
            )
            return finding(
                value=math.nan, verdict=f"Cannot tell: {why}.", tone="unknown",
                power="Calibration is measured on simulated fields whose truth is known.",
            )  # fmt: skip
        value, error = calibration.at(k)
        if not found.has_intervals:
            return finding(
                value=math.nan, tone="unknown",
                verdict=f"Cannot tell: no interval is given. Of {len(calibration.log_evidence)} simulated fields "
                f"{calibration.truths} left enough to give one, which held the truth in {100 * value:.3g}% of values.",
                power="Calibration is measured on simulated fields whose truth is known.",
            )  # fmt: skip
        low, high = value - NORMAL_95 * error, value + NORMAL_95 * error
        inside = low >= LEVEL - NEAR and high <= LEVEL + NEAR
        outside = high < LEVEL - NEAR or low > LEVEL + NEAR
        words = "Yes, for fields of the prior:" if inside else ("No:" if outside else "Not decided:")
        if found.contradicted or found.too_probable:
            words, inside, outside = "No: the readings do not agree with the prior. For readings that do,", False, True
        elif copies := found.sensors.copies:
            repeats = "1 reading repeats" if copies == 1 else f"{copies} readings repeat"
            words, inside = f"Cannot tell: {repeats} another to the last digit. If all noise is independent,", False
        others = [
            f"{100 * calibration.at(c)[0]:.3g}% for the {name}"
            for c, name in enumerate(found.problem.channels[:-1])
            if math.isfinite(calibration.at(c)[0])
        ]
        also = f" ({', '.join(others)})" if others else ""
        return finding(
            value=100 * value, interval=(100 * low, 100 * high),
            verdict=f"{words} 90% intervals of the solution hold the truth in {100 * value:.3g}% of values{also}.",
            tone="good" if inside else "attention" if outside else "unknown",
            null="The share is 90%.",
            power=f"Measured on {calibration.truths} simulated fields, left out of what infers them, read "
            f"by the same sensors with new noise; a share within {100 * NEAR:g} points of 90% counts as right. "
            "An average over values and fields, not a statement on any single one, nor on fields outside the prior.",
        )  # fmt: skip

    def _equation(self) -> Finding:
        found = self.found
        residual = found.residual
        bad = int(residual.isnan().sum())
        worst = float(residual.nan_to_num(0.0).max()) if bad < len(residual) else math.nan
        holds = bad == 0 and worst <= EXACT
        if found.prior.residual_words:
            verdict, tone = found.prior.residual_words, "neutral"
        elif holds:
            verdict, tone = f"Yes: the residual of the samples is at most {worst:.1g} of |A| |u|.", "good"
        elif bad:
            verdict, tone = (
                f"No: {bad} of {len(residual)} samples have a coefficient that is not positive.",
                "attention",
            )
        else:
            verdict, tone = f"No: the residual of the samples is up to {worst:.1g} of |A| |u|.", "attention"
        return Finding(
            name="solve.equation", title="Do the samples solve the equation?", value=worst, unit="",
            verdict=typeset(verdict), tone=tone,
            power=f"Measured on {len(residual)} samples, with boundary and initial conditions, in the largest norm.",
        )  # fmt: skip

    def _too_few(self) -> str:
        found = self.found
        n = len(found.prior.fields) if found.prior.fields is not None else 0
        effective = found.effective or 0.0
        if found.contradicted:
            return f"the readings contradict the prior; none of the {n:,} fields of the prior comes near them"
        mend = found.prior.mend.format(more=f"{_rounded_up(n * ENOUGH / max(effective, 1)):,}".replace(",", ""))
        return (
            f"too few of the {n:,} fields of the prior agree with your data ({effective:.1f} effective ones, {ENOUGH} "
            f"are needed); {mend}"
        )


def _count(found: Solution) -> int:
    return 0 if found.prior.fields is None else len(found.prior.fields)


def _rounded_up(value: float) -> int:
    """To one leading digit."""
    power = 10 ** math.floor(math.log10(max(value, 1.0)))
    return math.ceil(value / power) * power
