"""The check of a GPU: its parts fail alone, and its table says why."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RESULT = {
    "seconds": [9.0, 5.0, 2.0, 2.0],
    "tokens_per_step": 100.0,
    "gpu": "NVIDIA H100 80GB HBM3",
    "product_flops": 1.0,
    "peak_bytes": 3_000_000_000,
    "peak_gpu_bytes": 2_500_000_000,
}
SCRIPTS = {
    "works": f"import json, sys; json.dump({RESULT}, open(sys.argv[2], 'w'))",
    "fails": "raise ValueError('out of luck')",
}


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, as a module."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), str(BENCHMARKS / "contenders"), *sys.path])
    import gpu_check

    return gpu_check


def test_a_part_that_fails_or_takes_too_long_leaves_the_others_alone(
    check: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    parts = []
    for name, text in SCRIPTS.items():
        (tmp_path / name).write_text(text)
        parts.append(check.Part(name, str(tmp_path / name), {}, check.speed))
    parts.append(check.Part("absent", "", {}, check.speed, "it is not installed"))
    monkeypatch.setattr(check, "parts", lambda _: parts)
    works, fails, absent = check.lines(True, time.monotonic() + 100)
    assert works["tokens/s"] == 50.0, "the first two steps warm up"
    per_token = 6 * check.shapes.parameters("tiny") + 12 * 2 * 64 * 128
    assert works["MFU"] == pytest.approx(50 * per_token / 989e12)
    assert works["peak GB"] == 2.5
    assert fails["note"] == "failed: ValueError: out of luck"
    assert absent["note"] == "skipped: it is not installed"
    notes = [each["note"] for each in check.lines(True, time.monotonic())]
    assert notes[:2] == ["skipped: no time is left"] * 2
    (tmp_path / "works").write_text("import time; time.sleep(60)")
    job = check.job_of(True, tmp_path)
    assert check.outcome(parts[0], job, 0.1) == {"note": "not done within 0 s"}
    lines = check.table([works, fails]).splitlines()
    assert lines[0] == "| | tokens/s | MFU | peak GB | note |"
    assert lines[2:] == [
        "| works | 50 | 0.0% | 2.50 |  |",
        "| fails |  |  |  | failed: ValueError: out of luck |",
    ]


def test_lines_say_what_was_measured(check: ModuleType) -> None:
    said = check.memory({"measured": 2e9, "estimated": 2.1e9}, None)
    assert said == {"peak GB": 2.0, "note": "estimate 2.10 GB, 105%"}
    assert check.resumed({"differing": 0}, None)["note"] == "the same weights to the bit"
    assert check.resumed({"differing": 3}, None)["note"] == "3 tensors differ"


def test_weights_are_counted_as_the_model_has_them(check: ModuleType) -> None:
    model = check.shapes.random_model("tiny")
    assert check.shapes.parameters("tiny") == sum(p.numel() for p in model.parameters())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(check: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])
    with pytest.raises(SystemExit, match="needs an NVIDIA GPU, and PyTorch finds none"):
        check.main()
