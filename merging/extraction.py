"""Extract an adapter from the difference of two models: every matrix as the product of two small ones.

The best approximation of a matrix by one of rank r is its truncated singular value decomposition (Eckart and
Young 1936). Matrices whose smaller side is above 1024 are decomposed by random projection (Halko et al. 2011,
arXiv 0909.4061, algorithm 5.1 with power iterations). Tensors that factors cannot hold (norms, rows of
embeddings) are stored whole. Biases of matrices have no place in such an adapter.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from cpt.errors import CannotMerge
from cpt.models.loading import StoredNames, without_weights
from cpt.models.tokenizer import FILE, copy_settings
from merging.adapters import CONFIG, PREFIX, WEIGHTS
from merging.candidates import Candidate, alike, check_same_architecture
from merging.kernels import seed_of
from merging.sources import Source
from merging.writer import atomic_model_folder

_EXACT = 1024
_OVERSAMPLING, _ITERATIONS = 16, 4
_ROWS = 1024
_BYTES = 8
"""Bytes per number of the factors: float32, written once, kept once."""


@dataclass(frozen=True)
class HeldTensor:
    """The part of a tensor's difference that an adapter holds.

    Attributes:
        tensor: Name of the tensor.
        how: "low rank", "rows", "whole", or "left out".
        norm: Norm of the difference (Frobenius).
        kept: Norm of the part that the adapter holds.
    """

    tensor: str
    how: str
    norm: float
    kept: float


@dataclass(frozen=True)
class Extraction:
    """A report on an extraction.

    Attributes:
        rank: Rank of the factors.
        tensors: Tensors that differ.
        unchanged: Number of tensors that do not differ.
        numbers: Number of values in the adapter.
    """

    rank: int
    tensors: tuple[HeldTensor, ...]
    unchanged: int
    numbers: int

    @property
    def norm(self) -> float:
        """Norm of the whole difference."""
        return sum(each.norm**2 for each in self.tensors) ** 0.5

    @property
    def kept(self) -> float:
        """Norm of the adapter's part over that of the difference; 1 where there is no difference."""
        return sum(each.kept**2 for each in self.tensors) ** 0.5 / self.norm if self.norm else 1.0


@dataclass
class _Adapter:
    """An adapter under construction."""

    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    targets: list[str] = field(default_factory=list)
    whole: set[str] = field(default_factory=set)
    rows: dict[str, list[int]] = field(default_factory=dict)


def extract(
    base: Candidate,
    model: Candidate,
    rank: int,
    output: Path,
    *,
    modules: Sequence[str] | None = None,
    low_rank_only: bool = False,
    base_name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Extraction:
    """Write the difference of a model from its base as a LoRA adapter that peft loads.

    Args:
        base: Model that changes are measured from.
        model: Model that was trained from the base.
        rank: Rank of every pair of factors; a matrix of fewer rows or columns is held whole.
        output: Empty folder.
        modules: Names of the matrices to take (q_proj); None for all matrices of the layers.
        low_rank_only: Leave out tensors that factors cannot hold, rather than storing them.
        base_name: Name of the base in the adapter; by default the base's folder.
        progress: Called with the tensors that are done and their number.

    Raises:
        CannotMerge: The models are not of one architecture, the model lacks tokens of the base or numbers
            them otherwise, or no matrix has such a name.
    """
    work = _Extractor(base, model, rank, modules, low_rank_only)
    kept, made = [], _Adapter()
    for done, name in enumerate(work.names, start=1):
        kept += [found] if (found := work.take(name, made)) else []
        if progress is not None:
            progress(done, len(work.names))
    if not made.targets:
        raise CannotMerge([f"none of the selected matrices differs between {base.name} and {model.name}"])
    work.complete(made)
    save_file(made.tensors, output / WEIGHTS, metadata={"format": "pt"})
    config = _config(made, rank, base_name or str(base.folder.resolve()), work.transposed, work.tied)
    (output / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    if model.tokens != base.tokens:
        copy_settings(model.tokenizer_folder, output)
        (output / FILE).write_bytes((model.tokenizer_folder / FILE).read_bytes())
    numbers = sum(tensor.numel() for tensor in made.tensors.values())
    return Extraction(rank, tuple(kept), len(work.names) - len(kept), numbers)


def write_adapter(
    base: Candidate,
    model: Candidate,
    rank: int,
    output: Path,
    *,
    modules: Sequence[str] | None = None,
    low_rank_only: bool = False,
    base_name: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Extraction:
    """Extract an adapter into a new folder, which is written whole or not at all.

    Arguments are those of `extract`, except that `output` must not exist or be empty.

    Raises:
        CannotMerge: As of `extract`; or there is something at `output`.
        DiskFull: The adapter does not fit on the disk.
    """
    numbers = rank * sum(sum(source.shape) for source in base.sources.values())
    with atomic_model_folder(output, _BYTES * numbers) as folder:
        return extract(
            base,
            model,
            rank,
            folder,
            modules=modules,
            low_rank_only=low_rank_only,
            base_name=base_name,
            progress=progress,
        )


def low_rank_factors(change: torch.Tensor, rank: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the factors whose product is nearest to a matrix, each with the roots of the singular values.

    Args:
        change: Matrix: [out, in] float32.
        rank: Rank of the factors.
        seed: Seed of the random projection; smaller matrices need none.

    Returns:
        Factors down [rank, in] and up [out, rank], filled with zeros beyond the matrix's smaller side.
    """
    if min(change.shape) <= max(_EXACT, rank + _OVERSAMPLING):
        left, values, right = torch.linalg.svd(change, full_matrices=False)
        right = right.mH
    else:
        with torch.random.fork_rng(devices=[]):
            torch.random.default_generator.manual_seed(seed)
            left, values, right = torch.svd_lowrank(change, q=rank + _OVERSAMPLING, niter=_ITERATIONS)
    size = min(rank, len(values))
    roots = values[:size].sqrt()
    down, up = torch.zeros(rank, change.shape[1]), torch.zeros(change.shape[0], rank)
    down[:size], up[:, :size] = (right[:, :size] * roots).T, left[:, :size] * roots
    return down, up


class _Extractor:
    """Takes tensors into an adapter one by one."""

    def __init__(
        self,
        base: Candidate,
        model: Candidate,
        rank: int,
        modules: Sequence[str] | None,
        low_rank_only: bool,
    ) -> None:
        check_same_architecture([base, model], same_vocabulary=alike([base, model]))
        _check_tokens(base, model)
        self._base, self._model, self._rank, self._low_rank_only = base, model, rank, low_rank_only
        built = without_weights(base.folder)
        self._places = dict(_places(built, base.sources))
        self._tensors = base.tensors
        head = built.get_output_embeddings()
        self._head = next((name for name, module in built.named_modules() if module is head), None)
        self._matrices = _matrices(built, self._places, self._tensors.names)
        self._matrix_modules = {self._places[name].rpartition(".")[0] for name in self._matrices}
        if modules is not None:
            self._matrices = _named(self._matrices, self._places, modules)
        skipped = {*self._tensors.copies, *([self._tensors.output] if self.tied else [])}
        self.names = [name for name in base.sources if name in self._places and name not in skipped]

    @property
    def tied(self) -> bool:
        """True if the output embedding is the input embedding."""
        return self._tensors.tied

    @property
    def transposed(self) -> bool:
        """True if matrices are stored as [in, out]."""
        return any(self._matrices.values())

    def take(self, name: str, made: _Adapter) -> HeldTensor | None:
        """Put a tensor's difference into the adapter; return None if there is no difference."""
        base, model = self._base.sources[name], self._model.sources[name]
        module, _, kind = self._places[name].rpartition(".")
        if name in self._tensors.names and kind == "weight":
            return self._embedding(name, module, base, model, made)
        change = _whole(model) - _whole(base)
        norm = float(change.double().norm())
        if not norm:
            return None
        if name in self._matrices:
            held = self._factors(name, module, change, made)
            return HeldTensor(name, "low rank", norm, held)
        if (
            self._low_rank_only or module in self._matrix_modules or len(base.shape) > 2
        ):  # 3: experts' matrices
            return HeldTensor(name, "left out", norm, 0.0)
        made.tensors[PREFIX + self._places[name]] = _whole(model).to(model.dtype)
        made.whole.add(module)
        return HeldTensor(name, "whole", norm, norm)

    def complete(self, made: _Adapter) -> None:
        """Add what peft expects of modules that are stored whole: all their tensors, a tied output twice."""
        for name, parameter in self._places.items():
            module, _, _ = parameter.rpartition(".")
            if module in made.whole and f"{PREFIX}{parameter}" not in made.tensors:
                source = self._model.sources[name]
                made.tensors[f"{PREFIX}{parameter}"] = _whole(source).to(source.dtype)
        key = f"{PREFIX}{self._places[self._tensors.input]}"
        if self.tied and self._head is not None and key in made.tensors:
            made.tensors[f"{PREFIX}{self._head}.weight"] = made.tensors[key].clone()

    def _factors(self, name: str, module: str, change: torch.Tensor, made: _Adapter) -> float:
        """Add a matrix's factors and return the norm of their product."""
        matrix = change.T if self._matrices[name] else change
        down, up = low_rank_factors(matrix, self._rank, seed_of(0, name, 0))
        made.tensors[f"{PREFIX}{module}.lora_A.weight"] = down
        made.tensors[f"{PREFIX}{module}.lora_B.weight"] = up
        made.targets.append(module)
        return float(down.double().square().sum(dim=1).norm())  # the singular values, squared, then summed

    def _embedding(
        self, name: str, module: str, base: Source, model: Source, made: _Adapter
    ) -> HeldTensor | None:
        """Store the rows that changed, or all of them where most did."""
        changed, squares = _changed_rows(base, model)
        if not changed:
            return None
        norm = squares**0.5
        if self._low_rank_only:
            return HeldTensor(name, "left out", norm, 0.0)
        if 2 * len(changed) <= model.shape[0]:
            rows = torch.stack([model.read(row, row + 1)[0] for row in changed]).to(model.dtype)
            made.tensors[f"{PREFIX}{module}.token_adapter.trainable_tokens_delta"] = rows
            made.rows[module] = changed
            return HeldTensor(name, "rows", norm, norm)
        made.tensors[f"{PREFIX}{module}.weight"] = model.read(0, model.shape[0]).to(model.dtype)
        made.whole.add(module)
        return HeldTensor(name, "whole", norm, norm)


def _config(made: _Adapter, rank: int, base_name: str, transposed: bool, tied: bool) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": transposed,
        "target_modules": sorted(made.targets),
        "modules_to_save": sorted(made.whole) or None,
        "trainable_token_indices": made.rows or None,
        "ensure_weight_tying": tied and bool(made.whole),
    }


def _places(built: Any, stored: Mapping[str, Source]) -> Iterator[tuple[str, str]]:
    """Find the stored name and the model's name of every tensor."""
    names = StoredNames(built, stored)  # type: ignore[arg-type]
    for parameter in built.state_dict():
        if (name := names.of(parameter)) is not None:
            yield name, parameter


def _matrices(built: Any, places: Mapping[str, str], per_token: Sequence[str]) -> dict[str, bool]:
    """Return the stored names of the layers' matrices: name -> True if stored as [in, out]."""
    from transformers.pytorch_utils import Conv1D

    found = {}
    for name, parameter in places.items():
        module, _, kind = parameter.rpartition(".")
        layer = built.get_submodule(module)
        if kind == "weight" and isinstance(layer, torch.nn.Linear | Conv1D) and name not in per_token:
            found[name] = isinstance(layer, Conv1D)
    return found


def _named(
    matrices: Mapping[str, bool], places: Mapping[str, str], modules: Sequence[str]
) -> dict[str, bool]:
    """Return the matrices whose module has one of the names, or a path that ends in one."""
    paths = {name: f".{places[name].removesuffix('.weight')}" for name in matrices}
    unknown = [each for each in modules if not any(path.endswith(f".{each}") for path in paths.values())]
    if unknown:
        known = ", ".join(sorted({path.rpartition(".")[2] for path in paths.values()}))
        raise CannotMerge(
            [f"no matrix of the layers is called {each}" for each in unknown], hint=f"There are {known}."
        )
    wanted = tuple(f".{each}" for each in modules)
    return {name: matrices[name] for name, path in paths.items() if path.endswith(wanted)}


def _check_tokens(base: Candidate, model: Candidate) -> None:
    """Raise unless the model has the base's tokens under the same ids; it may have more."""
    if base.tensors.tied != model.tensors.tied:
        raise CannotMerge([f"one of {base.name} and {model.name} has an output embedding of its own"])
    rows = base.sources[base.tensors.input].shape[0]
    moved = [token for token, row in base.tokens.items() if row < rows and model.tokens.get(token) != row]
    if moved or model.sources[model.tensors.input].shape[0] < rows:
        raise CannotMerge(
            [
                f"{model.name} lacks {len(moved):,} of {base.name}'s tokens or numbers them otherwise "
                f"({', '.join(map(repr, moved[:3]))})"
                if moved
                else f"{model.name} has fewer rows of tokens than {base.name}"
            ],
            hint="An adapter can add tokens after its base's last one; not move or drop tokens.",
        )


def _changed_rows(base: Source, model: Source) -> tuple[list[int], float]:
    """Return the rows that differ, new ones included, and the sum of the squared differences."""
    known, changed, squares = base.shape[0], [], 0.0
    for start in range(0, model.shape[0], _ROWS):
        rows = model.read(start, min(start + _ROWS, model.shape[0])).float()
        old = torch.zeros_like(rows)
        if start < known:
            there = base.read(start, min(start + _ROWS, known)).float()
            old[: len(there)] = there
        differs = (rows != old).any(dim=1) | (torch.arange(start, start + len(rows)) >= known)
        changed += (torch.nonzero(differs).flatten() + start).tolist()
        squares += float((rows - old).double().square().sum())
    return changed, squares


def _whole(source: Source) -> torch.Tensor:
    return source.read(0, source.shape[0] if source.shape else 1).float().reshape(source.shape)
