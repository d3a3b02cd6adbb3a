"""What cannot be read or written is said, and leaves nothing that looks whole."""

import shutil
from pathlib import Path

import pytest
import torch
from merge_models import input_model, refused, ties, weights, write_model
from safetensors.torch import load_file, save_file

from cpt.errors import CannotMerge, DataError, DiskFull, StageFailed
from merging.plan import plan
from merging.request import MergeRequest
from merging.run import run

WEIGHTS = "model.safetensors"


def change(folder: Path, name: str, tensor: torch.Tensor | None) -> None:
    tensors = load_file(folder / WEIGHTS)
    if tensor is None:
        del tensors[name]
    else:
        tensors[name] = tensor
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


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

    monkeypatch.setattr("merging.run.write_checksums", fail)
    with pytest.raises(StageFailed, match="Input/output error"):
        run(plan(ties(base, other)), tmp_path / "merged")
    assert not list(tmp_path.glob("*merged*"))


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
    request = MergeRequest(
        "linear",
        (input_model(base, 1e9), input_model(other, 1e9)),
        parameters={"normalize": False},
        dtype="float16",
    )
    with pytest.raises(DataError, match="overflows float16"):
        run(plan(request), tmp_path / "merged")


def test_weights_that_cancel_each_other_are_refused(base: Path, other: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="division by zero"):
        run(
            plan(MergeRequest("linear", (input_model(base, 1.0), input_model(other, -1.0)))),
            tmp_path / "merged",
        )


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
    refused(ties(base, other), rf"other: .* missing from the files: {name}")
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
