"""Writing, damaged inputs, parameters, and merges that stay in memory."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from merge_models import INPUT, WORDS, merge, parent, weights, write_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from cpt.errors import CannotMerge, DataError, DiskFull, StageFailed
from merging import kernels
from merging.candidates import read_candidate
from merging.kernels import CHUNK
from merging.merge import merge_into, merged_tensors, run
from merging.methods import find_method, methods
from merging.plan import plan, read_parents
from merging.request import Request
from merging.writer import CHECKSUMS

WEIGHTS = "model.safetensors"


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", seed=1)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    return write_model(tmp_path / "other", seed=2)


def ties(base: Path, other: Path, **request) -> Request:
    return Request("ties", (parent(other, 0.8, density=0.5),), parent(base), **request)


def refused(request: Request, message: str) -> str:
    with pytest.raises(CannotMerge, match=message) as raised:
        plan(request)
    assert raised.value.exit_code == 2
    return str(raised.value)


def change(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    tensors = load_file(folder / WEIGHTS)
    if tensor is None:
        del tensors[name]
    else:
        tensors[name] = tensor
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


# what is written


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
    merge("task-arithmetic", base, [parent(tmp_path / "sharded", 1.0)], tmp_path / "merged")
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


# what is not there or not whole


def test_what_stands_at_the_output_is_left_alone(base: Path, other: Path, tmp_path: Path) -> None:
    (tmp_path / "merged").mkdir()
    (tmp_path / "merged" / "mine").write_text("x")
    with pytest.raises(CannotMerge, match="exists already"):
        run(plan(ties(base, other)), tmp_path / "merged")
    assert [file.name for file in (tmp_path / "merged").iterdir()] == ["mine"]


def test_a_target_that_cannot_be_written_to_is_said(base: Path, other: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(CannotMerge, match="nothing can be written beside"):
        run(plan(ties(base, other)), tmp_path / "file" / "merged")


def test_a_disk_that_is_too_small_is_found_before(
    base: Path, other: Path, tmp_path: Path, monkeypatch
) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(DiskFull):
        run(plan(ties(base, other)), tmp_path / "merged")
    assert not list(tmp_path.glob("*merged*"))


def test_an_error_while_writing_leaves_nothing(base: Path, other: Path, tmp_path: Path, monkeypatch) -> None:
    def fail(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("merging.merge.write_checksums", fail)
    with pytest.raises(StageFailed, match="Input/output error"):
        run(plan(ties(base, other)), tmp_path / "merged")
    assert not list(tmp_path.glob("*merged*"))


def test_a_killed_merge_leaves_nothing_that_looks_whole_and_is_done_again(
    base: Path, other: Path, tmp_path: Path
) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from merging.merge import run; from merging.plan import plan; from merging.request import *\n"
        "base, other, out = map(Path, sys.argv[1:])\n"
        "request = Request('linear', (Parent('a', base), Parent('b', other)), parameters={'weight': 1.0})\n"
        "kill = lambda done, total: done * 2 > total and os.kill(os.getpid(), signal.SIGKILL)\n"
        "run(plan(request), out, progress=kill)\n"
    )
    output = tmp_path / "merged"
    command = [sys.executable, "-c", code, str(base), str(other), str(output)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert not output.exists()
    assert [path.name for path in tmp_path.glob(".*")] == [".merged.unfinished"]
    run(plan(ties(base, other)), output)
    assert not list(tmp_path.glob(".*"))
    AutoModelForCausalLM.from_pretrained(output)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_values_that_are_no_numbers_are_named_with_their_tensor(
    value: float, dtype: torch.dtype, base: Path, other: Path, tmp_path: Path
) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    tensor = weights(other)[name].to(dtype)
    tensor[3, 5] = value
    change(other, name, tensor)
    with pytest.raises(DataError, match=rf"other/model.safetensors: {name} holds NaN or infinite"):
        run(plan(ties(base, other)), tmp_path / "merged")
    assert not list(tmp_path.glob("*merged*"))


def test_a_result_that_overflows_is_refused(base: Path, other: Path, tmp_path: Path) -> None:
    request = Request(
        "linear", (parent(base, 1e9), parent(other, 1e9)), parameters={"normalize": False}, dtype="float16"
    )
    with pytest.raises(DataError, match="overflows float16"):
        run(plan(request), tmp_path / "merged")


def test_weights_that_cancel_each_other_are_refused(base: Path, other: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="division by zero"):
        run(plan(Request("linear", (parent(base, 1.0), parent(other, -1.0)))), tmp_path / "merged")


def test_a_truncated_file_is_named(base: Path, other: Path) -> None:
    content = (other / WEIGHTS).read_bytes()
    (other / WEIGHTS).write_bytes(content[:-100])
    refused(ties(base, other), r"other/model.safetensors is not a readable safetensors file")


def test_a_file_that_shrinks_meanwhile_is_named(base: Path, other: Path, tmp_path: Path) -> None:
    planned = plan(ties(base, other))
    content = (other / WEIGHTS).read_bytes()
    (other / WEIGHTS).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="the file is truncated"):
        run(planned, tmp_path / "merged")
    assert not list(tmp_path.glob("*merged*"))


def test_a_missing_tensor_and_a_missing_file_are_named(base: Path, other: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    change(other, name, None)
    refused(ties(base, other), rf"{name} is \[32, 16\] in base, missing in other")
    (other / WEIGHTS).unlink()
    (base / "config.json").unlink()
    message = refused(ties(base, other), "other.*lacks the weights")
    assert "base" in message
    assert "no config.json" in message


def test_quantised_weights_are_refused(base: Path, other: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    change(other, name, weights(other)[name].to(torch.float8_e4m3fn))
    refused(ties(base, other), f"{name} is stored as F8_E4M3")


def test_settings_that_differ_are_noted_and_the_results_are_said(base: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", 2, rms_norm_eps=1e-4)
    run(plan(ties(base, other)), tmp_path / "merged")
    assert "rms_norm_eps is 1e-06 in base, 0.0001 in other" in (tmp_path / "merged" / "README.md").read_text()


# requests


def test_everything_that_is_wrong_with_a_request_is_said_at_once(base: Path, other: Path) -> None:
    request = Request(
        "slerp",
        (parent(other, 0.5), parent(other)),
        parameters={"t": 1.5, "tt": 1},
        tokenizer="nobody",
        settings="no one",
        dtype="int8",
        compute_dtype="float8",
    )
    message = refused(request, "two models of the merge are called other")
    for part in (
        "slerp needs a base",
        "slerp takes exactly 1 models apart from the base; there are 2",
        "tokenizer: there is no model called 'nobody'",
        "settings: there is no model called 'no one'",
        "dtype is 'int8'",
        "compute_dtype is 'float8'",
        "t is 1.5; it must be a finite number between 0 and 1",
        "tt is no parameter of slerp",
        "other: weight is no parameter of slerp",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("method", "each", "shared", "message"),
    [
        ("ties", {}, {}, "weight of other is not given"),
        ("ties", {"weight": "much"}, {}, "'much', not a value of type float"),
        ("ties", {"weight": 1.0, "normalize": True}, {}, "normalize of ties is one value for all models"),
        ("ties", {"weight": 1.0, "density": 1.5}, {}, "density of other is 1.5"),
        ("ties", {"weight": [{"value": 1, "part": "x"}]}, {}, "is not {value, filter, layers}"),
        ("ties", {"weight": [{"value": 1, "layers": 3}]}, {}, "not a pair"),
        ("ties", {"weight": [{"value": 1, "filter": "mlp"}]}, {}, "weight of other is not given for model"),
        ("ties", {"weight": []}, {}, "not a list of numbers"),
        ("ties", {"weight": True}, {}, "not a value of type float"),
        ("della", {"weight": 1.0, "density": 0.9}, {}, "density 0.9 ± epsilon 0.15"),
        ("nearswap", {}, {}, "t is not given"),
        ("soup", {}, {}, "there is no merge method 'soup'"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(
    method: str, each: dict, shared: dict, message: str, base: Path, other: Path
) -> None:
    refused(Request(method, (parent(other, **each),), parent(base), shared), message)


def test_parameters_may_differ_by_layer_and_by_kind_of_weight(
    base: Path, other: Path, tmp_path: Path
) -> None:
    setting = [
        {"layers": [1, 2], "filter": "mlp", "value": 1.0},
        {"layers": [0, 1], "value": 1.0},
        {"value": 0.0},
    ]
    merge("task-arithmetic", base, [parent(other, weight=setting)], tmp_path / "merged")
    b, o, result = weights(base), weights(other), weights(tmp_path / "merged")
    for name, tensor in result.items():
        moved = "layers.0." in name or ("layers.1." in name and "mlp" in name)
        assert torch.equal(tensor, o[name] if moved else b[name]), name


def test_the_data_type_is_as_asked(base: Path, other: Path, tmp_path: Path) -> None:
    report = merge("task-arithmetic", base, [parent(other, 1.0)], tmp_path / "merged", dtype="bfloat16")
    assert report.dtype == "bfloat16"
    expected, found = weights(other), weights(tmp_path / "merged")
    assert all(torch.equal(found[name], tensor.bfloat16()) for name, tensor in expected.items())
    assert (
        str(AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype="auto").dtype) == "torch.bfloat16"
    )


def test_the_seed_decides_random_methods(base: Path, other: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    request = Request("dare-linear", (parent(other, 1.0, density=0.5),), parent(base), seed=1)
    one, again = (dict(merged_tensors(plan(request))) for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    second = dict(merged_tensors(plan(Request(request.method, request.models, request.base, seed=2))))
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one[INPUT], second[INPUT])
    name = INPUT  # a tensor alone draws as it does among the others
    assert torch.equal(next(t for t in plan(request).tensors if t.name == name).merged(), one[name])


def test_methods_are_described() -> None:
    assert len(methods()) >= 20
    for method in methods().values():
        assert method.line
        assert method.when
        assert method.reference
        assert method.line != method.title
    assert find_method("task_arithmetic") is find_method("task-arithmetic")
    density = find_method("ties").parameter("density")
    assert density is not None
    assert (density.per_model, density.low, density.high, density.default) == (True, 0.0, 1.0, 1.0)


# in memory


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
    candidates = read_parents(first)
    monkeypatch.setattr("merging.plan.read_candidate", None)
    for weight in (0.0, 1.0):
        request = Request("task-arithmetic", (parent(other, weight),), parent(base))
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
    models = (parent(other, 0.8, **each),)
    request = Request(method, models, None if method == "linear" else parent(base))
    whole = dict(merged_tensors(plan(request)))
    monkeypatch.setattr(kernels, "CHUNK", 48)
    assert CHUNK > 48
    parts = dict(merged_tensors(plan(request)))
    assert all(torch.equal(parts[name], whole[name]) for name in whole)


def test_tensors_are_read_as_stored(other: Path) -> None:
    candidate = read_candidate("other", other)
    for name, tensor in weights(other).items():
        assert torch.equal(candidate.sources[name].read(0, tensor.shape[0]), tensor)
        assert torch.equal(candidate.sources[name].read(1, 3), tensor[1:3])
