r"""Measures of memorization beside the programs that define them, on the same rows.

    python benchmarks/standard_names.py

Peers that are not installed are skipped; none is needed by diffuscope. A fifth of the samples are training rows. All
sets have the same size, so that no row is left out, and the same range in every column, so that peers that scale
columns by the ranges of other sets scale them alike. The last column says why a difference is what it is.
"""

from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import torch

from diffuscope.audit.standard_names import standard_measures, table_measures

ROWS, COPIES = 400, 80
CATEGORICAL = np.array([False, False, True, True, False])
Comparison = tuple[str, float, float, str]
Tables = tuple[list[np.ndarray], list[np.ndarray], list[np.ndarray]]


def numeric_rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Samples, training and held-out rows of six columns."""
    rng = np.random.default_rng(0)
    sets = 20 + 5 * rng.normal(size=(3, ROWS, 6))
    sets[0, :COPIES] = sets[1, :COPIES]
    for rows in sets:
        rows[-2:] = [[0.0], [40.0]]
        rows *= 0.2, 0.5, 1.0, 1.0, 2.0, 4.0
    samples, train, heldout = torch.from_numpy(sets).float()
    return samples, train, heldout


def table(rng: np.random.Generator) -> list[np.ndarray]:
    """Three positive numeric and two categorical columns, with the same extreme values in every table."""
    first = 50 + 10 * rng.normal(size=ROWS)
    code = rng.integers(5, size=ROWS)
    columns = [first, 80 + first + 3 * rng.normal(size=ROWS), code, (first > 50) + code, 30 + rng.normal(size=ROWS)]
    for c in np.flatnonzero(~CATEGORICAL):
        columns[c][-2:] = 10.0, 300.0
    return columns


def mostlyai(
    samples: np.ndarray, train: np.ndarray, heldout: np.ndarray, ours: dict[str, float]
) -> Iterator[Comparison]:
    from mostlyai.qa import _distances as peer  # pyright: ignore[reportMissingImports]

    dcr, nndr = peer.calculate_dcrs_nndrs(train, samples)
    yield "IMS, %", ours["IMS, %"], 100 * peer.calculate_ims(dcr), "it counts distances up to 1e-6"
    rounding = "rounding"
    yield "DCR, median", ours["DCR, median"], np.median(dcr), f"{rounding}; its own summary is the mean"
    yield "DCR, 5% quantile", ours["DCR, 5% quantile"], np.quantile(dcr, 0.05), rounding
    because = "it adds 1e-8 to both distances; its own summary is the tenth smallest"
    yield "NNDR, median", ours["NNDR, median"], np.median(nndr), because
    to_heldout = peer.calculate_dcrs_nndrs(heldout, samples)[0]
    yield "DCR to held-out, median", ours["DCR to held-out, median"], np.median(to_heldout), rounding
    share = peer.calculate_dcr_share(dcr, to_heldout)
    yield "DCR share", ours["DCR share"], share, "of one group of columns; with more than 10 it prints the largest of 7"


def syntheval(
    samples: np.ndarray, train: np.ndarray, heldout: np.ndarray, ours: dict[str, float]
) -> Iterator[Comparison]:
    import pandas as pd
    from syntheval.metrics.privacy.metric_epsilon_identifiability import EpsilonIdentifiability, _column_entropy  # pyright: ignore[reportMissingImports]
    from syntheval.metrics.privacy.metric_nn_adversarial_accuracy import NearestNeighbourAdversarialAccuracy  # pyright: ignore[reportMissingImports]

    frames = [pd.DataFrame(rows.astype(float), columns=list("abcdef")) for rows in (train, samples, heldout)]
    options = {"cat_cols": [], "num_cols": list("abcdef"), "nn_dist": "euclid", "do_preprocessing": False}
    found = NearestNeighbourAdversarialAccuracy(*frames, **options).evaluate()
    yield "NNAA", ours["NNAA"], found["avg"], ""
    yield "NNAA privacy loss", ours["NNAA privacy loss"], found["priv_loss"], ""
    found = EpsilonIdentifiability(*frames, **options).evaluate()
    name = "eps-identifiability"
    yield name, ours[name], found["eps_risk"], "it weights columns by 1 / entropy of their rounded values"
    weights = np.array([_column_entropy(column) for column in train.T.astype(float)]) ** -0.5
    weighted = named(
        torch.from_numpy(samples * weights), torch.from_numpy(train * weights), torch.from_numpy(heldout * weights)
    )
    yield f"{name}, rows weighted so", weighted[name], found["eps_risk"], ""
    name = "eps-identifiability, training - held-out"
    yield f"{name}, weighted so", weighted[name], found["priv_loss"], ""


def sdmetrics(tables: Tables, ours: dict[str, float]) -> Iterator[Comparison]:
    from sdmetrics.single_table.privacy.dcr_overfitting_protection import DCROverfittingProtection  # pyright: ignore[reportMissingImports]

    frames = [frame(columns) for columns in tables]
    kinds = {
        name: {"sdtype": "categorical" if of else "numerical"} for name, of in zip("abcde", CATEGORICAL, strict=True)
    }
    metadata = {"tables": {"table": {"columns": kinds}}}
    found = DCROverfittingProtection.compute_breakdown(frames[1], frames[0], frames[2], metadata, "table")
    share = found["synthetic_data_percentages"]["closer_to_training"]
    yield "DCR share (Gower)", ours["DCR share (Gower)"], share, "it counts a tie as nearer to held-out rows"


def anonymeter(tables: Tables, ours: dict[str, float]) -> Iterator[Comparison]:
    from anonymeter.evaluators import InferenceEvaluator, LinkabilityEvaluator, SinglingOutEvaluator  # pyright: ignore[reportMissingImports]
    from anonymeter.stats.confidence import residual_success, success_rate  # pyright: ignore[reportMissingImports]

    samples, train, heldout = (frame(columns) for columns in tables)
    np.random.seed(0)  # noqa: NPY002  it draws from the global generator
    halves = (["a", "c", "e"], ["b", "d"])
    found = LinkabilityEvaluator(train, samples, halves, n_attacks=ROWS, control=heldout).evaluate(n_jobs=1)
    yield "linkability risk", max(0.0, ours["linkability risk"]), found.risk().value, "it calls a negative risk 0"
    on_train, on_heldout = [], []
    for name, of in zip("abcde", CATEGORICAL, strict=True):
        others = [other for other in "abcde" if other != name]
        evaluator = InferenceEvaluator(
            train, samples, others, name, regression=not of, n_attacks=ROWS, control=heldout
        ).evaluate(n_jobs=1)
        on_train.append(evaluator.results().n_success)
        on_heldout.append(evaluator.results().n_control)
    rates = [success_rate(ROWS, float(np.mean(counts)), 0.95) for counts in (on_train, on_heldout)]
    name = "inference risk, mean of columns"
    yield name, ours[name], residual_success(*rates).value, "it has one column at a time; the mean of its counts"
    attack = SinglingOutEvaluator(train, samples, 500, 3, heldout, max_attempts=20_000, seed=0)
    found = attack.evaluate()
    low, high = found.risk().ci
    because = (
        f"other random descriptions (its 95% interval is {low:.2f} to {high:.2f}), and it divides by the 500 that were "
        "wanted also where it found fewer"
    )
    yield "singling-out risk", ours["singling-out risk"], found.risk().value, because


def m3(samples: np.ndarray, train: np.ndarray, heldout: np.ndarray, ours: dict[str, float]) -> Iterator[Comparison]:
    from m3score.stats import memorization  # pyright: ignore[reportMissingImports]

    found = memorization(torch.from_numpy(train), torch.from_numpy(samples))[0]
    null = memorization(torch.from_numpy(train), torch.from_numpy(heldout))[0]
    because = (
        "another threshold: the median distance between training rows in place of that of the row itself; of held-out "
        f"rows it says {100 * null:.1f}, of which a reader expects 0"
    )
    yield "100 - AuthPct, %", 100 - ours["AuthPct, %"], 100 * found, because


def frame(columns: list[np.ndarray]):
    import pandas as pd

    return pd.DataFrame(
        {
            name: column.astype(str) if of else column
            for name, column, of in zip("abcde", columns, CATEGORICAL, strict=True)
        }
    )


def named(samples: torch.Tensor, train: torch.Tensor, heldout: torch.Tensor) -> dict[str, float]:
    return {m.name: m.value for m in standard_measures(samples, train, heldout, np.random.default_rng(0))}


def main() -> None:
    rows = numeric_rows()
    samples, train, heldout = rows
    arrays = samples.numpy(), train.numpy(), heldout.numpy()
    ours = named(samples, train, heldout)
    rng = np.random.default_rng(1)
    tables = table(rng), table(rng), table(rng)
    for mine, theirs in zip(tables[0], tables[1], strict=True):
        mine[:COPIES] = theirs[:COPIES]
    of_tables = {m.name: m.value for m in table_measures(*tables, CATEGORICAL, np.random.default_rng(0))}
    peers: dict[str, Callable[[], Iterator[Comparison]]] = {
        "mostlyai-qa": lambda: mostlyai(*arrays, ours),
        "syntheval": lambda: syntheval(*arrays, ours),
        "sdmetrics": lambda: sdmetrics(tables, of_tables),
        "anonymeter": lambda: anonymeter(tables, of_tables),
        "m3-score": lambda: m3(*arrays, ours),
    }
    print(f"{'measure':44} {'peer':20} {'ours':>10} {'theirs':>10} {'difference':>11}  reason")
    for peer, compare in peers.items():
        try:
            label = f"{peer} {version(peer)}"
        except PackageNotFoundError:
            print(f"{'':44} {peer:20} not installed")
            continue
        for name, mine, theirs, reason in compare():
            print(f"{name:44} {label:20} {mine:10.6g} {theirs:10.6g} {abs(mine - theirs):11.2g}  {reason}")


if __name__ == "__main__":
    main()
