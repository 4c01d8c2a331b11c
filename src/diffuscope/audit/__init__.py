"""What a trained model learned, where its loss comes from, whether it memorized, and how few steps it needs."""

from diffuscope.audit.diagnostics import Diagnostics
from diffuscope.audit.finding import Finding
from diffuscope.audit.references import References, fit_references
from diffuscope.audit.run import AuditResult, Memorization, audit, memorized
from diffuscope.audit.steps import grid
from diffuscope.audit.subject import Settings, Subject
from diffuscope.audit.turning_point import TurningPoint, turning_point

__all__ = [
    "AuditResult",
    "Diagnostics",
    "Finding",
    "Memorization",
    "References",
    "Settings",
    "Subject",
    "TurningPoint",
    "audit",
    "fit_references",
    "grid",
    "memorized",
    "turning_point",
]
