"""Merges that mergekit does itself: stacked layers, parts merged apart, adapters, rows of single tokens.

It is given folders only, whose weights are safetensors and have been looked at; it runs no code from a
model's folder and reads no pickle. What it writes is checked before it takes its place.
"""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt.errors import CannotMerge, DataError, StageFailed
from cpt.models.vocabulary import check_shapes
from cpt.models.weights import stored_tensors, torch_dtype
from merging.candidates import Candidate, check_same_architecture, read_candidate
from merging.output import written_whole
from merging.writer import write_checksums

CONFIGURATION = "mergekit_config.yml"
_LAYER = re.compile(r"\.\d+\.")
_MARGIN = 1.1


@dataclass(frozen=True)
class DelegatedReport:
    """What mergekit merged.

    Attributes:
        parameters: numbers in the result.
        rows: of its embedding.
        layers: of its blocks.
        checksums: SHA-256 by file.
    """

    method: str
    parameters: int
    rows: int
    layers: int
    dtype: str
    checksums: Mapping[str, str]


def check(folders: Mapping[str, Path], adapters: Mapping[str, Path]) -> list[str]:
    """Look at models and adapters before mergekit does.

    Args:
        folders, adapters: by what messages call them.

    Returns:
        Settings that differ between the models, in words.

    Raises:
        CannotMerge: says what cannot be read or does not fit together.
    """
    candidates, problems = [], []
    for name, folder in folders.items():
        try:
            candidates.append(read_candidate(name, folder))
        except DataError as error:
            problems.append(f"{name}: {error}")
    for name, folder in adapters.items():
        missing = [
            file
            for file in ("adapter_config.json", "adapter_model.safetensors")
            if not (folder / file).is_file()
        ]
        problems += [f"the adapter {name} has no {file}" for file in missing]
    if not problems:
        problems += list(_widths(candidates))
    if problems:
        raise CannotMerge(problems)
    return check_same_architecture(candidates, same_vocabulary=True)


def _widths(candidates: Sequence[Candidate]) -> Iterator[str]:
    """Kinds of tensors whose shapes differ, whichever layer they are of; rows of tokens may differ."""
    first, *others = candidates
    ours = _kinds(first)
    for other in others:
        for kind, shape in _kinds(other).items():
            if ours.get(kind, shape) != shape:
                yield (
                    f"models of different sizes cannot be merged: {kind} is {list(ours[kind])} "
                    f"in {first.name}, {list(shape)} in {other.name}"
                )


def _kinds(candidate: Candidate) -> dict[str, tuple[int, ...]]:
    return {_LAYER.sub(".N.", name): shape for name, shape in candidate.shapes.items()}


def run(
    config: Mapping[str, Any],
    output: Path,
    *,
    text: str,
    needed: int,
    shard_bytes: int,
    seed: int,
    card: Callable[[Path], str],
) -> DelegatedReport:
    """Have mergekit merge into a folder, which is there whole or not at all.

    Args:
        config: its configuration, every model a local folder.
        text: the configuration as it was written, which is kept beside the result.
        needed: bytes that it will write, about.
        card: makes the model card from the written folder.

    Raises:
        CannotMerge: there is something at `output`, or mergekit does not take the configuration.
        StageFailed: mergekit failed, or what it wrote does not load.
    """
    with written_whole(output, int(needed * _MARGIN)) as aside:
        _merge(config, aside, shard_bytes, seed)
        (aside / CONFIGURATION).write_text(text, encoding="utf-8")
        merged = _checked(aside)
        (aside / "README.md").write_text(card(aside), encoding="utf-8")
        checksums = write_checksums(aside)
        return DelegatedReport(
            method=str(config["merge_method"]),
            parameters=sum(math.prod(source.shape) for source in merged.sources.values()),
            rows=merged.vocabulary.rows,
            layers=len({found.group() for name in merged.sources if (found := _LAYER.search(name))}),
            dtype=str(
                max(merged.sources.values(), key=lambda source: math.prod(source.shape)).dtype
            ).removeprefix("torch."),
            checksums=checksums,
        )


def expected_bytes(config: Any, folders: Mapping[str, Path]) -> int:
    """Size of the result, about: the largest model's, or of as many layers as are stacked.

    Args:
        config: a `MergeConfiguration`.
        folders: as of `check`; by what the configuration calls the models.
    """
    item = {"float64": 8, "float32": 4, None: None}.get(config.out_dtype or config.dtype, 2)
    sizes, layers = {}, {}
    for name, folder in folders.items():
        stored = stored_tensors(folder)
        sizes[name] = sum(
            math.prod(tensor.shape) * (item or torch_dtype(tensor).itemsize) for tensor in stored.values()
        )
        layers[name] = len({found.group() for tensor in stored if (found := _LAYER.search(tensor))})
    slices = list(config.slices or ())
    if not slices:
        return max(sizes.values())
    sources = [(str(each.sources[0].model.model), each.sources[0].layer_range) for each in slices]
    stacked = sum((stop - start) / max(1, layers[name]) * sizes[name] for name, (start, stop) in sources)
    return int(stacked) + max(sizes.values()) // 2


def _merge(config: Mapping[str, Any], folder: Path, shard_bytes: int, seed: int) -> None:
    from mergekit.config import MergeConfiguration
    from mergekit.io.tasks import LoaderCache
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    adapters = folder / "adapters"
    options = MergeOptions(
        device="cpu",
        out_shard_size=shard_bytes,
        random_seed=seed,
        lora_merge_cache=str(adapters),
        trust_remote_code=False,
        safe_serialization=True,
        write_model_card=False,
        quiet=True,
    )
    try:
        run_merge(MergeConfiguration.model_validate(config), str(folder), options)
    except Exception as error:
        if (
            isinstance(error, OSError) and error.errno is not None
        ):  # of the disk; of transformers' own there is none
            raise
        raise StageFailed(f"mergekit failed: {type(error).__name__}: {error}") from error
    finally:
        LoaderCache().loaders.clear()
        shutil.rmtree(adapters, ignore_errors=True)


def _checked(folder: Path) -> Candidate:
    """What mergekit wrote, if it loads and holds finite numbers.

    Raises:
        StageFailed: it does not.
    """
    try:
        merged = read_candidate("the result", folder)
        check_shapes(folder)
        for source in merged.sources.values():
            height = source.shape[0] if source.shape else 1
            step = max(1, 2**22 // max(1, math.prod(source.shape[1:])))
            for start in range(0, height, step):
                source.read(start, min(height, start + step))
    except DataError as error:
        raise StageFailed(f"what mergekit wrote is no sound model: {error}", hint=error.hint) from error
    return merged
