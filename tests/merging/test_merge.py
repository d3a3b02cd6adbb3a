"""What a merge writes, and merges that stay in memory."""

import hashlib
import json
import shutil
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from merge_models import INPUT, WORDS, input_model, merge, ties, weights, write_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from cpt.errors import CannotMerge
from merging import kernels
from merging.candidates import read_candidate
from merging.kernels import CHUNK
from merging.plan import plan, read_inputs
from merging.request import InputModel, MergeRequest
from merging.run import merge_into, merged_tensors, run
from merging.writer import CHECKSUMS

WEIGHTS = "model.safetensors"


def test_shards_hold_every_tensor_once_and_the_folder_loads(base: Path, other: Path, tmp_path: Path) -> None:
    whole = plan(ties(base, other))
    run(whole, tmp_path / "one")
    run(whole, tmp_path / "many", shard_bytes=5000)
    index = json.loads((tmp_path / "many" / "model.safetensors.index.json").read_text())
    files = sorted(file.name for file in (tmp_path / "many").glob("*.safetensors"))
    assert len(files) > 2
    assert files == sorted(set(index["weight_map"].values()))
    assert index["metadata"]["total_size"] == sum(t.nbytes for t in weights(tmp_path / "one").values())
    for file in files:
        names = load_file(tmp_path / "many" / file).keys()
        assert names == {name for name, holder in index["weight_map"].items() if holder == file}
    one, many = weights(tmp_path / "one"), weights(tmp_path / "many")
    assert one.keys() == many.keys()
    assert all(torch.equal(one[name], many[name]) for name in one)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "many").state_dict()
    assert torch.equal(loaded[INPUT], one[INPUT])


def test_a_sharded_parent_is_read(base: Path, other: Path, tmp_path: Path) -> None:
    AutoModelForCausalLM.from_pretrained(other).save_pretrained(tmp_path / "sharded", max_shard_size="5KB")
    shutil.copy(other / "tokenizer.json", tmp_path / "sharded")
    shutil.copy(other / "tokenizer_config.json", tmp_path / "sharded")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    merge("task-arithmetic", base, [input_model(tmp_path / "sharded", 1.0)], tmp_path / "merged")
    expected, found = weights(other), weights(tmp_path / "merged")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_checksums_are_the_files(base: Path, other: Path, tmp_path: Path) -> None:
    report = run(plan(ties(base, other)), tmp_path / "merged")
    lines = [line.split("  ") for line in (tmp_path / "merged" / CHECKSUMS).read_text().splitlines()]
    assert {name: digest for digest, name in lines} == report.checksums
    assert report.checksums.keys() == {file.name for file in (tmp_path / "merged").iterdir()} - {CHECKSUMS}
    content = (tmp_path / "merged" / WEIGHTS).read_bytes()
    assert report.checksums[WEIGHTS] == hashlib.sha256(content).hexdigest()


def test_the_card_says_how_it_was_made(base: Path, other: Path, tmp_path: Path) -> None:
    run(
        plan(ties(base, other, parameters={"normalize": False})), tmp_path / "merged", command="cpt merge a b"
    )
    card = (tmp_path / "merged" / "README.md").read_text()
    for part in (
        "| other | 0.5 | 0.8 | `fingerprint of other` |",
        "2306.01708",
        "normalize: false",
        "cpt merge a b",
    ):
        assert part in card


def test_progress_is_told_in_bytes(base: Path, other: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    run(plan(ties(base, other)), tmp_path / "merged", progress=lambda done, total: seen.append((done, total)))
    assert seen[-1][0] == seen[-1][1] == sum(t.nbytes for t in weights(tmp_path / "merged").values())
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_merge_into_a_loaded_model_is_the_one_that_is_written(
    base: Path, other: Path, tmp_path: Path
) -> None:
    planned = plan(ties(base, other))
    run(planned, tmp_path / "merged")
    model = AutoModelForCausalLM.from_pretrained(base)
    merge_into(model, planned)
    expected = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())


def test_parents_are_read_once_for_many_merges(base: Path, other: Path, monkeypatch) -> None:
    first = ties(base, other)
    candidates = read_inputs(first)
    monkeypatch.setattr("merging.plan.read_model", None)
    for weight in (0.0, 1.0):
        request = MergeRequest("task-arithmetic", (input_model(other, weight),), input_model(base))
        found = dict(merged_tensors(plan(request, candidates)))
        assert torch.equal(found[INPUT], weights(other if weight else base)[INPUT])


def test_a_model_with_another_vocabulary_cannot_be_merged_into(base: Path, tmp_path: Path) -> None:
    larger = write_model(tmp_path / "larger", 2, words=(*WORDS, "tort"))
    planned = plan(ties(base, larger))
    with pytest.raises(CannotMerge, match=rf"no parameter for {INPUT} of shape \[7, 16\]"):
        merge_into(AutoModelForCausalLM.from_pretrained(base), planned)


@pytest.mark.parametrize("method", ["ties", "breadcrumbs", "task-arithmetic", "linear"])
def test_the_size_of_chunks_does_not_matter(method: str, base: Path, other: Path, monkeypatch) -> None:
    each = {"density": 0.4} if method in ("ties", "breadcrumbs") else {}
    models = (input_model(other, 0.8, **each),)
    request = MergeRequest(method, models, None if method == "linear" else input_model(base))
    whole = dict(merged_tensors(plan(request)))
    monkeypatch.setattr(kernels, "CHUNK", 48)
    assert CHUNK > 48
    parts = dict(merged_tensors(plan(request)))
    assert all(torch.equal(parts[name], whole[name]) for name in whole)


def test_chunks_worked_on_side_by_side_keep_their_order_and_leave_threads_as_they_were(
    base: Path, other: Path, monkeypatch
) -> None:
    request = MergeRequest("task-arithmetic", (input_model(other, 0.8),), input_model(base))
    whole = dict(merged_tensors(plan(request)))
    monkeypatch.setattr(kernels, "CHUNK", 48)
    threads, seen, met, meetings = torch.get_num_threads(), set(), threading.Barrier(2), []
    apply = kernels._apply

    def noting(*given: Any) -> torch.Tensor:
        if threading.current_thread() is not threading.main_thread():
            seen.add(torch.get_num_threads())
            with suppress(threading.BrokenBarrierError):
                meetings.append(met.wait(timeout=60))
                met.abort()
        return apply(*given)

    monkeypatch.setattr(kernels, "_apply", noting)
    torch.set_num_threads(3)
    try:
        parts = dict(merged_tensors(plan(request)))
        assert torch.get_num_threads() == 3
        first = next(tensor for tensor in plan(request).tensors if len(tensor.shape) == 2).chunks()
        next(first)
        first.close()
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(parts[name], whole[name]) for name in whole)
    assert seen == {1}
    assert meetings


def test_tensors_are_read_as_stored(other: Path) -> None:
    candidate = read_candidate("other", other)
    for name, tensor in weights(other).items():
        assert torch.equal(candidate.sources[name].read(0, tensor.shape[0]), tensor)
        assert torch.equal(candidate.sources[name].read(1, 3), tensor[1:3])


def test_folders_may_be_given_as_text(base: Path, other: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    request = MergeRequest(
        "task-arithmetic",
        (InputModel("other", "other", parameters={"weight": 1.0}),),
        InputModel("b", "base"),
    )
    run(plan(request), "merged")
    found, expected = weights(tmp_path / "merged"), weights(other)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
