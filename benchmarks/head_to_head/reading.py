"""Read models with cpt's measuring code: bits per byte of held-out text, and suites of benchmarks."""

from __future__ import annotations

import argparse
import json
from hashlib import sha256
from pathlib import Path
from typing import Any

from head_to_head.texts import Texts, read_texts


def read_model(
    options: argparse.Namespace, base: Path, folder: Path, texts: Texts, seed: int, work: Path
) -> dict[str, Any]:
    """Return a model's changes from the base, in bits per byte, and its scores.

    Args:
        folder: Folder of a model or of a LoRA adapter.
        work: Scratch folder.

    Returns:
        `changes` and `before` by text; `windows`, the fingerprint of the text that was read at once; and
        `suites`, the change of each suite's average.
    """
    from cpt.corpus.document_tokenizer import special_token
    from cpt.corpus.texts import passages
    from cpt.progress import NullProgress
    from cpt.stages.evaluate.config import EvaluateConfig
    from cpt.stages.evaluate.measurement import measure, prepare_material

    models = {"base": base, "after": whole_model(folder, base, work / "whole")}
    start = special_token(base, options.start_token, "bos")
    config = EvaluateConfig(heldout_tokens=options.probe_tokens, window=options.window)
    documents = {
        name: passages(read_texts(file), [base], config.heldout_tokens, seed)
        for name, file in (("domain", texts.domain), ("general", texts.general))
    }
    material = prepare_material(documents, {}, {}, dict.fromkeys(models, start), models, config)
    levels = {
        role: {
            name: bits_per_byte(*found)
            for name, found in measure(role, model, material, work, NullProgress()).texts.items()
        }
        for role, model in models.items()
    }
    held = [documents, {name: windows.as_json() for name, windows in material.windows.items()}]
    return {
        "changes": {name: levels["after"][name] - level for name, level in levels["base"].items()},
        "before": levels["base"],
        "windows": sha256(json.dumps(held).encode()).hexdigest(),
        "suites": _suites(options, models, seed, work) if options.suite else {},
    }


def bits_per_byte(nats: Any, sizes: Any) -> float:
    """Return the bits per byte of a text, of its documents' nats and bytes."""
    from cpt.models.bits_per_byte import Scores

    return Scores(nats, sizes).bits_per_byte


def whole_model(folder: Path, base: Path, output: Path) -> Path:
    """Return the folder of a model; an adapter is merged into its base first."""
    from merging.adapters import is_adapter
    from merging.plan import plan
    from merging.request import InputModel, MergeRequest
    from merging.run import run

    if not is_adapter(folder):
        return folder
    adapter = InputModel("adapter", folder, parameters={"weight": 1.0})
    run(plan(MergeRequest("task-arithmetic", (adapter,), InputModel("base", base))), output)
    return output


def _suites(options: argparse.Namespace, models: dict[str, Path], seed: int, work: Path) -> dict[str, float]:
    """Return the change of each suite's average."""
    from cpt.progress import NullProgress
    from cpt.stages.evaluate.suites import compare_suites

    found = compare_suites(
        options.suite,
        options.data,
        models,
        {role: work / f"suites-{role}" for role in models},
        NullProgress(),
        precision="auto",
        confidence=0.95,
        seed=seed,
    )
    return {suite: each["difference"] for suite, each in found["base"]["averages"].items()}
