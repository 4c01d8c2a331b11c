"""What a trained model learned, where its loss comes from, whether it memorized, and how few steps it needs."""

from diffuscope.audit.cifar_features import CifarFeatures, load_cifar_features
from diffuscope.audit.diagnostics import Diagnostics
from diffuscope.audit.finding import Finding
from diffuscope.audit.frechet import FrechetDistance, frechet_distance
from diffuscope.audit.references import References, fit_references
from diffuscope.audit.run import AuditResult, Memorization, audit, memorized
from diffuscope.audit.steps import grid
from diffuscope.audit.subject import Settings, Subject
from diffuscope.audit.turning import TurningPoint, turning_point

__all__ = [
    "AuditResult",
    "CifarFeatures",
    "Diagnostics",
    "Finding",
    "FrechetDistance",
    "Memorization",
    "References",
    "Settings",
    "Subject",
    "TurningPoint",
    "audit",
    "fit_references",
    "frechet_distance",
    "grid",
    "load_cifar_features",
    "memorized",
    "turning_point",
]
