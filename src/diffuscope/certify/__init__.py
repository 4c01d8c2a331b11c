"""Oracle problems with exact solutions, and what a sampler or a likelihood must do on them."""

from diffuscope.certify.target import Run, Target

__all__ = ["Run", "Target"]
