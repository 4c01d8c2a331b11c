"""Agreement with the programs that define the names, where installed (`benchmarks/standard_names.py` has more)."""

import numpy as np
import pytest
import torch

from diffuscope.audit import table_attacks
from diffuscope.audit.standard_names import standard_measures


@pytest.fixture
def rows():
    """Samples, a fifth of them copies, training and held-out rows, equally many of each, and our values."""
    rng = np.random.default_rng(0)
    samples, train, heldout = (rng.normal(size=(150, 5)) for _ in range(3))
    samples[:30] = train[:30]
    s, t, h = map(torch.from_numpy, (samples, train, heldout))
    ours = {m.name: m.value for m in standard_measures(s, t, h, rng)}
    return samples, train, heldout, ours


def test_risks_and_their_errors_are_anonymeters():
    peer = pytest.importorskip("anonymeter.stats.confidence")
    for k, n, j, m in ((30, 200, 11, 150), (0, 50, 0, 50), (50, 50, 3, 70)):
        expected = peer.residual_success(peer.success_rate(n, k, 0.95), peer.success_rate(m, j, 0.95))
        counts = float(k), float(n), float(j), float(m)
        assert float(table_attacks._excess(*counts)) == pytest.approx(expected.value, abs=1e-12)
        assert table_attacks._error(*counts) == pytest.approx(expected.error, abs=1e-12)


def test_nnaa_and_its_privacy_loss_are_synthevals(rows):
    module = pytest.importorskip("syntheval.metrics.privacy.metric_nn_adversarial_accuracy")
    pandas = pytest.importorskip("pandas")
    samples, train, heldout, ours = rows
    frames = [pandas.DataFrame(part, columns=list("abcde")) for part in (train, samples, heldout)]
    found = module.NearestNeighbourAdversarialAccuracy(
        *frames, cat_cols=[], num_cols=list("abcde"), nn_dist="euclid", do_preprocessing=False
    ).evaluate()
    assert ours["NNAA"] == pytest.approx(found["avg"], abs=1e-12)
    assert ours["NNAA privacy loss"] == pytest.approx(found["priv_loss"], abs=1e-12)


def test_ims_dcr_nndr_and_dcr_share_are_mostlyais(rows):
    peer = pytest.importorskip("mostlyai.qa._distances")
    samples, train, heldout, ours = rows
    dcr, nndr = peer.calculate_dcrs_nndrs(train, samples)
    to_heldout = peer.calculate_dcrs_nndrs(heldout, samples)[0]
    assert ours["IMS, %"] == pytest.approx(100 * peer.calculate_ims(dcr))
    assert ours["DCR, median"] == pytest.approx(np.median(dcr), abs=1e-6)
    assert ours["NNDR, median"] == pytest.approx(np.median(nndr), abs=1e-6)  # it adds 1e-8 to both distances
    assert ours["DCR share"] == pytest.approx(peer.calculate_dcr_share(dcr, to_heldout))
