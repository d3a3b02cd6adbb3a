"""What the training benchmark computes, without running a contender."""

import argparse
import itertools
import json
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def training(monkeypatch):
    """The script, as a module."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), str(BENCHMARKS / "contenders"), *sys.path])
    import training

    return training


def options(**changes) -> argparse.Namespace:
    plain = {
        "length": 64, "steps": 3, "micro_batch": 1, "accumulate": 2, "checkpoint_every": 0, "compile": False,
        "gradient_checkpointing": False, "documents": None, "shape": "tiny", "peak_tflops": None,
    }  # fmt: skip
    return argparse.Namespace(**plain | changes)


def test_short_rows_hold_whole_documents_and_full_rows_one_each(training) -> None:
    pieces = [np.arange(size, dtype=np.uint32) for size in (5, 30, 12, 40, 3, 9, 22, 17, 33, 8, 50, 6, 20)]
    short = training.short_rows(iter(pieces), 50, 3)
    assert all(sum(map(len, row)) <= 50 for row in short)
    assert {len(piece) for row in short for piece in row} <= {len(piece) for piece in pieces}
    full = training.full_rows(iter(pieces), 50, 3)
    assert [[len(piece) for piece in row] for row in full] == [[50], [50], [50]]
    assert np.array_equal(np.concatenate([row[0] for row in full]), np.concatenate(pieces)[:150])


def test_contenders_read_what_was_written(training, tmp_path: Path) -> None:
    rows = training.short_rows(training.random_pieces(100), 64, 4)
    training.write_data(rows, tmp_path, None)
    read = training.job_of(options(), "tiny", str(tmp_path)).rows()
    for (tokens, lengths), row in zip(read, rows, strict=True):
        assert np.array_equal(tokens, np.concatenate(row))
        assert lengths.tolist() == [len(piece) for piece in row]


def test_text_for_those_that_pack_themselves_holds_every_document(
    training, tmp_path: Path, tiny_model: Path
) -> None:
    rows = training.full_rows(training.random_pieces(250), 32, 2)
    training.write_data(rows, tmp_path, tiny_model)
    lines = (tmp_path / "texts.jsonl").read_text().splitlines()
    assert len(lines) == 2 * 2
    (entry,) = json.loads((tmp_path / "dataset_info.json").read_text()).values()
    assert set(json.loads(lines[0])) == set(entry["columns"].values())


def test_utilisation_follows_the_stated_formula(training, monkeypatch) -> None:
    result = {
        "tokens_per_second": 49_000.0, "parameters": 1_235_814_400, "layers": 16, "width": 2048, "shares": {},
        "product_flops": 7e14, "peak_bytes": 1, "gpu": "NVIDIA H100 80GB HBM3",
    }  # fmt: skip
    monkeypatch.setattr(training, "compete", lambda *_: result)
    measured = training.utilisation(options(length=4096))
    assert measured["mfu"] == pytest.approx(0.45, abs=0.005)  # what the field reports for Llama 3.2 1B
    assert measured["peak_is"] == "the maker's"
    assert training.utilisation(options(length=4096, peak_tflops=98.9))["mfu"] == 10 * measured["mfu"]
    result["gpu"] = None
    assert training.utilisation(options())["peak_is"] == "a product measured here"


def test_shapes_have_the_sizes_of_the_models_they_are_named_after(training) -> None:
    parameters = {"135m": 134.5e6, "360m": 361.8e6, "1b": 1235.8e6, "3b": 3212.7e6}
    for name, expected in parameters.items():
        s = training.shapes.SHAPES[name]
        attention = s["width"] * s["head_width"] * (2 * s["heads"] + 2 * s["key_heads"])
        layer = attention + 3 * s["width"] * s["inner"] + 2 * s["width"]
        assert s["rows"] * s["width"] + s["layers"] * layer + s["width"] == pytest.approx(expected, rel=1e-3)


def test_pairs_are_compared_within_a_pair(training, monkeypatch, tiny_model: Path) -> None:
    speeds = itertools.cycle([300.0, 200.0, 50.0, 150.0, 1.0])
    order = []

    def compete(python: str, script: str, job) -> dict:
        order.append(script)
        return {
            "tokens_per_second": next(speeds), "peak_bytes": 10, "blocked": [], "product_flops": 600.0,
            "parameters": 2, "shares": {"attention": 1.0},
        }  # fmt: skip

    monkeypatch.setattr(training, "compete", compete)
    monkeypatch.setattr(training, "documents", lambda model, length: training.random_pieces(250))
    contenders = {"cpt": ("python", "ours"), "Trainer": ("python", "theirs")}
    found = training.compare(options(pairs=2), "short", tiny_model, contenders)
    assert order == ["ours", "theirs", "theirs", "ours", "ours"]  # taking turns; the last is the profile
    assert found["ratios"] == {"Trainer": (300 / 200 + 150 / 50) / 2}
    assert found["product_bound_tokens_per_second"] == 50.0
    assert found["contenders"]["cpt"]["seconds_blocked_by_a_checkpoint"] == 0
