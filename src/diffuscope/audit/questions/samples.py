"""Are these samples of these data? Asked first where samples alone are audited.

Are they in the units of the data, turned as these are, and not the held-out examples themselves (`units`)? And are the
held-out examples like the training examples (`heldout_units`)? Samples or held-out examples that are not what they are
taken for make every later answer meaningless.
"""

from dataclasses import replace

from diffuscope.by_parts import extremes

from ..heldout_units import heldout_units, heldout_units_finding
from ..question import HELDOUT_BROKEN, Answer, Question
from ..sample_units import heldout_finding, units_of_samples, units_table
from ..session import Session
from ..units import sample_units

TITLE = "Are these samples of these data?"
METHOD = (
    "Samples alone were audited. With the model one would also learn how it denoises training and held-out examples, a "
    "test of memorization that needs no copies among the samples, what it learned at each noise level, and which "
    "examples its loss reveals."
)


def _ask(session: Session) -> Answer:
    session.progress.set_postfix_str("checking the units of the samples")
    subject, samples = session.subject, session.samples
    limits = extremes(subject.train)
    units = sample_units(samples, subject.train, subject.heldout, limits, session.numpy_stream("samples"))
    unseen = heldout_units_finding(heldout_units(subject, limits, session.numpy_stream("heldout units")), "samples")
    found = [units_of_samples(units, "samples", own=False), heldout_finding(units, "samples"), unseen]
    wrong = [finding for finding in (unseen, *found[:2]) if finding.tone == "alarm"]
    verdict = replace((wrong or found)[0], name="samples.verdict", title=TITLE)
    if not wrong and found[0].tone == "good":
        verdict = replace(verdict, verdict=f"{found[0].verdict} {found[1].verdict}")
    session.advance()
    sets = {"training data": subject.train, "held-out data": subject.heldout, "given samples": samples}
    return Answer(
        findings=[verdict, *found],
        blocks=[units_table(sets)] if subject.table is None else [],
        method=METHOD,
        result=units,
        broken=HELDOUT_BROKEN if unseen in wrong else frozenset({"samples"} if wrong else ()),
    )


QUESTION = Question("samples", TITLE, _ask, stages=lambda _: 1, needs=frozenset(), of="samples")
