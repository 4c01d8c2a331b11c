"""Nearest neighbors as `exact` finds them, the points shared among the processes of an audit where they are many."""

from jaxtyping import Float, Int, Shaped
from torch import Tensor

from diffuscope import exact
from diffuscope.distributed import sharers
from diffuscope.exact.sharded import sharded_neighbors, sharded_other_neighbors

FEW = 10**7  # products of coordinates of all pairs: fewer are no work to share


def nearest_neighbors(
    queries: Shaped[Tensor, "queries ..."], points: Shaped[Tensor, "points ..."], k: int
) -> tuple[Float[Tensor, "queries k"], Int[Tensor, "queries k"]]:
    """As `exact.nearest_neighbors`: the same distances and indices."""
    many = sharers() > 1 and len(queries) * points.numel() > FEW
    return sharded_neighbors(queries, points, k) if many else exact.nearest_neighbors(queries, points, k)


def nearest_other_neighbors(
    points: Shaped[Tensor, "points ..."], k: int
) -> tuple[Float[Tensor, "points k"], Int[Tensor, "points k"]]:
    """As `exact.nearest_other_neighbors`: the same distances and indices."""
    many = sharers() > 1 and len(points) * points.numel() > FEW
    return sharded_other_neighbors(points, k) if many else exact.nearest_other_neighbors(points, k)
