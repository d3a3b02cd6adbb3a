import numpy as np
import pytest
import torch

from cpt.models.batch import IGNORED, pack
from cpt.models.packed_model import PackedLanguageModel


def test_learned_positions_are_those_with_a_label() -> None:
    batch = pack([np.arange(4), np.array([9]), np.arange(3)])
    assert (
        batch.learned.tolist() == (batch.labels != IGNORED).nonzero().squeeze(1).tolist() == [0, 1, 2, 5, 6]
    )
    assert batch.targets == 5
    assert batch.layout.boundaries.tolist() == [0, 4, 5, 8]


def test_moving_a_batch_moves_all_of_it() -> None:
    moved = pack([np.arange(4), np.arange(3)]).to("meta")
    tensors = [moved.input_ids, moved.position_ids, moved.labels, moved.learned, moved.layout.boundaries]
    assert {tensor.device.type for tensor in tensors} == {"meta"}
    assert (moved.tokens, moved.targets, moved.layout.lengths) == (7, 5, (4, 3))


@pytest.mark.parametrize("lengths", [[5, 3, 1], [1]])
def test_forward_never_asks_the_device_for_a_number(lengths: list[int], monkeypatch) -> None:
    """What would make the host wait for a GPU: sizes that depend on values, and values themselves."""
    from test_attention import documents, tiny

    model = PackedLanguageModel(tiny())
    batch = pack(documents(lengths))
    model(batch)  # lays the documents out, on the host

    def refuse(*args, **kwargs):
        raise AssertionError("the host waits for the device")

    for name in ("nonzero", "item", "tolist", "__bool__", "__int__", "__float__"):
        monkeypatch.setattr(torch.Tensor, name, refuse)
    nats = model(batch)
    (nats / batch.targets if batch.targets else nats).backward()
