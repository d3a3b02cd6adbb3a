"""A sharded model is read, written and sampled from by shard: no process has the whole model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import several
from sharded_models import LENGTH, PROMPT

from cpt.models.packed_model import load_model
from cpt.models.sampling import sample

COUNT = 3
"""Processes: no size of the tiny model is a multiple of three."""


@pytest.fixture(scope="module")
def done(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what three processes told."""
    folder = tmp_path_factory.mktemp("three")
    jobs = {
        name: {"call": f"sharded_models:{name}"} for name in ("load_and_write", "read_together", "refuse")
    }
    return several.run_in(folder, tiny_model, jobs, COUNT)


def told(done: Path, name: str) -> list[dict[str, Any]]:
    return [several.facts(done, name, rank) for rank in range(COUNT)]


def test_each_process_reads_and_holds_its_shards_alone(done: Path, tiny_model: Path) -> None:
    shapes = {name: tuple(p.shape) for name, p in load_model(tiny_model).named_parameters()}
    for what in ("read", "held"):
        found = [each[what] for each in told(done, "load_and_write")]
        for name, (rows, *rest) in shapes.items():
            sizes = [each.get(name, 0) for each in found]
            assert sum(sizes) == rows * math.prod(rest), (what, name)
            assert max(sizes) == -(-rows // COUNT) * math.prod(rest), (what, name)


@pytest.mark.parametrize(("name", "largest"), {"one": "50GB", "several": "40KB"}.items())
def test_written_bytes_are_those_of_transformers(
    done: Path, tiny_model: Path, tmp_path: Path, name: str, largest: str
) -> None:
    load_model(tiny_model).save_pretrained(tmp_path, max_shard_size=largest)
    expected = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    written = {file.name: file.read_bytes() for file in (done / "load_and_write" / name).iterdir()}
    assert written == expected


def test_one_tensor_is_gathered_at_a_time(done: Path, tiny_model: Path) -> None:
    sizes = sorted(p.numel() for p in load_model(tiny_model).parameters())
    for each in told(done, "load_and_write"):
        assert sorted(each["gathered"]) == sorted(2 * sizes)


def test_samples_are_those_of_one_process(done: Path, tiny_model: Path) -> None:
    main, *others = told(done, "read_together")
    assert main["samples"] == sample(load_model(tiny_model), 0, {1}, PROMPT, LENGTH, 17)
    assert main["none"] is None
    assert main["calls"] == 0
    assert [each["samples"] for each in others] == [None] * (COUNT - 1)


def test_all_processes_come_to_one_verdict(done: Path) -> None:
    every = told(done, "refuse")
    for each in every:
        assert each["sound"] == each["expanded"] == ""
        assert "weights that are no finite numbers: model.layers.1.mlp.up_proj.weight" in each["not finite"]
        assert "layers that add nothing change what it computes" in each["changed"]
    assert ["loss is off" in each["unfaithful"] for each in every] == [False, True, False]
    assert all(each["unfaithful"] for each in every)
