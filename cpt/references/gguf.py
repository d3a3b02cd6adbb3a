"""GGUF files: converted once to a float32 safetensors folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cpt.errors import ModelError, ReferenceUnavailable
from cpt.progress import Progress
from cpt.references.cache import building, cache_folder, publish

CONVERTER = 1
"""Grows when the conversion gives another result; part of a converted model's fingerprint."""

_SINGLE_DIGITS = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
"""llama.cpp's pre-tokenizers that cut numbers into digits before GPT-2's split; transformers omits that."""


def convert(gguf: Path, sha256: str, progress: Progress) -> Path:
    """Hugging Face folder with a GGUF file's weights in float32 and its tokenizer.

    Args:
        sha256: Of the file's content; the conversion is kept in the cache under it.

    Raises:
        ReferenceUnavailable: The file is not a GGUF file, or of an architecture that cannot be converted.
        ModelError: It lacks weights of its model, or holds others.
    """
    target = cache_folder() / "gguf" / f"{sha256[:32]}-{CONVERTER}"
    if target.is_dir():
        return target
    with building(target) as scratch:
        if not target.is_dir():
            progress.message(f"converting {gguf.name} to safetensors (once)")
            built = scratch / "model"
            _convert(gguf, built)
            publish(built, target)
    return target


def convert_tokenizer(gguf: Path, sha256: str, progress: Progress) -> Path:
    """Folder with a GGUF file's tokenizer; the converted model's, if there is one already.

    Args:
        sha256: Of the file's content; the conversion is kept in the cache under it.

    Raises:
        ReferenceUnavailable: The file is not a GGUF file, or its tokenizer cannot be converted.
    """
    name = f"{sha256[:32]}-{CONVERTER}"
    model, target = cache_folder() / "gguf" / name, cache_folder() / "gguf_tokenizers" / name
    if model.is_dir() or target.is_dir():
        return model if model.is_dir() else target
    with building(target) as scratch:
        if not target.is_dir():
            progress.message(f"converting the tokenizer of {gguf.name} (once)")
            _check_magic(gguf)
            with _quiet(), _explained(gguf):
                _save_tokenizer(_load_tokenizer(gguf), scratch / "tokenizer")
            publish(scratch / "tokenizer", target)
    return target


def _convert(gguf: Path, folder: Path) -> None:
    _check_magic(gguf)
    import torch
    from transformers import AutoModelForCausalLM

    from cpt.models.completeness import load_whole

    with _quiet(), _explained(gguf):
        model = load_whole(
            AutoModelForCausalLM, str(gguf.parent), gguf, gguf_file=gguf.name, dtype=torch.float32
        )
        tokenizer = _load_tokenizer(gguf)
    tokenizer.model_max_length = model.config.max_position_embeddings
    for trace in ("quantization_config", "_model_name_or_path"):
        if hasattr(model.config, trace):
            delattr(model.config, trace)
    model.config._name_or_path = ""
    setattr(model, "hf_quantizer", None)  # noqa: B010 - else transformers refuses to save dequantised weights
    with _quiet():
        model.save_pretrained(folder)
        _save_tokenizer(tokenizer, folder)


def _check_magic(gguf: Path) -> None:
    with gguf.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ReferenceUnavailable(f"{gguf} is not a GGUF file", hint="Was it downloaded whole?")


@contextlib.contextmanager
def _explained(gguf: Path) -> Iterator[None]:
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # the reader raises whatever a damaged file makes it raise
        raise ReferenceUnavailable(
            f"cannot convert {gguf}: {type(error).__name__}: {error}",
            hint="If transformers does not know its architecture, name a safetensors folder instead.",
        ) from error


def _load_tokenizer(gguf: Path) -> Any:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name)
    if _pre_tokenizer(gguf) in _SINGLE_DIGITS:
        _cut_numbers_into_digits(tokenizer)
    return tokenizer


def _save_tokenizer(tokenizer: Any, folder: Path) -> None:
    tokenizer.save_pretrained(folder)
    _drop_local_traces(folder / "tokenizer_config.json")


def _pre_tokenizer(gguf: Path) -> str | None:
    from gguf import GGUFReader

    field = GGUFReader(gguf).get_field("tokenizer.ggml.pre")
    return str(field.contents()) if field else None


def _cut_numbers_into_digits(tokenizer: Any) -> None:
    from tokenizers import pre_tokenizers

    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def _drop_local_traces(config: Path) -> None:
    """Remove what only says how the tokenizer was loaded here."""
    facts = json.loads(config.read_text(encoding="utf-8"))
    kept = {key: value for key, value in facts.items() if key not in ("is_local", "local_files_only")}
    config.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence transformers' warnings and progress bars: an own message says what happens."""
    from transformers import modeling_gguf_pytorch_utils as reader

    from cpt.models.completeness import reports_left_to_us

    reader_bar, reader.tqdm = reader.tqdm, lambda items, **_: items  # this bar has no switch
    try:
        with reports_left_to_us():
            yield
    finally:
        reader.tqdm = reader_bar
