"""Extend a tokenizer by tokens learnt on a corpus, check it, and write it as a Hugging Face folder.

Each kind of tokenizer learns in its own module: `bpe`, `unigram`, `wordpiece`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt.errors import DataError
from cpt.models.tokenizer import copy_settings, load_as_written, load_tokenizer, read_data, write_data
from tokenizer_tools import unigram_file, wordpiece_file
from tokenizer_tools.extension.bpe import check_bpe, learn_bpe
from tokenizer_tools.extension.continued_bpe import LearnedVocabulary, NewToken
from tokenizer_tools.extension.pair_merging import learn_unigram, learn_wordpiece
from tokenizer_tools.validation import GuardReport, check_extended


@dataclass(frozen=True)
class Extension:
    """An extended tokenizer.

    Attributes:
        before_size: tokens of the old tokenizer.
        tokens: the new tokens, in the order of their ids.
        merges: that were appended; 0 for kinds that have none.
        guards: what was checked.
    """

    before_size: int
    tokens: Sequence[NewToken]
    merges: int
    guards: GuardReport


def extend_tokenizer(
    folder: str | Path,
    texts: Iterable[str],
    output: str | Path,
    *,
    tokens: int,
    min_frequency: int = 2,
    ngrams: int = 1,
    samples: Sequence[str] = (),
    progress: Callable[[str], None] = lambda _: None,
) -> Extension:
    """Add `tokens` new tokens, learnt from texts, and check the result.

    Args:
        folder: tokenizer folder with a tokenizer.json.
        texts: the corpus to learn from, read once.
        output: folder that receives the extended tokenizer.
        min_frequency: what would save fewer tokens of the corpus is not taken.
        ngrams: words that a new token may span, at most; more than 1 only for BPE.
        samples: other text on which the guards compare segmentations before and after.
        progress: is told what is being done.

    Raises:
        DataError: the tokenizer is not one that can be extended so.
        StageFailed: the texts yield too few tokens, or a guard failed.
    """
    folder, output = Path(folder), Path(output)
    check_extendable(folder, ngrams=ngrams)
    learnt = _learn(folder, texts, tokens, min_frequency, ngrams, progress)
    progress("checking the extended tokenizer")
    output.mkdir(parents=True, exist_ok=True)
    _write(learnt, folder, output)
    return Extension(
        before_size=load_tokenizer(folder).get_vocab_size(),
        tokens=learnt.tokens,
        merges=learnt.extra,
        guards=check_extended(folder, output, samples),
    )


def check_extendable(folder: Path, *, ngrams: int = 1) -> None:
    """Check that a tokenizer is one that can be extended.

    Raises:
        DataError: it cannot be, or not by n-grams of so many words.
    """
    kind = _kind(folder)
    if ngrams > 1 and kind != "BPE":
        raise DataError(
            f"tokens that span words need a BPE tokenizer; the one in {folder} is {kind}",
            hint="Set ngrams to 1.",
        )
    if kind == "Unigram":
        unigram_file.read(folder)
    elif kind == "WordPiece":
        wordpiece_file.read(folder)
    else:
        check_bpe(folder, ngrams)


def why_not(folder: Path, *, ngrams: int = 1) -> str | None:
    """Why a tokenizer cannot be extended; None if it can."""
    try:
        check_extendable(folder, ngrams=ngrams)
    except DataError as error:
        return error.message
    return None


def _kind(folder: Path) -> str:
    return str((read_data(folder).get("model") or {}).get("type"))


def _learn(
    folder: Path,
    texts: Iterable[str],
    tokens: int,
    min_frequency: int,
    ngrams: int,
    progress: Callable[[str], None],
) -> LearnedVocabulary:
    kind = _kind(folder)
    if kind == "BPE":
        return learn_bpe(folder, texts, tokens, min_frequency, ngrams, progress)
    progress("learning tokens")
    learn = learn_unigram if kind == "Unigram" else learn_wordpiece
    return learn(folder, texts, tokens, min_frequency)


def _write(learnt: LearnedVocabulary, folder: Path, output: Path) -> None:
    """Write the tokenizer files of an extension of the folder's tokenizer."""
    copy_settings(folder, output)
    write_data(output, learnt.data)
    if _pre_tokenizer(output) != _pre_tokenizer(folder):
        load_as_written(output)


def _pre_tokenizer(folder: Path) -> Any:
    return json.loads(load_tokenizer(folder).to_str())["pre_tokenizer"]
