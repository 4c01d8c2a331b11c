"""The classifier behind features, of a network whose weights are written down."""

import numpy as np
import pytest
import torch
from made_by_hand import made

from diffuscope.audit.classifier import ClassifierFeatures, fit_classifier
from diffuscope.errors import InputError


@pytest.fixture
def asked(monkeypatch):
    """A network of one layer that passes on x and -x, and says the larger of four outputs or the sign of one."""
    calls = []

    class Written:
        def __init__(self, widths, **options):
            calls.append({"widths": widths, **options})

        def fit(self, rows, labels):
            calls[-1] |= {"rows": rows, "labels": labels}
            self.classes_ = np.unique(labels)
            outputs = np.eye(32)[:, : 1 if len(self.classes_) == 2 else len(self.classes_)]
            first = np.zeros((rows.shape[1], 32))
            first[0, :2] = 1.0, -1.0
            self.coefs_, self.intercepts_ = [first, outputs], [np.zeros(32), np.zeros(outputs.shape[1]) - 0.5]

    monkeypatch.setattr("sklearn.neural_network.MLPClassifier", Written)
    return calls


@pytest.mark.parametrize(("n", "rows", "epochs"), [(200, 200, 1500), (401, 401, 500), (10_001, 10_000, 30)])
def test_the_network_takes_fifteen_hundred_steps_of_two_hundred_examples(n, rows, epochs, asked):
    train, labels = torch.arange(float(n))[:, None], torch.arange(n) % 2
    found = fit_classifier(train, labels, train[:10], labels[:10])
    (call,) = asked
    assert (call["widths"], call["max_iter"], call["alpha"], call["random_state"]) == ((32,), epochs, 1.0, 0)
    assert call["rows"].shape == (rows, 1)
    assert call["rows"].std(ddof=1) == pytest.approx(1.0)
    assert call["rows"].mean() == pytest.approx(0.0, abs=1e-9)
    # the labels are those of the rows, in whatever order
    assert ((call["rows"][:, 0] * found.scale + found.mean).round() % 2 == call["labels"]).all()


def test_hidden_values_labels_and_accuracy_are_those_of_the_weights(asked):
    """Standardized, -1 and 1 have the hidden values (0, 1) and (1, 0), and the label of one output 1/2 or -1/2."""
    train = torch.tensor([[3.0], [7.0]]).repeat(50, 1)
    labels = torch.tensor([4, 9]).repeat(50)
    heldout, known = torch.tensor([[3.0], [7.0], [6.0], [5.5]]), torch.tensor([4, 9, 4, 9])
    found = fit_classifier(train, labels, heldout, known)
    assert len(asked) == 1
    s = 2 * (100 / 99) ** 0.5
    assert (found.mean, found.scale) == (5.0, pytest.approx(s))
    assert found.hidden(torch.tensor([[7.0], [2.0]]))[:, :2].tolist() == [
        pytest.approx([2 / s, 0.0]), pytest.approx([0.0, 3 / s]),
    ]  # fmt: skip
    assert found.label(torch.tensor([[7.0], [2.0], [6.0]])).tolist() == [9, 4, 4]  # 2 / s - 1/2, -1/2, 1 / s - 1/2 < 0
    assert (found.accuracy, found.heldout) == (0.75, 4)
    features = found(train)
    assert features.mean(0).abs().max() < 1e-9
    assert found.center[:2].tolist() == pytest.approx([1 / s, 1 / s])


def test_the_larger_output_is_the_label_and_of_one_output_the_sign():
    parts = {
        "mean": 0.0, "scale": 1.0, "weight": torch.eye(3).double(), "bias": torch.zeros(3).double(),
        "label_weight": torch.eye(3).double(), "label_bias": torch.tensor([0.0, 0.0, 2.5]).double(),
    }  # fmt: skip
    three = made(ClassifierFeatures, **parts, classes=torch.tensor([5, 6, 8]))
    assert three.label(torch.tensor([[1.0, 3.0, 0.0], [1.0, 2.0, 0.0], [4.0, 2.0, 1.0]])).tolist() == [6, 8, 5]
    parts |= {"label_weight": torch.ones(3, 1).double(), "label_bias": torch.tensor([-1.0]).double()}
    two = made(ClassifierFeatures, **parts, classes=torch.tensor([5, 6]))
    assert two.label(torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.5, 0.0]])).tolist() == [5, 6]


def test_labels_and_data_that_do_not_vary_are_refused():
    x, labels = torch.arange(30.0)[:, None], torch.arange(30) % 2
    for train, of_train, told in (
        (x, 0 * labels, "two different labels, got one"),
        (0 * x + 3, labels, "values that differ, got 3 everywhere"),
        (x / 0, labels, "finite values, got NaN or infinity"),
    ):
        with pytest.raises(InputError, match=told):
            fit_classifier(train, of_train, x, labels)
