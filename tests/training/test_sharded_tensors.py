"""Rows of sharded tensors, on the processes of a group that sends nothing."""

from __future__ import annotations

import pytest
import torch
from fake_processes import process
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

from cpt.training.distributed.tensors import Layout, first_row, put_rows, shard_like


@pytest.mark.parametrize("count", [2, 3, 4])
@pytest.mark.parametrize("rows", [1, 4, 7])
def test_every_process_overwrites_its_own_rows(count: int, rows: int) -> None:
    whole, tokens = torch.zeros(rows, 3), torch.tensor([rows - 1, 0])[:rows]
    values = torch.arange(1.0, 1 + 3 * len(tokens)).view(-1, 3)
    expected, found = whole.clone(), []
    expected[tokens] = values
    for rank in range(count):
        with process(rank, count) as mesh:
            matrix = distribute_tensor(whole.clone(), mesh, [Shard(0)], src_data_rank=None)
            assert first_row(matrix) == sum(map(len, found))
            put_rows(matrix, tokens, values)
            found.append(matrix.to_local().clone())
            put_rows(matrix, tokens, 0)
            assert not matrix.to_local().any()
    assert torch.equal(torch.cat(found), expected)


def test_state_is_sharded_by_rows_whatever_its_shape_and_a_count_is_not() -> None:
    with process(1, 2) as mesh:
        weight = distribute_tensor(torch.zeros(4, 2), mesh, [Shard(0)], src_data_rank=None)
        moment = shard_like(torch.arange(6.0).view(3, 2), weight)
        assert isinstance(moment, DTensor)
        assert moment.to_local().tolist() == [[4.0, 5.0]]
        assert shard_like(moment, weight) is moment
        assert not isinstance(shard_like(torch.tensor(3.0), weight), DTensor)
        joined = Layout.of(moment).join(moment.to_local().clone())
        assert (joined.shape, joined.placements) == (moment.shape, moment.placements)
