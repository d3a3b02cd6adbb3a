"""What must hold of an extended tokenizer, checked on the real files before any model is built on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from cpt.errors import StageFailed
from tokenizer_tools.bpe_file import FILE, BpeFile, load_tokenizer
from tokenizer_tools.continued_bpe import Merge, MergeTable, words_of

ADVERSARIAL = (
    "".join(map(chr, range(256))),
    "  two   three    four\t\ttabs\r\n\r\n\n  indent\n",
    " " * 300 + "x" + "\n" * 100,
    "naïve Ångström e\u0301 a\u0323\u0302 Z\u0351\u036b\u0343 ﬁ",
    "漢字かな交じり文。한국어 텍스트 ไทย हिन्दी العربية עברית",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪 ☃️ \U0001f9ec",
    "\x00\x01\x1f\x7f\u00a0\u00ad\u200b\u200d\u2028\ufeff\ufffd",
    "3.14159e-10 10^{-6} x_{ij}≤½ \u03b1-\u03b2 µg/mL CamelCaseHTTPServer don't I'LL",
)
"""Text on which tokenizers go wrong: bytes, space runs, combining marks, scripts without spaces, emoji."""

_SHOWN = 5


@dataclass(frozen=True)
class GuardReport:
    """What was checked.

    Attributes:
        reachable: new tokens whose own spelling is encoded as exactly that token.
        round_trips: texts decoded to what the old tokenizer decodes them to.
        words: words of old text that became what the old segmentation and the new merges make of them.
        special_tokens: added tokens whose ids and roles are as before.
    """

    reachable: int
    round_trips: int
    words: int
    special_tokens: int


def check_extension(
    old: Path, new: Path, file: BpeFile, merges: Sequence[Merge], samples: Sequence[str]
) -> GuardReport:
    """Check an extended tokenizer against the one it came from.

    Args:
        old, new: tokenizer folders.
        file: the old folder's tokenizer.json.
        merges: the merges that were appended.
        samples: text on which segmentations are compared, besides `ADVERSARIAL`.

    Raises:
        StageFailed: says which guards failed, with examples.
    """
    before, after = load_tokenizer(old), load_tokenizer(new)
    texts = [*ADVERSARIAL, *samples]
    failures = [
        *_unreachable(after, merges),
        *_changed_round_trips(before, after, texts),
        *_changed_special_tokens(old, new, after, file),
    ]
    words, changed = _compare_words(before, after, file, merges, texts)
    failures += changed
    if failures:
        raise StageFailed("the extended tokenizer fails its guards: " + "; ".join(failures[:_SHOWN]))
    return GuardReport(sum(merge.new for merge in merges), len(texts), words, len(file.added))


def _unreachable(after: Tokenizer, merges: Sequence[Merge]) -> Iterator[str]:
    model = after.model
    if hasattr(model, "ignore_merges"):
        model.ignore_merges = False  # a token must be reached by merges, not by being looked up
    for merge in merges:
        reached = [token.id for token in model.tokenize(merge.token)]
        if merge.new and reached != [merge.token_id]:
            yield f"the new token {merge.token!r} ({merge.token_id}) is encoded as {reached}"


def _changed_round_trips(before: Tokenizer, after: Tokenizer, texts: Sequence[str]) -> Iterator[str]:
    for text in texts:
        old, new = (
            tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids, skip_special_tokens=False)
            for tokenizer in (before, after)
        )
        if old != new:
            yield f"{text[:40]!r} is decoded as {new[:40]!r}, formerly {old[:40]!r}"


def _compare_words(
    before: Tokenizer, after: Tokenizer, file: BpeFile, merges: Sequence[Merge], texts: Sequence[str]
) -> tuple[int, list[str]]:
    """Number of words compared, and what is wrong with those that differ from what the merges say.

    A word in which no new merge applies is what it was: the merge table leaves it alone.
    """
    table = _table(file, merges)
    compared, wrong = 0, []
    for old_words, new_words in zip(words_of(before, texts), words_of(after, texts), strict=True):
        expected = [tuple(table.segment(word)) for word in old_words]
        compared += len(expected)
        if expected != new_words:
            at = next((i for i, (a, b) in enumerate(zip(expected, new_words, strict=False)) if a != b), -1)
            wrong.append(f"word {at} becomes {list(new_words[at])}, the merges make it {list(expected[at])}")
    return compared, wrong


def _table(file: BpeFile, merges: Sequence[Merge]) -> MergeTable:
    table, ids = MergeTable(file), dict(file.ids)
    for merge in merges:
        ids[merge.token] = merge.token_id
        table.add((ids[merge.left], ids[merge.right]), merge.token_id)
    return table


def _changed_special_tokens(old: Path, new: Path, after: Tokenizer, file: BpeFile) -> Iterator[str]:
    for content, token_id in file.added.items():
        if after.token_to_id(content) != token_id:
            yield f"{content!r} moved from id {token_id} to {after.token_to_id(content)}"
    loaded_old, loaded_new = (_load_for_transformers(folder) for folder in (old, new))
    if loaded_old.special_tokens_map != loaded_new.special_tokens_map:
        yield f"special tokens are {loaded_new.special_tokens_map}, were {loaded_old.special_tokens_map}"
    special = "".join(file.added)
    if loaded_old.encode(special) != loaded_new.encode(special):
        yield "special tokens in a text are encoded otherwise than before"
    for text in ADVERSARIAL:
        seen = loaded_new.encode(text, add_special_tokens=False)
        if seen != after.encode(text, add_special_tokens=False).ids:
            yield f"transformers loads another tokenizer than {FILE}: {text[:40]!r} differs"


def _load_for_transformers(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
