"""What a trained model learned, where its loss comes from, whether it memorized, and how few steps it needs."""

from .cifar_features import CifarFeatures, load_cifar_features
from .diagnostics import Diagnostics
from .page import audit_page
from .references import References, fit_references
from .run import AuditResult, Memorization, audit, memorized
from .steps import grid
from .subject import Settings, Subject

__all__ = [
    "AuditResult",
    "CifarFeatures",
    "Diagnostics",
    "Memorization",
    "References",
    "Settings",
    "Subject",
    "audit",
    "audit_page",
    "fit_references",
    "grid",
    "load_cifar_features",
    "memorized",
]
