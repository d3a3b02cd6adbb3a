"""Give a model folder the embedding rows of an extended tokenizer, touching nothing but the embeddings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from cpt.model_folder import vocabulary, weights
from tokenizer_tools.bpe_file import load_tokenizer
from tokenizer_tools.embeddings import Method

GENERATION = "generation_config.json"


def extend_model(
    folder: Path,
    output: Path,
    pieces: Mapping[int, Sequence[int]],
    *,
    method: Method,
    pad_to_multiple_of: int,
) -> int:
    """Write the model with rows for new tokens into the folder that already holds the extended tokenizer.

    Rows of the old vocabulary are copied bit by bit, into each of the input embedding, the output
    embedding and its bias that the model stores; tied embeddings stay tied. Rows that pad the vocabulary
    are the mean of the old rows, so that their logits stay ordinary, and are never sampled.

    Args:
        folder: model folder.
        output: folder with the extended tokenizer; receives weights, config.json, generation_config.json.
        pieces: for each new id the old tokens that it is made of.
        method: how rows of new tokens are made.
        pad_to_multiple_of: the rows' number is rounded up to a multiple of this.

    Returns:
        The rows of the new embedding.
    """
    tensors = vocabulary.vocabulary_tensors(folder)
    stored = weights.stored_tensors(folder)
    needed = max(stored[tensors.input].shape[0], *(token_id + 1 for token_id in pieces))
    rows = -(-needed // pad_to_multiple_of) * pad_to_multiple_of
    replaced = {}
    for name in tensors.names:
        source = weights.load_tensor(stored[name], name)
        matrix = source if source.dim() == 2 else source[:, None]
        replaced[name] = extend_rows(matrix, pieces, rows, method).reshape(rows, *source.shape[1:])
    vocabulary.write_resized(folder, output, replaced, rows)
    vocabulary.check_shapes(output)
    _write_generation_config(folder, output, rows)
    return rows


def extend_rows(
    source_VH: torch.Tensor, pieces: Mapping[int, Sequence[int]], rows: int, method: Method
) -> torch.Tensor:
    """The source's rows, then rows of new tokens at their ids, then padding: [rows, H]."""
    extended = source_VH.new_empty(rows, source_VH.shape[1])
    extended[: len(source_VH)] = source_VH
    extended[len(source_VH) :] = source_VH.float().mean(0).to(source_VH.dtype)
    extended[list(pieces)] = method.rows(source_VH, list(pieces.values()))
    return extended


def _write_generation_config(folder: Path, output: Path, rows: int) -> None:
    """Keep the old generation settings; ids without a token are never sampled."""
    used = set(load_tokenizer(output).get_vocab(with_added_tokens=True).values())
    unused = sorted(set(range(rows)) - used)
    source = folder / GENERATION
    if source.is_file():
        settings = json.loads(source.read_text(encoding="utf-8"))
    else:
        config = vocabulary.read_config(folder)
        roles = ("bos_token_id", "eos_token_id", "pad_token_id")
        settings = {role: config[role] for role in roles if config.get(role) is not None}
    if unused:
        settings["suppress_tokens"] = sorted({*(settings.get("suppress_tokens") or ()), *unused})
        settings.pop(
            "_from_model_config", None
        )  # else transformers may derive the settings anew, without ours
    if settings:
        vocabulary.write_json(output / GENERATION, settings)
