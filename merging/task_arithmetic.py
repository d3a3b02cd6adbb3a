"""Task arithmetic: the base plus weighted differences between fine-tuned models and the base.

Reference: arXiv 2212.04089. mergekit does the arithmetic, tensor by tensor. It is told to work in float64,
so that the result is the correctly rounded base + Σ weight · (model - base): weight 0 gives the base's
values, weight 1 the model's, and the order of the models does not matter.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import torch

from cpt.errors import StageFailed
from cpt.model_folder import vocabulary, weights
from cpt.model_folder.tokenizer import FILE, SETTINGS
from merging.align import (
    ABSENT,
    Candidate,
    align,
    check_same_architecture,
    choose_target,
    read_candidate,
    row_map,
)
from merging.card import model_card

METHOD = "task-arithmetic"
SHARD_BYTES = 2_000_000_000
"""Size at which the result's weights go on in another file; mergekit holds one such file in memory."""


@dataclass(frozen=True)
class Parent:
    """A model that goes into a merge: its name and fingerprint (for the model card), folder, and weight."""

    name: str
    folder: Path
    fingerprint: str
    weight: float = 1.0


@dataclass(frozen=True)
class MergeReport:
    """What was merged.

    Attributes:
        vocabulary_of: the model whose vocabulary, tokenizer and generation settings the result has.
        rows: rows of the result's embedding.
        rows_from_models: rows that the base lacks.
        parameters: numbers that were merged.
    """

    vocabulary_of: str
    rows: int
    rows_from_models: int
    parameters: int


def merge(base: Parent, models: Sequence[Parent], output: Path, scratch: Path) -> MergeReport:
    """Merge models onto a base and write a Hugging Face folder with a model card.

    Args:
        base: the model that the task vectors start from; its weight is not used.
        models: at least one; all with the base's architecture.
        output: folder that receives the result.
        scratch: folder for intermediate models, on the same disk as the parents if possible; emptied first
            and removed at the end.

    Raises:
        StageFailed: the models do not fit together, or mergekit cannot merge them.
        DataError: a folder is not a readable model.
    """
    ordered = sorted(models, key=lambda model: (model.weight, model.fingerprint, model.name))
    candidates = [read_candidate(parent.name, parent.folder) for parent in (base, *ordered)]
    check_same_architecture(candidates)
    target = choose_target(candidates[1:])
    shutil.rmtree(scratch, ignore_errors=True)
    folders = align(candidates[0], candidates[1:], target, scratch)
    dtype = _promoted_dtype(candidates)
    _run_mergekit(
        folders[0], list(zip(folders[1:], (model.weight for model in ordered), strict=True)), output, dtype
    )
    shutil.rmtree(scratch, ignore_errors=True)
    parameters = _check_complete(candidates[0], output)
    _write_settings(target, output, dtype)
    (output / "README.md").write_text(
        model_card(
            METHOD,
            [(base.name, None, base.fingerprint)]
            + [(model.name, model.weight, model.fingerprint) for model in ordered],
        ),
        encoding="utf-8",
    )
    lacking = row_map(candidates[0].vocabulary, target.vocabulary) == ABSENT
    return MergeReport(target.name, target.vocabulary.rows, int(lacking.sum()), parameters)


def _promoted_dtype(candidates: Sequence[Candidate]) -> torch.dtype:
    """The widest data type among the models' input embeddings."""
    found = (weights.torch_dtype(candidate.stored[candidate.tensors.input]) for candidate in candidates)
    return reduce(torch.promote_types, found)


def _run_mergekit(base: Path, models: Sequence[tuple[Path, float]], output: Path, dtype: torch.dtype) -> None:
    from mergekit.common import ModelPath, ModelReference
    from mergekit.config import InputModelDefinition, MergeConfiguration
    from mergekit.io.tasks import LoaderCache
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    references = [
        ModelReference(model=ModelPath(path=str(folder))) for folder in (base, *(f for f, _ in models))
    ]
    configuration = MergeConfiguration(
        merge_method="task_arithmetic",
        base_model=references[0],
        models=[
            InputModelDefinition(model=reference, parameters={"weight": weight})
            for reference, (_, weight) in zip(references[1:], models, strict=True)
        ],
        parameters={"normalize": False},
        dtype="float64",
        out_dtype=str(dtype).removeprefix("torch."),
    )
    options = MergeOptions(
        device="cpu", quiet=True, write_model_card=False, copy_tokenizer=False, out_shard_size=SHARD_BYTES
    )
    try:
        run_merge(configuration, str(output), options)
    except (RuntimeError, ValueError) as error:
        raise StageFailed(f"mergekit cannot merge these models: {error}") from error
    finally:
        for reference in references:
            LoaderCache().loaders.pop(reference, None)  # it would serve these files for the same path later


def _check_complete(base: Candidate, output: Path) -> int:
    """Number of parameters of the result, which must hold every tensor that the base holds."""
    expected = set(base.stored)
    if base.tensors.tied:
        expected.discard(base.tensors.output or "")
    merged = weights.stored_tensors(output)
    missing = sorted(expected - merged.keys())
    if missing:
        raise StageFailed(f"mergekit left out {len(missing)} tensors, such as {missing[0]}")
    return sum(torch.Size(tensor.shape).numel() for tensor in merged.values())


def _write_settings(target: Candidate, output: Path, dtype: torch.dtype) -> None:
    """Configuration, tokenizer and generation settings of the target."""
    config = vocabulary.read_config(target.folder)
    config["torch_dtype" if "torch_dtype" in config else "dtype"] = str(dtype).removeprefix("torch.")
    vocabulary.write_json(output / "config.json", config)
    for name in (FILE, *SETTINGS, "generation_config.json"):
        if (target.folder / name).is_file():
            shutil.copyfile(target.folder / name, output / name)
    vocabulary.check_shapes(output)
