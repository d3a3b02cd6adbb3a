"""Extend a BPE tokenizer: merges inside words by continued BPE, and merges of whole words if wanted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from tokenizers import Tokenizer

from cpt.errors import DataError
from cpt.models.tokenizer import load_tokenizer
from tokenizer_tools import bpe_file
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
from tokenizer_tools.extension.words import WordSequence, count_words


def check_bpe(folder: Path, ngrams: int = 1) -> None:
    """Check that a tokenizer can be extended.

    Raises:
        DataError: it cannot, or not by tokens that span words.
    """
    file = bpe_file.read(folder)
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
    """Learn new tokens.

    Args:
        folder: tokenizer folder.
        texts: the corpus.
        tokens: how many.
        min_frequency: what would save fewer tokens of the corpus is not taken.
        ngrams: words that a new token may span, at most.
        progress: is told what is being done.

    Raises:
        DataError: the tokenizer is no BPE that can be extended so.
        StageFailed: the corpus yields fewer.
    """
    file, tokenizer = bpe_file.read(folder), load_tokenizer(folder)
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
