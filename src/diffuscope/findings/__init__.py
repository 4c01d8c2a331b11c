"""Findings and claims, charts as data, and the statistics behind them."""

from .chart import (
    Area,
    Arrows,
    Bars,
    Cells,
    Chart,
    Groups,
    HeatMap,
    Intervals,
    Line,
    Mark,
    Panel,
    Points,
    Rule,
    Series,
)
from .claim import Claim, Relation, at_least, at_most, equals, farthest, largest
from .finding import TONE_WORDS, Finding, Tone, cards
from .frechet import FrechetDistance, frechet_distance
from .marks import (
    Numbers,
    area,
    arrows,
    cells,
    density_bars,
    groups,
    heat_map,
    intervals,
    line,
    points,
    series,
)
from .repeated import AGREES, DIFFERS, Repeated, jackknife
from .statistics import (
    NORMAL_95,
    PERMUTATIONS,
    POWER,
    binomial_p_value,
    bootstrap_sums,
    chi_squared_permutation,
    conformal_p_values,
    detectable_shift,
    exact_share_interval,
    false_discovery,
    label_permutation,
    paired_permutation,
    percentile_interval,
    rank_correlation,
)
from .turning import TurningPoint, turning_point

__all__ = [
    "AGREES", "DIFFERS", "NORMAL_95", "PERMUTATIONS", "POWER", "TONE_WORDS", "Area", "Arrows", "Bars", "Cells", "Chart",
    "Claim", "Finding", "FrechetDistance", "Groups", "HeatMap", "Intervals", "Line", "Mark", "Numbers", "Panel",
    "Points", "Relation", "Repeated", "Rule", "Series", "Tone", "TurningPoint", "area", "arrows", "at_least", "at_most",
    "binomial_p_value", "bootstrap_sums", "cards", "cells", "chi_squared_permutation", "conformal_p_values",
    "density_bars", "detectable_shift", "equals", "exact_share_interval", "false_discovery", "farthest",
    "frechet_distance", "groups", "heat_map", "intervals", "jackknife", "label_permutation", "largest", "line",
    "paired_permutation", "percentile_interval", "points", "rank_correlation", "series", "turning_point",
]  # fmt: skip
