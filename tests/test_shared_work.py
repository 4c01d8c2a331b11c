"""What one process computes for the others."""

import numpy as np
import torch

from diffuscope.shared_work import _array, shared_tensors


def test_a_piece_is_sent_as_numbers_though_it_carries_a_graph():
    weight = torch.tensor([1.0, 2.0], requires_grad=True)
    sent = _array(lambda: 3 * weight)
    assert np.array_equal(sent["array"], [3.0, 6.0])


def test_one_process_alone_computes_every_piece_itself_and_in_order():
    pieces = [lambda k=k: torch.full((k,), float(k)) for k in (1, 2)]
    assert [part.tolist() for part in shared_tensors(pieces, torch.device("cpu"))] == [[1.0], [2.0, 2.0]]
