"""Check what other tools make of a model whose vocabulary was changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from cpt.errors import CptError
from cpt.json_file import read_or_none
from cpt.models.loading import settings
from cpt.models.token_ids import GENERATION, SUPPRESSED
from cpt.models.tokenizer import load_tokenizer
from tokenizer_tools.compare_tokenizers import load_for_transformers, same_ids

_SHOWN = 8
_CUTTING = ("normalizer", "pre_tokenizer")
"""Parts of a tokenizer that cut text before tokens are looked up: llama.cpp has code of its own for each."""


@dataclass(frozen=True)
class Finding:
    """A finding on what another tool makes of a model.

    Attributes:
        what: Tool, or part of the model.
        right: True if it works as it is, False if something is to be done.
        text: Finding, and what to do.
    """

    what: str
    right: bool
    text: str


def compatibility(model: Path, texts: Sequence[str], base: Tokenizer | None) -> list[Finding]:
    """Return what transformers, vLLM and llama.cpp make of a model.

    Args:
        model: Folder of the model.
        texts: Texts on which tokenizers are compared.
        base: Tokenizer of its base; None if it is not at hand.
    """
    return [_transformers(model, texts), _rows(model), _gguf(load_tokenizer(model), base)]


def _transformers(model: Path, texts: Sequence[str]) -> Finding:
    tokenizer = load_tokenizer(model)
    try:
        loaded = load_for_transformers(model, model)
    except CptError as error:
        return Finding("transformers", False, f"the tokenizer does not load: {error.message}.")
    wrong = [text for text in texts if not same_ids(loaded, tokenizer, text)]
    if wrong:
        return Finding(
            "transformers",
            False,
            f"AutoTokenizer encodes {len(wrong)} of {len(texts)} texts otherwise than tokenizer.json.",
        )
    return Finding("transformers", True, f"AutoTokenizer encodes {len(texts)} texts as tokenizer.json does.")


def _rows(model: Path) -> Finding:
    """Return whether rows without a token can be generated: padding of the embedding matrix."""
    rows = int(settings(model).get_text_config().vocab_size)
    tokens = set(load_tokenizer(model).get_vocab(with_added_tokens=True).values())
    empty = [row for row in range(rows) if row not in tokens]
    if not empty:
        return Finding("vLLM", True, "every row of the embeddings has a token.")
    generation = read_or_none(model / GENERATION, dict) or {}
    suppressed = set(generation.get(SUPPRESSED) or ()) >= set(empty)
    shown = ", ".join(map(str, empty[:_SHOWN])) + (", …" if len(empty) > _SHOWN else "")
    here = f"{GENERATION} suppresses them in transformers" if suppressed else "nothing suppresses them"
    return Finding(
        "vLLM",
        False,
        f"{len(empty):,} rows of the embeddings have no token (ids {shown}). {here}; vLLM does not read that "
        "setting: give these ids a logit_bias of -100.",
    )


def _gguf(own: Tokenizer, base: Tokenizer | None) -> Finding:
    """Return a finding on llama.cpp's converter and a tokenizer."""
    if base is None:
        return Finding(
            "llama.cpp",
            False,
            "the base's tokenizer is not at hand, so that it is not known whether this one converts as the "
            "base's does.",
        )
    changed = _differing(own, base)
    if not changed:
        return Finding("llama.cpp", True, "the vocabulary is the base's: it converts as the base does.")
    if cutting := [part for part in changed if part in _CUTTING]:
        return Finding(
            "llama.cpp",
            False,
            f"the tokenizer has another {' and another '.join(cutting)} than the base's, so that it "
            "cuts text otherwise: do not enter it under the name of the base's tokenizer. It converts "
            "only if llama.cpp has a name for one that cuts text as this does; compare ids before use.",
        )
    return Finding(
        "llama.cpp",
        False,
        "its converter knows how a BPE tokenizer cuts words by a checksum of encoded text, and a changed "
        "vocabulary has another one. Where it stops with `BPE pre-tokenizer was not recognized`, enter the "
        "checksum that it prints under the name of the base's tokenizer.",
    )


def _differing(own: Tokenizer, base: Tokenizer) -> list[str]:
    """Return the parts in which two tokenizers differ: vocabulary, added tokens, how text is cut."""
    ours, theirs = json.loads(own.to_str()), json.loads(base.to_str())
    return [part for part in ("model", "added_tokens", *_CUTTING) if ours.get(part) != theirs.get(part)]
