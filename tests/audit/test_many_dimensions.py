"""Beyond the dimensions in which a covariance is formed, the audit says what it says below, and less where it must.

The limit is lowered to few dimensions, in which the dense answers are known.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from made_by_hand import other_tools_are_quick  # noqa: F401
from sklearn.cluster import MiniBatchKMeans

from audit_subjects import SMALL, asked, digits, exact_subject, measured
from diffuscope.audit import Subject, audit_model, data_gaussian, references, rows_of, whitening
from diffuscope.audit.alignment import Alignment
from diffuscope.audit.cluster_features import fit_cluster_features
from diffuscope.audit.copy_search import copies
from diffuscope.audit.data_gaussian import fit_gaussian
from diffuscope.audit.ends import matched_start
from diffuscope.audit.nearness import kmeans
from diffuscope.audit.questions.learned import findings
from diffuscope.audit.references import fit_references
from diffuscope.audit.transformations import averaged_shape, transformations
from diffuscope.audit.unexplained_variance import explained
from diffuscope.audit.wide_rows import Span
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical, Gaussian, GaussianMixture, _clusters
from diffuscope.schedules import VE
from numbers_in_tests import seeded

LEVELS = (0.05, 0.3, 1.0, 5.0)


@pytest.fixture
def low_limit(monkeypatch):
    """No D x D matrix beyond 16 dimensions; 20 components of the 64 of digits."""
    for module in (data_gaussian, references, _clusters):
        monkeypatch.setattr(module, "LARGEST_DENSE", 16)
    monkeypatch.setattr(data_gaussian, "PAIRS", 20)


@pytest.mark.usefixtures("low_limit")
def test_the_gaussian_of_data_of_low_rank_is_exact():
    """Rank 12 within the probe: the same Gaussian as the dense one, to rounding."""
    x = (torch.randn(300, 12, generator=seeded()).double() @ torch.randn(12, 64, generator=seeded(1)).double()).float()
    gaussian, truncation = fit_gaussian(x, seeded(2))
    dense = Gaussian.fit([x])
    assert truncation is not None
    assert truncation.pairs == 20
    assert truncation.share == pytest.approx(1, abs=1e-10)
    assert gaussian.trace == pytest.approx(dense.trace, rel=1e-12)
    torch.testing.assert_close(gaussian.variances, dense.variances, rtol=0, atol=1e-9 * dense.trace)
    for sigma in LEVELS:
        noised = x[:50].double() + sigma * torch.randn(50, 64, generator=seeded(3)).double()
        expected = dense.denoise(noised, 1.0, sigma)
        torch.testing.assert_close(gaussian.denoise(noised, 1.0, sigma), expected, rtol=0, atol=1e-7)


@pytest.mark.usefixtures("low_limit")
def test_few_examples_have_their_whole_covariance_in_any_dimension():
    x = torch.randn(15, 64, generator=seeded())
    gaussian, truncation = fit_gaussian(x, seeded(2))
    assert truncation is None
    torch.testing.assert_close(gaussian.variances, Gaussian.fit([x]).variances, rtol=0, atol=1e-9)


@pytest.mark.usefixtures("low_limit")
def test_the_truncated_gaussian_has_the_trace_and_no_eigenvalue_too_large():
    """Nystrom's eigenvalues are at most the true ones; of digits, whose spectrum decays, the first half is within 1%.

    At every noise level the error of its denoiser is at least that of the whole covariance.
    """
    x = digits()[:600]
    gaussian, truncation = fit_gaussian(x, seeded(2))
    dense = Gaussian.fit([x])
    assert truncation is not None
    assert (truncation.pairs, truncation.dimension, truncation.examples) == (20, 64, 600)
    assert truncation.share == pytest.approx(float(gaussian.eigenvalues.sum()) / dense.trace, rel=1e-9)
    assert gaussian.trace == pytest.approx(dense.trace, rel=1e-10)
    missing = 1 - gaussian.eigenvalues / dense.eigenvalues[:20]
    assert float(missing.min()) > -1e-10
    assert float(missing[:10].max()) < 0.01
    assert float(missing[: truncation.converged].max()) < 0.01
    for rho in LEVELS:
        errors = [float((v * rho**2 / (v + rho**2)).sum()) for v in (gaussian.variances, dense.variances)]
        assert errors[0] >= errors[1]


@pytest.mark.usefixtures("low_limit")
def test_a_fit_to_some_of_the_examples_says_so(monkeypatch):
    monkeypatch.setattr(data_gaussian, "EXAMPLE_NUMBERS", 64 * 200)
    fitted = fit_gaussian(digits()[:600], seeded(2))
    assert fitted[1] is not None
    assert fitted[1].examples == fitted[0].count == 200
    assert "200 examples" in str(fitted[1])


@pytest.mark.parametrize("fit", [GaussianMixture.fit_kmeans, GaussianMixture.fit_em])
def test_mixtures_of_low_rank_are_those_of_dense_covariances(fit, monkeypatch):
    """Three clusters, each in a plane of its own: rank 2 leaves nothing, and the probe finds it."""
    planes = torch.randn(3, 2, 30, generator=seeded()).double()
    x = torch.cat([10 * k + torch.randn(60, 2, generator=seeded(k)).double() @ planes[k] for k in range(3)])
    dense = fit(x, 3, rank=2, ridge=1e-3, generator=seeded(5))
    monkeypatch.setattr(_clusters, "LARGEST_DENSE", 16)
    probed = fit(x, 3, rank=2, ridge=1e-3, generator=seeded(5))
    torch.testing.assert_close(probed.weights, dense.weights)
    torch.testing.assert_close(probed.eigenvalues, dense.eigenvalues, rtol=1e-8, atol=0)
    torch.testing.assert_close(probed.tail_variances, dense.tail_variances, rtol=1e-6, atol=0)
    noised = x[::7] + torch.randn(x[::7].shape, generator=seeded(9)).double()
    torch.testing.assert_close(probed.denoise(noised, 1.0, 1.0), dense.denoise(noised, 1.0, 1.0), rtol=0, atol=1e-7)


def test_examples_of_negative_labels_are_in_no_component():
    x = torch.tensor([[0.0], [2.0], [100.0], [7.0]])
    fit = GaussianMixture.fit_clusters(x, torch.tensor([0, 0, -1, 1]), ridge=0.5, generator=seeded())
    assert fit.weights.tolist() == pytest.approx([2 / 3, 1 / 3])
    assert fit.means.flatten().tolist() == [1, 7]
    assert fit.eigenvalues.flatten().tolist() == pytest.approx([1.5, 0.5])


def test_rows_made_as_they_are_read_have_the_same_neighbors(monkeypatch):
    """Ties and duplicates too: the least index comes first. Of every fourth example, and of all."""
    points = torch.randint(0, 3, (200, 4), generator=seeded()).float()
    queries = torch.randint(0, 3, (30, 4), generator=seeded(1)).float()
    twice = lambda x: 2 * x.flatten(1)  # noqa: E731
    index = torch.arange(0, 200, 4)
    expected = [rows_of.nearest_rows(2 * queries, twice(x), 7) for x in (points, points[index])]
    monkeypatch.setattr(rows_of, "AT_ONCE", 16 * 9)  # nine rows
    made = [rows_of.rows_of(points, twice), rows_of.rows_of(points, twice, index)]
    for rows, (distances, places) in zip(made, expected, strict=True):
        assert isinstance(rows, rows_of.RowsOf)
        found = rows_of.nearest_rows(2 * queries, rows, 7)
        assert torch.equal(found[0], distances)
        assert torch.equal(found[1], places)
    part = rows_of.part_of(made[1], torch.tensor([3, 1]))
    assert torch.equal(torch.cat([*part.split(1)]), 2 * points[[12, 4]])
    assert torch.equal(part[torch.tensor([[1], [0]])], 2 * points[[4, 12]][:, None])


def test_the_same_copies_are_found_where_rows_are_made_as_they_are_read(monkeypatch):
    """Samples of which eight are copies and mirror images of them: the same list, to the last digit."""
    x = digits()
    samples = torch.cat([x[600:640], x[:4], x[4:8].flip(3)])
    chosen = transformations(("mirror", "shift", "brightness"), (1, 8, 8))

    def listed():
        return copies(samples, x[:300], x[300:600], calibration=300, rate=0.05, seed=0, chosen=chosen)

    whole = listed()
    monkeypatch.setattr(rows_of, "AT_ONCE", 4 * 64 * 70)  # 70 digits
    parts = listed()
    assert set(np.flatnonzero(whole.listed)) == {*range(40, 48)}
    for name in ("p_values", "nearest_training", "nearest_heldout", "distance", "null_distance"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-6, atol=1e-7)
    assert parts.transformation == whole.transformation
    assert parts.repeats.first.tolist() == whole.repeats.first.tolist()


def test_large_images_are_searched_for_copies_as_averages(monkeypatch):
    """Of 16 x 16 pixels, blocks of 2 x 2: a copy moved by two pixels is one moved by one."""
    large = digits()[:400].repeat_interleave(2, 2).repeat_interleave(2, 3)
    large += 0.05 * torch.randn(large.shape, generator=seeded())
    monkeypatch.setattr("diffuscope.audit.transformations.LARGEST", 100)
    monkeypatch.setattr("diffuscope.audit.transformations.SIDE", 8)
    chosen = transformations(("shift",), averaged_shape((1, 16, 16)))
    assert averaged_shape((1, 16, 16)) == (1, 8, 8)
    aligned, names, _ = Alignment(large[:200], chosen)(large[:5].roll(2, 3))
    assert aligned.shape == (5, 1, 8, 8)
    assert names == ["shifted by (0, -1)"] * 5
    moved = torch.nn.functional.avg_pool2d(large[:5], 2)[..., 1:7]  # what no border was repeated in
    torch.testing.assert_close(aligned[..., 1:7], moved, rtol=0, atol=1e-6)


def test_the_same_copies_are_found_where_the_queries_too_are_made_as_they_are_read(monkeypatch):
    """Without transformations rows are whole examples. Seventy are held at once; planted sets are searched alone."""
    x = digits()
    samples = torch.cat([x[600:640], x[:8]])

    def listed():
        return copies(samples, x[:300], x[300:600], calibration=300, rate=0.05, seed=0, features=rows_of.flat)

    whole = listed()
    monkeypatch.setattr(rows_of, "AT_ONCE", 4 * 64 * 70)
    parts = listed()
    assert set(np.flatnonzero(whole.listed)) == {*range(40, 48)}
    for name in ("p_values", "nearest_training", "nearest_heldout", "distance", "null_distance"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    assert parts.detectable == whole.detectable


def test_few_numbers_of_large_examples_are_made_part_by_part(monkeypatch):
    x = torch.randn(50, 4, 4, generator=seeded())
    monkeypatch.setattr(rows_of, "AT_ONCE", 4 * 16 * 7)
    index = torch.arange(49, -1, -1)
    made = rows_of.rows_of(x, lambda part: part.mean(2), index)
    assert isinstance(made, torch.Tensor)
    assert torch.equal(made, x.mean(2).flip(0))


def test_few_wide_rows_are_clustered_as_in_their_span():
    """Four groups in 2,000 dimensions; and the partition of rows without groups, which depends on distances alone."""
    centers = torch.randn(4, 2000, generator=seeded())
    groups = torch.arange(60) % 4
    rows = centers[groups] + 0.3 * torch.randn(60, 2000, generator=seeded(1)) + 5
    cluster = kmeans(rows, 4, 0)
    found = cluster(rows)
    assert len({*zip(found.tolist(), groups.tolist(), strict=True)}) == 4
    fresh = centers[groups] + 0.3 * torch.randn(60, 2000, generator=seeded(2)) + 5
    assert cluster(fresh).tolist() == found.tolist()
    alike = torch.randn(60, 2000, generator=seeded(3))
    known = MiniBatchKMeans(5, n_init="auto", random_state=0).fit(alike.numpy()).labels_
    assert kmeans(alike, 5, 0)(alike).tolist() == known.tolist()
    assert set(kmeans(torch.ones(9, 100), 1, 0)(torch.ones(3, 100))) == {0}  # rows that are all the same


def test_the_coordinates_of_a_span_keep_distances_and_lead_back():
    rows = torch.randn(7, 9000, generator=seeded(), dtype=torch.float64) + 3
    span = Span.of(rows)
    assert span.coordinates.shape == (7, 6)
    torch.testing.assert_close(torch.cdist(span.coordinates, span.coordinates), torch.cdist(rows, rows))
    torch.testing.assert_close(span.points(span.coordinates[:3]), rows[:3])
    torch.testing.assert_close(span.points(span.coordinates.mean(0, keepdim=True)), rows.mean(0, keepdim=True))


@pytest.fixture(scope="module")
def split():
    x = digits()
    return x[:800], x[800:1600]


@pytest.mark.usefixtures("low_limit")
def test_a_better_denoiser_than_the_truncated_gaussian_is_not_called_wrong(split):
    """The exact denoiser of the whole covariance, of which the truncated Gaussian lacks two thirds of the components.

    What the reference cannot explain is put down to the reference: every finding has the tone that it has against the
    whole covariance, and the text says what is missing.
    """
    train, heldout = split
    subject = exact_subject(Gaussian.fit([train]), train, heldout)
    with asked("wiring", "memorized", "learned", "loss"):
        found = audit_model(subject, SMALL)
    assert not [f.name for group in found.findings.values() for f in group if f.tone in ("alarm", "attention")]
    text = found["learned"].text
    assert "20 leading principal components of 800 examples" in text
    assert "mean and covariance may explain" in text
    assert (
        "a Gaussian of 20 principal components, with one variance for the rest" in found["learned"].findings[0].verdict
    )


@pytest.mark.slow
@pytest.mark.parametrize("copying", [False, True])
def test_verdicts_are_those_of_the_whole_covariance(split, monkeypatch, copying):
    """A smooth model is not called memorizing and one that copies the training examples is, whatever the limit."""
    train, heldout = split
    distribution = Empirical(train) if copying else Gaussian.fit([train]).truncate(12)
    tones = []
    for limit in (4096, 16):
        for module in (data_gaussian, references, _clusters):
            monkeypatch.setattr(module, "LARGEST_DENSE", limit)
        monkeypatch.setattr(data_gaussian, "PAIRS", 20)
        with asked("wiring", "memorized", "learned", "loss", "generalizes"):
            result = audit_model(exact_subject(distribution, train, heldout), SMALL)
        tones.append({f.name: f.tone for group in result.findings.values() for f in group})
    assert tones[0] == tones[1]
    assert tones[0]["memorized.verdict"] == ("alarm" if copying else "good")


@pytest.mark.usefixtures("low_limit")
def test_what_a_truncated_gaussian_lacks_is_a_band_of_its_own(split):
    """Bands add up to the whole: 1, 2-3, ..., 16-20 and 21-64; the Gaussian itself leaves nothing in any."""
    train, heldout = split
    fitted = fit_references(train, heldout, 3, seeded())
    subject = Subject(ExactDenoiser(fitted.gaussian, VE()), train, heldout)
    noise = torch.randn(heldout[:50].shape, generator=seeded(1))
    measures = measured(subject, fitted, 5, train[:50], heldout[:50], noise, heldout[50:60])
    result = explained(replace(measures, components=fitted.components), np.random.default_rng(0))
    assert result.bands == ("1", "2-3", "4-7", "8-15", "16-20", "21-64")
    column = result.models.index("Gaussian")
    assert float(np.nanmax(result.unexplained_bands[:, column])) < 1e-5
    isotropic = result.models.index("isotropic")
    assert float(np.nanmin(result.unexplained_bands[:-1, isotropic, -1])) > 1e-2  # at the lowest noise any model fits
    assert findings(result, fitted.truncation)[0].null == str(fitted.truncation)


def test_the_matched_start_has_the_covariance_of_noised_data_beside_the_components_too():
    """Of unit vectors: rows M with M^T M = alpha^2 Sigma + sigma^2, Sigma with a tail."""
    basis = torch.linalg.qr(torch.randn(6, 2, generator=seeded()).double()).Q
    gaussian = Gaussian(torch.zeros(6), basis, torch.tensor([4.0, 2.0]), 0.5)
    rows = matched_start(gaussian, 0.8, 1.5, torch.eye(6, dtype=torch.float64))
    sigma = 4 * basis[:, :1] @ basis[:, :1].T + 2 * basis[:, 1:] @ basis[:, 1:].T
    sigma += 0.5 * (torch.eye(6) - basis @ basis.T)
    torch.testing.assert_close(rows.T @ rows, 0.64 * sigma + 2.25 * torch.eye(6).double(), rtol=0, atol=1e-12)


def test_wide_features_are_whitened_without_a_matrix_of_all_pairs(monkeypatch):
    """Rows of rank 5 in 40 features: the leading three directions as by the whole covariance, up to sign."""
    rows = torch.randn(100, 5, generator=seeded()).double() @ torch.randn(5, 40, generator=seeded(1)).double()
    expected = whitening.whitening(rows, 3)
    monkeypatch.setattr(whitening, "LARGEST_DENSE", 16)
    torch.testing.assert_close(whitening.whitening(rows, 3).abs(), expected.abs(), rtol=1e-7, atol=1e-9)


@pytest.mark.usefixtures("low_limit")
def test_distances_to_clusters_see_what_the_components_do_not():
    """Moved at right angles to all components by 10 deviations, an example is farther from every cluster."""
    x = digits()[:300]
    gaussian, _ = fit_gaussian(x, seeded())
    features = fit_cluster_features(x, gaussian, 0)
    away = torch.randn(64, generator=seeded(1)).double()
    away -= gaussian.eigenvectors @ (gaussian.eigenvectors.T @ away)
    moved = x[:5] + (10 * (gaussian.trace / 64) ** 0.5 * away / away.norm()).float().reshape(1, 8, 8)
    assert bool((features.hidden(moved) > features.hidden(x[:5])).all())


def smooth_pictures(n: int) -> torch.Tensor:
    """3 x 64 x 64 numbers of 108 directions and a little noise."""
    smooth = torch.randn(n, 3, 6, 6, generator=seeded()) @ torch.diag(torch.tensor([3.0, 2, 1, 0.5, 0.3, 0.2]))
    x = torch.nn.functional.interpolate(smooth, size=(64, 64), mode="bilinear")
    return x + 0.01 * torch.randn(x.shape, generator=seeded(1))


@pytest.mark.slow
def test_a_model_that_copies_is_found_in_12288_dimensions():
    """The empirical distribution of 60 images as the model: its samples are these, and planted copies are found."""
    x = smooth_pictures(160)
    settings = replace(
        SMALL, levels=4, points=12, trajectories=8, generated=24, components=2, transformations=("mirror", "brightness")
    )
    with asked("memorized"):
        result = audit_model(Subject(ExactDenoiser(Empirical(x[:60]), VE()), x[:60], x[60:]), settings)
    assert result.verdict.word == "copies"
    found = result["memorized"].result.copies["pixels"]
    assert found.listed.mean() > 0.9
    assert found.detectable["exact"] < 0.5  # of 24 samples


@pytest.mark.slow
def test_every_question_is_answered_in_12288_dimensions(monkeypatch):
    """60 smooth images of 3 x 64 x 64 and a Gaussian of 20 components, without a D x D matrix of 1.2 GB."""
    monkeypatch.setattr(data_gaussian, "PAIRS", 20)
    x = smooth_pictures(110)
    model = ExactDenoiser(Gaussian.isotropic(x.mean(0), 1.0), VE())
    settings = replace(
        SMALL,
        levels=4,
        points=12,
        trajectories=8,
        generated=24,
        components=2,
        references=24,
        diagnostics=True,
        transformations=("mirror", "brightness"),
    )
    result = audit_model(Subject(model, x[:60], x[60:]), settings)
    assert {"wiring", "memorized", "learned", "loss", "steps", "order", "quality", "diversity", "diagnostics"} <= set(
        result.findings
    )
    assert all(answer.findings for answer in result.answers.values())
    assert result["diagnostics"].findings[1].value == pytest.approx(0, abs=1e-3)  # curl, %: it is a gradient
    said = "In 12,288 dimensions the Gaussian has the 20 leading principal components of 60 examples"
    assert said in result["learned"].text
    assert said in result["quality"].method
