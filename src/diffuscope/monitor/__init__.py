"""Watch a model while it trains: looks with an audit's measurements, and a stop when copying has begun."""

from .callback import Monitor
from .look import Look
from .loggers import scalars, sender
from .record import read_looks
from .repeated_looks import level_of_look, rank_bounds, rank_p_value

__all__ = ["Look", "Monitor", "level_of_look", "rank_bounds", "rank_p_value", "read_looks", "scalars", "sender"]
