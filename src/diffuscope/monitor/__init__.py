"""Watch a model while it trains: looks with an audit's measurements, and a stop when copying has begun."""

from .callback import EFFORT, LOG, PAGE, Monitor
from .in_accelerate import accelerate_step
from .in_hugging_face import trainer_callback
from .in_lightning import lightning_callback
from .loggers import scalars, sender
from .look import Look
from .record import read_looks
from .repeated_looks import level_of_look, rank_bounds, rank_p_value

__all__ = [
    "EFFORT", "LOG", "PAGE", "Look", "Monitor", "accelerate_step", "level_of_look", "lightning_callback",
    "rank_bounds", "rank_p_value", "read_looks", "scalars", "sender", "trainer_callback",
]  # fmt: skip
