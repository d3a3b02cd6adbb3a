"""Extend a tokenizer by tokens learned on texts, check it, and write it as a Hugging Face folder.

BPE learns merges inside words (`continued_bpe`), and merges of whole words on request (`ngrams`); Unigram and
WordPiece learn pieces (`pair_merging`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from cpt.errors import DataError
from cpt.models.tokenizer import copy_settings, load_as_written, load_tokenizer, read_data, write_data
from tokenizer_tools import bpe_file, unigram_file, wordpiece_file
from tokenizer_tools.bpe_file import BpeFile, cut_words
from tokenizer_tools.extension.continued_bpe import (
    LearnedVocabulary,
    NewToken,
    learn_up_to,
    segment_words,
    too_few,
)
from tokenizer_tools.extension.ngram_pre_tokenizer import check_cuts, check_possible, leave_whole
from tokenizer_tools.extension.ngrams import Choice, choose
from tokenizer_tools.extension.pair_merging import learn_unigram, learn_wordpiece
from tokenizer_tools.extension.words import WordSequence, count_words
from tokenizer_tools.validation import TokenizerChecks, check_extended


def check_bpe(folder: Path, ngrams: int = 1) -> None:
    """Check that a BPE tokenizer can be extended.

    Raises:
        DataError: It cannot be extended, or not by tokens that span words.
    """
    file = bpe_file.read_bpe(folder)
    tokenizer = load_tokenizer(folder)
    if looked_up := [token for token in file.added if file.looks_up(tokenizer, token)]:
        raise DataError(
            f"the tokenizer in {folder} looks up whole words, so its added token {looked_up[0]!r}, once "
            "among the others, would be made of plain text",
            hint="Turn ignore_merges off in tokenizer.json.",
        )
    if ngrams > 1:
        check_possible(file, tokenizer)


def learn_bpe(
    folder: Path,
    texts: Iterable[str],
    tokens: int,
    min_frequency: int,
    ngrams: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> LearnedVocabulary:
    """Learn new tokens of a BPE tokenizer.

    Args:
        folder: Tokenizer folder.
        texts: Texts to learn from.
        tokens: Number of new tokens.
        min_frequency: Lowest number of tokens of the texts that a new token saves.
        ngrams: Longest new token in words.
        progress: Receiver of messages.

    Raises:
        DataError: The tokenizer is no BPE that can be extended in this way.
        StageFailed: The texts yield fewer tokens.
    """
    file, tokenizer = bpe_file.read_bpe(folder), load_tokenizer(folder)
    choice = _choose(file, cut_words(tokenizer), texts, tokens, min_frequency, ngrams, progress)
    new = [merge for merge in choice.merges if merge.new]
    if len(new) < tokens:
        raise too_few(len(new), tokens, min_frequency)
    data = file.extended(
        [(merge.left, merge.right) for merge in choice.merges],
        {merge.token: merge.token_id for merge in new},
    )
    if choice.ngrams:
        data["pre_tokenizer"] = leave_whole(file, list(choice.ngrams.values()))
        check_cuts(tokenizer, Tokenizer.from_str(json.dumps(data)), choice.ngrams)
    learnt = [NewToken(merge.token, merge.token_id, merge.count) for merge in new]
    return LearnedVocabulary(data, learnt, extra=len(choice.merges))


def _choose(
    file: BpeFile,
    tokenizer: Tokenizer,
    texts: Iterable[str],
    tokens: int,
    min_frequency: int,
    ngrams: int,
    progress: Callable[[str], None],
) -> Choice:
    with WordSequence() as sequence:
        progress("counting words")
        words = count_words(tokenizer, texts, sequence=sequence if ngrams > 1 else None)
        progress(f"learning merges on {len(words):,} different words")
        inside = learn_up_to(file, segment_words(tokenizer, words), tokens, min_frequency)
        if ngrams == 1:
            return Choice(inside, {})
        progress("choosing n-grams of words")
        return choose(
            file, inside, words, sequence, tokens=tokens, min_frequency=min_frequency, longest=ngrams
        )


@dataclass(frozen=True)
class Extension:
    """An extended tokenizer.

    Attributes:
        before_size: Number of tokens of the old tokenizer.
        tokens: New tokens in the order of their ids.
        merges: Number of appended merges; 0 for kinds without merges.
        checks: Passed checks.
    """

    before_size: int
    tokens: Sequence[NewToken]
    merges: int
    checks: TokenizerChecks


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
    """Add new tokens learned from texts to a tokenizer, and check the result.

    Args:
        folder: Tokenizer folder with a tokenizer.json.
        texts: Texts to learn from, read once.
        output: Folder that receives the extended tokenizer.
        tokens: Number of new tokens.
        min_frequency: Lowest number of tokens of the texts that a new token saves.
        ngrams: Longest new token in words; more than 1 only for BPE.
        samples: Other texts on which the checks compare tokens before and after.
        progress: Receiver of messages.

    Raises:
        DataError: The tokenizer cannot be extended in this way.
        StageFailed: The texts yield too few tokens, or a check failed.
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
        checks=check_extended(folder, output, samples),
    )


def check_extendable(folder: Path, *, ngrams: int = 1) -> None:
    """Check that a tokenizer can be extended.

    Raises:
        DataError: It cannot be extended, or not by n-grams of words.
    """
    kind = _kind(folder)
    if ngrams > 1 and kind != "BPE":
        raise DataError(
            f"tokens that span words need a BPE tokenizer; the one in {folder} is {kind}",
            hint="Set ngrams to 1.",
        )
    if kind == "Unigram":
        unigram_file.read_unigram(folder)
    elif kind == "WordPiece":
        wordpiece_file.read_wordpiece(folder)
    else:
        check_bpe(folder, ngrams)


def why_not(folder: Path, *, ngrams: int = 1) -> str | None:
    """Return the reason why a tokenizer cannot be extended; None if it can."""
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
