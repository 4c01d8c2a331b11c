"""Examples are numbers: data that require gradients are read like others, and what is kept of them carries no graph."""

import numpy as np
import torch

from diffuscope.data import fit_table, open_stream


def test_a_stream_of_a_tensor_that_requires_gradients_is_that_of_its_numbers():
    x = torch.arange(12.0).reshape(6, 2)
    batches = [open_stream(given).batches(torch.tensor([1, 4])) for given in (x, x.clone().requires_grad_())]
    plain, learned = (torch.cat(list(parts)) for parts in batches)
    assert torch.equal(plain, learned)
    assert not learned.requires_grad


def test_rows_of_a_table_that_require_gradients_are_decoded_and_read_like_others():
    table = fit_table({"size": [1.0, 2.0, 3.0, None], "color": ["red", "blue", "red", "red"]})
    rows = table.encode({"size": [2.0, 3.0], "color": ["red", "blue"]})
    leaf = rows.clone().requires_grad_()
    for column in table.columns:
        assert np.array_equal(column.values(leaf), column.values(rows))
        assert np.array_equal(column.decode(leaf), column.decode(rows))
