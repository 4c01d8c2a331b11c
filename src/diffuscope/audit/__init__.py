"""What a trained model learned, where its loss comes from, whether it memorized, and how few steps it needs."""

from .cifar_features import CifarFeatures, load_cifar_features
from .class_audit import audit_classes
from .class_result import ClassAuditResult
from .epsilon import EpsilonBound, epsilon_lower_bound
from .owner_sets import OwnerTest, owner_p_value, owner_tests
from .question import Answer, Question
from .questions import QUESTIONS
from .references import References, fit_references
from .result import AuditResult
from .run import audit_model, audit_samples
from .sample_metrics import SampleMetrics
from .second_model import SecondModel
from .session import Session
from .subject import Settings, Subject
from .verdict import WORDS, Verdict

__all__ = [
    "QUESTIONS",
    "WORDS",
    "Answer",
    "AuditResult",
    "CifarFeatures",
    "ClassAuditResult",
    "EpsilonBound",
    "OwnerTest",
    "Question",
    "References",
    "SampleMetrics",
    "SecondModel",
    "Session",
    "Settings",
    "Subject",
    "Verdict",
    "audit_classes",
    "audit_model",
    "audit_samples",
    "epsilon_lower_bound",
    "fit_references",
    "load_cifar_features",
    "owner_p_value",
    "owner_tests",
]  # fmt: skip
