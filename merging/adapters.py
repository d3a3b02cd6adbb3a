"""Read peft's LoRA adapters as models of a merge, on top of the model that they were trained on.

An adapter is that model's tensors, some of them changed as they are read, a few rows at a time; the changed
model is never written. The result is that of peft's `merge_and_unload`, up to the rounding of float32
(PyTorch multiplies blocks of rows here, whole matrices in peft): W + s B A, with s = alpha/rank (Hu et al.
2021, arXiv 2106.09685) or alpha/√rank (rsLoRA: Kalajdzievski 2023, arXiv 2312.03732); DoRA scales that to its
own magnitudes (Liu et al. 2024, arXiv 2402.09353); AdaLoRA's factors are B diag(E) A (Zhang et al. 2023,
arXiv 2303.10512). Unlike in peft, a change of bfloat16 weights is not rounded to bfloat16 before the merge.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cpt.errors import DataError
from cpt.models.folder_files import read_object
from cpt.models.loading import StoredNames, without_weights
from cpt.models.tokenizer import FILE as TOKENIZER
from cpt.models.tokenizer import load_tokenizer
from cpt.models.weights import tensors_of
from cpt.progress import NullProgress, Progress
from cpt.references import resolve_model
from merging.candidates import Candidate, read_candidate
from merging.lora_delta import Declared, LowRank, TokenRows
from merging.sources import FileSource, Source, file_source

_KINDS = ("LORA", "ADALORA")

_IRRELEVANT = frozenset(
    {  # origin, training and storage of the factors: without effect on a merge
        "alpha_pattern",
        "auto_mapping",
        "base_model_name_or_path",
        "beta1",
        "beta2",
        "bias",
        "deltaT",
        "ensure_weight_tying",
        "eva_config",
        "exclude_modules",
        "fan_in_fan_out",
        "inference_mode",
        "init_lora_weights",
        "init_r",
        "layers_pattern",
        "layers_to_transform",
        "lora_alpha",
        "lora_dropout",
        "megatron_core",
        "modules_to_save",
        "orth_reg_weight",
        "peft_type",
        "peft_version",
        "qalora_group_size",
        "r",
        "rank_pattern",
        "revision",
        "target_modules",
        "target_r",
        "task_type",
        "tfinal",
        "tinit",
        "total_step",
        "trainable_token_indices",
        "use_dora",
        "use_rslora",
        "velora_config",
    }
)
_CHANGE_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def kind_problems(config: Mapping[str, Any]) -> list[str]:
    """Return what keeps an adapter from being merged; unknown settings count as such."""
    kind = config.get("peft_type")
    if kind not in _KINDS:
        return [f"it is of kind {kind}, and only LoRA and AdaLoRA can be merged"]
    unknown = sorted(key for key, value in config.items() if value and key not in _IRRELEVANT)
    problems = [f"it uses {key}" for key in unknown]
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.startswith(_CHANGE_THE_BASE):
        problems.append(f"it began with {start}, which changed its base's weights, too")
    return problems


def scale_of(config: Mapping[str, Any], module: str, rank: int) -> float:
    """Return the factor of a module's product of factors, as peft computes it.

    Args:
        config: Configuration of the adapter.
        module: Name of the module.
        rank: Rank of the stored factors.
    """
    from peft.utils.other import get_pattern_key

    alphas: Mapping[str, float] = config.get("alpha_pattern") or {}
    alpha = float(alphas.get(get_pattern_key(list(alphas), module), config.get("lora_alpha", 8)))
    if config["peft_type"] == "ADALORA":
        first = float(config.get("init_r", 12))  # rank before AdaLoRA pruned any
        return (alpha if alpha > 0 else first) / (first + 1e-5)
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def token_indices(config: Mapping[str, Any], module: str) -> Sequence[int]:
    """Return the ids of an embedding's trained rows, in the order in which they are stored."""
    given = config.get("trainable_token_indices") or ()
    if isinstance(given, Mapping):
        return next(
            (rows for name, rows in given.items() if module == name or module.endswith(f".{name}")), ()
        )
    return list(given)


CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"

PREFIX = "base_model.model."
_FACTORS = re.compile(
    r"^(?P<module>.+)\.(?:lora_(?:embedding_)?(?P<factor>[ABE])(?:\.weight)?"
    r"|(?P<magnitude>lora_magnitude_vector)(?:\.weight)?"
    r"|(?P<rows>token_adapter\.trainable_tokens_delta))$"
)
_SHOWN = 4
_KEPT_FACTORS = 4


def is_adapter(folder: Path) -> bool:
    """Return True if a folder holds a peft adapter."""
    return (folder / CONFIG).is_file()


def resolve_input(reference: str, progress: Progress | None = None) -> Path:
    """Return the folder of a model or of an adapter; fetch or convert it if necessary.

    Args:
        reference: Reference of a model, or a local folder with an adapter.

    Raises:
        ReferenceUnavailable: It cannot be had.
        RecipeError: The reference is malformed.
    """
    folder = Path(reference)
    return folder if is_adapter(folder) else resolve_model(reference, progress or NullProgress())


def read_model(name: str, folder: Path, base: Candidate | None = None) -> Candidate:
    """Read a model's or an adapter's folder.

    Args:
        name: Name of the model in messages.
        folder: Folder of a model or an adapter.
        base: Base of the merge; see `read_adapter`.

    Raises:
        DataError: The folder holds neither, or nothing that can be merged.
    """
    return read_adapter(name, folder, base) if is_adapter(folder) else read_candidate(name, folder)


def read_adapter(name: str, folder: Path, base: Candidate | None = None) -> Candidate:
    """Read an adapter on top of the model that it was trained on; only headers are read.

    That model is the one that the adapter names, if that is a local folder; else the merge's base.

    Args:
        name: Name of the model in messages.
        folder: Folder of the adapter.
        base: Base of the merge.

    Raises:
        DataError: The adapter is of a kind that cannot be merged, damaged, or of another model; or there is
            no model to put it on.
    """
    config = _read_config(folder)
    if problems := kind_problems(config):
        raise DataError(
            f"the adapter in {folder} cannot be merged: {'; '.join(problems)}",
            hint="Merge it into its base with peft, and name that folder.",
        )
    own = _own_base(name, folder, config, base)
    stored = {key: file_source(key, tensor) for key, tensor in tensors_of(_weights_of(folder)).items()}
    changed = _Changes(own, config, stored).sources()
    sources = {tensor: changed.get(tensor, source) for tensor, source in own.sources.items()}
    tokenizer = folder if (folder / TOKENIZER).is_file() else own.tokenizer_folder
    tokens = load_tokenizer(tokenizer).get_vocab(with_added_tokens=True)
    return replace(
        own,
        name=name,
        sources=sources,
        config=_with_rows(own, sources),
        tokens=tokens,
        own_tokenizer=tokenizer,
        new_tokens={*own.new_tokens, *(tokens[token] for token in tokens.keys() - own.tokens.keys())},
    )


def _read_config(folder: Path) -> dict[str, Any]:
    return read_object(folder / CONFIG)


def _weights_of(folder: Path) -> Path:
    if (folder / WEIGHTS).is_file():
        return folder / WEIGHTS
    if (folder / "adapter_model.bin").is_file():
        raise DataError(
            f"{folder} has its weights as a pickle, which can run code",
            hint="Load the adapter with peft where you trust it, and save_pretrained it to a new folder.",
        )
    raise DataError(f"{folder} lacks the adapter's weights, {WEIGHTS}")


def _own_base(name: str, folder: Path, config: Mapping[str, Any], base: Candidate | None) -> Candidate:
    named = str(config.get("base_model_name_or_path") or "")
    here = Path(named)
    if named and (here / "config.json").is_file():
        if base is not None and base.folder.resolve() == here.resolve():
            return base
        return read_model(f"the base of {name}", here)
    if base is None:
        raise DataError(
            f"{folder} is an adapter of {named or 'a model that it does not name'}, which is no folder here",
            hint="Give that model as the merge's base.",
        )
    return base


def _with_rows(base: Candidate, sources: Mapping[str, Source]) -> Mapping[str, Any]:
    """Return the base's configuration with the changed number of embedding rows."""
    if all(source.shape == base.sources[name].shape for name, source in sources.items()):
        return base.config
    rows = sources[base.tensors.input].shape[0]
    config = dict(base.config)
    if isinstance(config.get("text_config"), dict) and "vocab_size" in config["text_config"]:
        config["text_config"] = config["text_config"] | {"vocab_size": rows}
    if "vocab_size" in config:
        config["vocab_size"] = rows
    return config


class _Changes:
    """The tensors of a base that an adapter changes."""

    def __init__(self, base: Candidate, config: Mapping[str, Any], stored: Mapping[str, FileSource]) -> None:
        self._base, self._config = base, config
        self._model = without_weights(base.folder)
        self._modules = dict(self._model.named_modules())
        self._parameters = self._model.state_dict()
        self._names = StoredNames(self._model, base.sources)  # type: ignore[arg-type]
        self._whole: Callable[[FileSource], torch.Tensor] = lru_cache(maxsize=_KEPT_FACTORS)(_read_whole)
        self._tensors: dict[str, FileSource] = {}
        self._parts: defaultdict[str, dict[str, FileSource]] = defaultdict(dict)
        self._sort(stored)

    def sources(self) -> dict[str, Source]:
        """Return the changed tensors by the names under which the base stores them.

        Raises:
            DataError: The message names everything that does not fit.
        """
        found: dict[str, Source] = {}
        problems = [problem for problem in self._fill(found) if problem]
        if problems:
            more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
            raise DataError(
                f"the adapter is not one of {self._base.name}: {'; '.join(problems[:_SHOWN])}{more}",
                hint="Name the model that the adapter was trained on as the base.",
            )
        return found

    def _sort(self, stored: Mapping[str, FileSource]) -> None:
        """Sort stored tensors into factors, rows and whole tensors."""
        for key, source in stored.items():
            name = key.removeprefix(PREFIX)
            match = _FACTORS.match(name)
            if match is None:
                self._tensors[name.replace(".base_layer.", ".")] = source
            else:
                part = match["factor"] or ("magnitude" if match["magnitude"] else "rows")
                self._parts[match["module"]][part] = source

    def _fill(self, found: dict[str, Source]) -> Iterator[str]:
        yield from self._untied()
        for name, source in self._tensors.items():
            yield from self._put(found, name, Declared(source, source.dtype))
        for module, parts in self._parts.items():
            name = f"{module}.weight"
            stored = self._stored(name)
            if stored is None:
                yield f"it has no {name}"
                continue
            under = found.get(stored, self._base.sources[stored])
            if "rows" in parts:
                yield from self._put(found, name, self._rows(module, parts["rows"], under))
            elif parts.keys() >= {"A", "B"}:
                yield from self._put(found, name, self._low_rank(module, parts, under))
            else:
                yield f"of {module} there is only {', '.join(sorted(parts))}"

    def _put(self, found: dict[str, Source], name: str, source: Source | str) -> Iterator[str]:
        """Put a changed tensor into its place and those of its copies; report a misfit."""
        stored = self._stored(name)
        if stored is None or isinstance(source, str):
            yield source if isinstance(source, str) else f"it has no {name}"
            return
        old = self._base.sources[stored]
        per_token = old.shape != source.shape and stored in self._base.tensors.names
        if source.shape[int(per_token) :] != old.shape[int(per_token) :]:
            yield f"{name} is {list(old.shape)} there, {list(source.shape)} in the adapter"
            return
        for place in (stored, *self._copies(stored)):
            found[place] = Declared(source, old.dtype)

    def _copies(self, stored: str) -> Iterator[str]:
        """Return further names under which the base stores an embedding."""
        if not self._is_input(stored):
            return
        tensors = self._base.tensors
        if tensors.tied and tensors.output is not None:
            yield tensors.output
        yield from (name for name, of in tensors.copies.items() if of == stored)

    def _is_input(self, stored: str) -> bool:
        embedding = self._model.get_input_embeddings()
        return any(
            module is embedding and self._stored(f"{name}.weight") == stored
            for name, module in self._modules.items()
        )

    def _untied(self) -> Iterator[str]:
        """Report an adapter that unties the embeddings; drop what peft stores twice."""
        inside, outside = self._model.get_input_embeddings(), self._model.get_output_embeddings()
        if outside is None or outside.weight is not inside.weight:
            return
        names = {id(module): name for name, module in self._modules.items()}
        head, embedding = names[id(outside)], names[id(inside)]
        tied = bool(self._config.get("ensure_weight_tying"))
        changes_head = head in self._parts or f"{head}.weight" in self._tensors
        whole = f"{embedding}.weight" in self._tensors and embedding not in self._parts
        if tied:
            self._parts.pop(head, None)
            self._tensors.pop(f"{head}.weight", None)
        elif changes_head or whole:
            yield (
                f"there {head} and {embedding} are one matrix, which the adapter takes apart "
                "(train it with ensure_weight_tying)"
            )

    def _low_rank(self, module: str, parts: Mapping[str, FileSource], under: Source) -> Source | str:
        from transformers.pytorch_utils import Conv1D

        transposed = isinstance(self._modules[module], Conv1D | torch.nn.Embedding)
        down, up = parts["A"], parts["B"]
        if len(down.shape) != 2 or len(up.shape) != 2 or down.shape[0] != up.shape[1]:
            return f"the factors of {module} are {list(down.shape)} and {list(up.shape)}"
        return LowRank(
            under=under,
            down=down,
            up=up,
            scale=scale_of(self._config, module, rank=down.shape[0]),
            transposed=transposed,
            magnitude=parts.get("magnitude"),
            diagonal=parts.get("E"),
            whole=self._whole,
        )

    def _rows(self, module: str, rows: FileSource, under: Source) -> Source | str:
        indices = token_indices(self._config, module)
        if len(indices) != rows.shape[0] or len(set(indices)) != len(indices):
            return f"{module} has {rows.shape[0]} trained rows, and its configuration {len(indices)} numbers"
        known = under.shape[0]
        new = sorted(index for index in indices if index >= known)
        if new != list(range(known, known + len(new))) or min(indices) < 0:
            return f"{module} has {known} rows there, and the adapter rows beyond them: {new[:3]}"
        places = np.full(known + len(new), -1, dtype=np.int64)
        places[list(indices)] = np.arange(len(indices))
        return TokenRows(under, rows, places)

    def _stored(self, name: str) -> str | None:
        return self._names.of(name) if name in self._parameters else None


def _read_whole(source: FileSource) -> torch.Tensor:
    return source.read(0, source.shape[0])
