"""Settings and data in which the runs of a law differ, beside its variables."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "laws"))

from law_runs import PARAMETERS, write_run
from planted import run_rows

from cpt.recipe.journal import Run, find_run
from cpt.recipe.law_noise import unmodelled


def run(root: Path, name: str, training: dict[str, Any], **corpus: Any) -> Run:
    """Return a run of a stage `corpus` and a training, and one stage after it."""
    folder = write_run(
        root,
        name,
        run_rows("x", 0.5, size=PARAMETERS),
        stages=("corpus", "pretrain", "later"),
        config=training,
    )
    (file,) = folder.glob("corpus-*/artifact.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"config": {}} | corpus))
    (after,) = folder.glob("later-*/artifact.json")
    after.write_text(json.dumps(json.loads(after.read_text()) | {"config": {"name": name}}))
    return find_run(root, name)


def test_settings_of_the_training_and_its_data_are_compared(tmp_path: Path) -> None:
    same = {"trainable": {"kind": "all"}, "average": None}
    a = run(tmp_path, "a", same, config={"heldout": 0.1}, references={"notes.jsonl": "11"})
    again = run(tmp_path, "again", same, config={"heldout": 0.1}, references={"notes.jsonl": "11"})
    other = run(
        tmp_path,
        "other",
        {"trainable": {"kind": "lora", "rank": 8}, "average": {"kind": "ema"}},
        config={"heldout": 0.2},
        references={"notes.jsonl": "22"},
    )
    alike = [("domain", a), ("domain", again)]
    assert unmodelled(alike, "pretrain") == {}
    found = unmodelled([*alike, ("domain", other)], "pretrain")
    assert sorted(found["domain"]) == [
        "corpus.heldout",
        "pretrain.average",
        "pretrain.average.kind",
        "pretrain.trainable.kind",
        "pretrain.trainable.rank",
        "the content of notes.jsonl",
    ]
    assert unmodelled([("medical", a), ("law", other)], "pretrain") == {}  # other domains are other texts


def test_readings_and_the_division_of_a_step_change_no_loss(tmp_path: Path) -> None:
    kept = {"checkpoint": {"every": 5}, "trackers": ["tensorboard"]}
    often = run(tmp_path, "often", {"monitor": {"every": 1}, "micro_batch_sequences": 2} | kept)
    seldom = run(tmp_path, "seldom", {"monitor": {"every": 9}})
    assert unmodelled([("domain", often), ("domain", seldom)], "pretrain") == {}


def test_variables_of_the_law_may_differ(tmp_path: Path) -> None:
    first = run(tmp_path, "first", {"replay": 0.1, "tokens": 100, "mixture": [{"until": 1.0, "replay": 0.1}]})
    second = run(
        tmp_path,
        "second",
        {"replay": {"advised": "law.json"}, "tokens": 200, "mixture": [{"until": 1.0, "replay": 0.2}]},
    )
    assert unmodelled([("domain", first), ("domain", second)], "pretrain") == {}
    third = run(tmp_path, "third", {"replay": 0.1, "tokens": 100, "mixture": [{"until": 1.0, "weights": {}}]})
    assert unmodelled([("domain", first), ("domain", third)], "pretrain") == {
        "domain": ["pretrain.mixture.0.weights"]
    }
