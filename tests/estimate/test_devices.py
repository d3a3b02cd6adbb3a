"""GPUs by name, this machine, and the process."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from cpt.cli.estimate import bytes_of
from cpt.errors import UsageError
from cpt.estimate.allocations import Block
from cpt.estimate.devices import (
    GPUS,
    HEAP_HOLES,
    MAPPED_FROM,
    available_bytes,
    container_limit,
    gpu,
    heap_holes,
    known_gpu,
    main_memory,
    peak_resident_bytes,
    resident_bytes,
    this_machine,
)
from cpt.training.distributed.environment import Hardware


def test_a_gpu_has_one_name_however_it_is_written() -> None:
    assert gpu("H100") is gpu(" nvidia h100 ") is GPUS["h100"]
    assert gpu("RTX 4090").memory_bytes == 24 * 10**9
    assert all(each.float32_flops and each.source and each.is_gpu for each in GPUS.values())


def test_an_unknown_gpu_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no GPU `h1000`") as refused:
        gpu("h1000")
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("Did you mean `h100`? Known are `b200`, `h200`")


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("a100_80gb", "a100"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("rtx4090", "rtx-4090"),
        ("4090", "rtx-4090"),
        ("Tesla V100-SXM2-32GB", "v100-32gb"),
        ("NVIDIA H100 NVL", None),
        ("RTX 4090 Laptop GPU", None),
        ("pcie", None),
        ("", None),
    ],
)
def test_full_names_are_known_and_what_is_another_gpu_is_not(name: str, known: str | None) -> None:
    found = known_gpu(name)
    assert (found and found.name) == known


def test_the_peak_is_that_of_the_runs_precision() -> None:
    half, full = torch.bfloat16, torch.float32
    assert (gpu("h100").peak(half), gpu("h100").peak(full)) == (989e12, 67e12)
    assert gpu("t4").peak(half) == gpu("t4").peak(full) == 8.1e12


def test_a_gpu_here_is_found_in_the_table(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Hardware("NVIDIA A100-SXM4-40GB", is_gpu=True, bfloat16=True, capability=(8, 0), is_here=True)
    monkeypatch.setattr("cpt.estimate.devices.this_hardware", lambda: here)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=42))
    found = this_machine()
    assert (found.memory_bytes, found.flops, found.hardware) == (42, 312e12, here)


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("group", "files", "limit"),
    [
        ("0::/job/step", {"job__memory_dot_max": "900\n", "job__step__memory_dot_max": "max\n"}, 900),
        ("0::/job", {"memory_dot_max": "500\n"}, 500),
        ("0::/job", {"job__memory_dot_max": "max\n"}, None),
        ("3:cpu:/x\n4:memory:/a", {"memory__memory_dot_limit_in_bytes": "700\n"}, 700),
        ("3:cpu:/x", {"memory__memory_dot_limit_in_bytes": "700\n"}, None),
    ],
)
def test_a_containers_limit_is_the_least_of_its_groups(
    tmp_path: Path, group: str, files: dict[str, str], limit: int | None
) -> None:
    listed = tmp_path / "cgroup"
    listed.write_text(group + "\n")
    assert container_limit(listed, written(tmp_path / "mounted", **files)) == limit
    assert container_limit(tmp_path / "none", tmp_path) is None


def test_this_machines_memory_is_what_its_container_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpt.estimate.devices.container_limit", lambda: 10**6)
    assert main_memory() == 10**6
    monkeypatch.setattr("cpt.estimate.devices.container_limit", lambda: 2**62)
    assert main_memory() < 2**62
    monkeypatch.setattr("cpt.estimate.devices.container_limit", lambda: resident_bytes() + 10**6)
    assert 0 < (available_bytes() or 1) <= 10**7


def test_this_machine_has_memory() -> None:
    assert this_machine().memory_bytes > peak_resident_bytes() >= resident_bytes() > 10**7


def test_only_small_activations_leave_holes(monkeypatch: pytest.MonkeyPatch) -> None:
    held = [Block(1000, "activations", 1), Block(MAPPED_FROM, "activations", 2), Block(500, "gradients", 3)]
    monkeypatch.setattr("platform.libc_ver", lambda: ("glibc", "2.36"))
    assert heap_holes(held) == round(HEAP_HOLES * 1000)
    monkeypatch.setattr("platform.libc_ver", lambda: ("", ""))
    assert heap_holes(held) == 0


@pytest.mark.parametrize(
    ("text", "size"),
    [("80GB", 80e9), ("24GiB", 24 * 2**30), (" 1.5 tb ", 1.5e12), ("1000", 1000), ("512M", 512e6)],
)
def test_sizes(text: str, size: float) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "much", "0GB", "-3GB", "80XB", "GB", "1.2.3GB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        bytes_of(text)
