"""Extend a tokenizer by continued BPE and write it as a Hugging Face folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizer_tools import bpe_file
from tokenizer_tools.bpe_file import BpeFile
from tokenizer_tools.continued_bpe import Merge, count_words, learn
from tokenizer_tools.guards import GuardReport, check_extension

COPIED = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""Tokenizer files that stay as they are. vocab.json, merges.txt and tokenizer.model would contradict the
new tokenizer.json, so they are left out."""


@dataclass(frozen=True)
class Extension:
    """An extended tokenizer.

    Attributes:
        before: the tokenizer that was extended.
        merges: the appended merges by rank.
        pieces: for each new id the ids that the old tokenizer makes of the new token.
        guards: what was checked.
    """

    before: BpeFile
    merges: Sequence[Merge]
    pieces: Mapping[int, Sequence[int]]
    guards: GuardReport

    @property
    def new_tokens(self) -> list[Merge]:
        """The merges whose product is a new token, in the order of their ids."""
        return [merge for merge in self.merges if merge.new]


def extend_tokenizer(
    folder: Path,
    texts: Iterable[str],
    output: Path,
    *,
    tokens: int,
    min_frequency: int = 2,
    samples: Sequence[str] = (),
) -> Extension:
    """Add `tokens` new tokens, learnt from texts by continued BPE, and check the result.

    Args:
        folder: tokenizer folder with a BPE tokenizer.json.
        texts: the corpus to learn from.
        output: folder that receives the extended tokenizer.
        min_frequency: a pair that occurs less often is not merged.
        samples: other text on which the guards compare segmentations before and after.

    Raises:
        DataError: the tokenizer is not one that continued BPE can extend.
        StageFailed: the texts have too few frequent pairs, or a guard failed.
    """
    file = bpe_file.read(folder)
    tokenizer = bpe_file.load_tokenizer(folder)
    merges = learn(file, count_words(tokenizer, texts), tokens, min_frequency)
    output.mkdir(parents=True, exist_ok=True)
    data = file.extended(
        [(merge.left, merge.right) for merge in merges],
        {merge.token: merge.token_id for merge in merges if merge.new},
    )
    text = json.dumps(data, ensure_ascii=False, indent=2)
    (output / bpe_file.FILE).write_text(text, encoding="utf-8")
    for name in COPIED:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, output / name)
    return Extension(
        before=file,
        merges=merges,
        pieces={
            merge.token_id: [piece.id for piece in tokenizer.model.tokenize(merge.token)]
            for merge in merges
            if merge.new
        },
        guards=check_extension(folder, output, file, merges, samples),
    )
