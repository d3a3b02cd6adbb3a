"""GPUs by name, this machine, and the process."""

from __future__ import annotations

import pytest

from cpt.cli.estimate import bytes_of
from cpt.errors import UsageError
from cpt.estimate.device import GPUS, gpu, this_machine
from cpt.estimate.process import HEAP_HOLES, MAPPED_FROM, heap_holes, peak_resident_bytes, resident_bytes
from cpt.estimate.timeline import Block


def test_a_gpu_has_one_name_however_it_is_written() -> None:
    assert gpu("H100") is gpu(" nvidia h100 ") is GPUS["h100"]
    assert gpu("RTX 4090").memory_bytes == 24 * 10**9
    assert all(each.flops and each.source and each.is_gpu for each in GPUS.values())


def test_an_unknown_gpu_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no GPU `h1000`") as refused:
        gpu("h1000")
    assert refused.value.hint == "Did you mean `h100`?"


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
