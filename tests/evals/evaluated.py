"""Tasks over tiny local files, for tests that evaluate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evals.preparation import PreparedTask
from evals.registry import Entry

QUESTIONS = [
    {
        "question": f"The {organ} of the",
        "choices": ["matter is the heart.", "kidneys", f"{organ}!"],
        "answer": n % 3,
    }
    for n, organ in enumerate(("heart", "kidney", "nerve", "muscle", "fever", "night", "doctor", "matter"))
]

CHOICE: dict[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_text": "question",
    "doc_to_choice": "choices",
    "doc_to_target": "answer",
    "metric_list": [
        {"metric": "acc", "aggregation": "mean", "higher_is_better": True},
        {"metric": "acc_norm", "aggregation": "mean", "higher_is_better": True},
    ],
}

TEXT: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_text": "question",
    "doc_to_target": "{{choices[0]}}",
    "generation_kwargs": {"until": ["."], "max_gen_toks": 6},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}

WHOLE: dict[str, Any] = {
    "output_type": "loglikelihood_rolling",
    "doc_to_text": "",
    "doc_to_target": "question",
    "metric_list": [{"metric": "bits_per_byte"}, {"metric": "word_perplexity"}],
}


def task(
    folder: Path,
    name: str,
    settings: dict[str, Any] | None = None,
    rows: list[dict[str, Any]] | None = None,
    suite: str = "s",
    level: Any = "full",
    **entry: Any,
) -> PreparedTask:
    """A prepared task over rows."""
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows or QUESTIONS), encoding="utf-8")
    config = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(file)}, "cache_dir": str(folder / "datasets")},
        "test_split": "test",
        "num_fewshot": 0,
        "metadata": {"version": 1.0},
        **(settings or CHOICE),
    }
    metric = entry.pop("metric", "acc")
    return PreparedTask(suite, level, Entry(task=name, metric=metric, **entry), config, "local abc")
