"""The finished stages of an audit; see `diffuscope.store`."""

from diffuscope.store import Arrays, Store

__all__ = ["Arrays", "Store"]
