"""Change a BPE tokenizer's pre-tokenizer so that it leaves chosen n-grams of words in one piece.

A pre-tokenizer cuts text by a regular expression that is matched again and again, each time where the last
match ended. With the n-grams as a first alternative it matches one where it would have matched the n-gram's
first word, and continues where it would have continued after the last word. So all other text is cut as
before. The alternative does not match where the last word may continue. Of n-grams that start at the same
place the longest matches.

SentencePiece tokenizers that do not cut text get such an expression, which cuts between words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Any

from tokenizers import Tokenizer

from cpt.errors import DataError
from tokenizer_tools.bpe_file import (
    LETTER,
    MARK,
    BpeFile,
    Junction,
    continuation,
    cut_words,
    joined_in,
    marks_words,
    pieces,
    word_pattern,
)
from tokenizer_tools.byte_encoding import WORD_START, byte_encoding

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""Regular expression by which ByteLevel cuts text with `use_regex`."""

_AFTER_SPACED = r"(?![\p{L}\p{N}\p{M}'_])"
_FOLLOWING = ("", " ", "s", "S", "'s", ".", "1", "\n", "é", "\u0301", "_", "  x", " 1", "漢", "-x")
"""Texts put after each n-gram to check that they are cut as before."""

_SEVERAL_WORDS = re.compile(r"[^\W\d_] [^\W\d_]")

Component = Mapping[str, Any]


def leave_whole(file: BpeFile, ngrams: Sequence[str]) -> dict[str, Any]:
    """Return the `pre_tokenizer` entry of a tokenizer.json that does not cut n-grams.

    Args:
        file: Tokenizer to change.
        ngrams: Texts as the pre-tokenizer sees them: words with a space in front of each, or with "▁" if the
            normalizer or Metaspace puts one there.

    Raises:
        DataError: The pre-tokenizer is of a kind that cannot be changed in this way.
    """
    alternative = trie_pattern(ngrams)
    joined = joined_in(file.data["model"])
    steps: list[Component] = []
    cut = False
    for step in _steps(file.data.get("pre_tokenizer")):
        if any(len(_cut(step, ngram)) > 1 for ngram in ngrams):
            steps += _changed(step, alternative, joined)
            cut = True
        else:
            steps.append(step)
    if not cut:
        steps.append(_split_marked(alternative, joined))
    return {"type": "Sequence", "pretokenizers": steps} if len(steps) > 1 else dict(steps[0])


def trie_pattern(texts: Iterable[str]) -> str:
    """Return a regular expression for any of the texts, the longest first, that reads each character once."""
    root: dict[str, Any] = {}
    for text in texts:
        node = root
        for character in text:
            node = node.setdefault(character, {})
        node[""] = {}
    return _trie_pattern(root)


def _trie_pattern(node: Mapping[str, Any]) -> str:
    branches = [
        re.escape(character) + _trie_pattern(node[character]) for character in sorted(node) if character
    ]
    if not branches:
        return ""
    if len(branches) == 1 and "" not in node:
        return branches[0]
    return f"(?:{'|'.join(branches)}){'?' * ('' in node)}"


def surface_of(file: BpeFile) -> Callable[[str], bytes]:
    """Return a function that gives the bytes of a token.

    Raises:
        DataError: The tokenizer's byte encoding is unknown.
    """
    encoding = byte_encoding(file.data)
    if encoding is None:
        raise _cannot("its tokens cannot be read as text")
    return encoding.surface


def check_possible(file: BpeFile, tokenizer: Tokenizer) -> None:
    """Check that a tokenizer can get n-grams.

    Raises:
        DataError: Its pre-tokenizer cannot be changed in this way, or it has tokens of several words already.
    """
    surface = surface_of(file)
    for token in file.vocabulary:
        if "Ġ" in token[1:] or WORD_START in token[1:]:
            text = surface(token).decode(errors="replace")
            if _SEVERAL_WORDS.search(text):
                raise DataError(
                    f"the tokenizer has tokens of several words already: {text!r}", hint="Set ngrams to 1."
                )
    leave_whole(file, ["▁one▁two" if marks_words(tokenizer) else " one two"])


def check_cuts(before: Tokenizer, after: Tokenizer, ngrams: Mapping[str, str]) -> None:
    """Check that n-grams stay whole, and that text around them is cut as before.

    Args:
        before, after: Tokenizer without and with the changed pre-tokenizer.
        ngrams: Text of each n-gram by the piece that it should become.

    Raises:
        DataError: An n-gram, or text around it, is cut in another way.
    """
    cutting = cut_words(before)
    for piece, text in ngrams.items():
        for following in _FOLLOWING:
            old, new = pieces(cutting, f"x{text}{following}"), pieces(after, f"x{text}{following}")
            if not following and new != [old[0], piece]:
                raise _cannot(f"{text!r} is cut into {new[1:]}")
            if not is_joined(old, new, ngrams):
                raise _cannot(f"{text + following!r} would be cut into {new[1:]}")


def is_joined(old: Sequence[str], new: Sequence[str], ngrams: Collection[str]) -> bool:
    """Return True if the new pieces are the old ones, some of them joined to n-grams."""
    ends = set(accumulate(map(len, old)))
    return (
        "".join(old) == "".join(new)
        and ends.issuperset(accumulate(map(len, new)))
        and {*old, *ngrams}.issuperset(new)
    )


def _changed(step: Component, alternative: str, joined: frozenset[Junction]) -> list[Component]:
    """Return a step with the n-grams as its first alternative."""
    spaced = f"{alternative}{_AFTER_SPACED}"
    if step["type"] == "ByteLevel" and not step["add_prefix_space"]:
        return [_split(f"{spaced}|{GPT2_PATTERN}"), {**step, "use_regex": False}]
    if step["type"] == "Metaspace":
        cut_at_marks = frozenset(junction for junction in joined if junction[1] != MARK)
        return [{**step, "split": False}, _split_marked(alternative, cut_at_marks)]
    if step["type"] == "Split" and "Regex" in step["pattern"] and _keeps_matches(step):
        return [{**step, "pattern": {"Regex": f"{spaced}|{step['pattern']['Regex']}"}}]
    raise _cannot(f"{step['type']} cuts between words")


def _keeps_matches(split: Component) -> bool:
    return split["behavior"] == "Isolated" or (split["behavior"] == "Removed" and split["invert"])


def _cannot(reason: str) -> DataError:
    return DataError(
        f"the tokenizer's pre-tokenizer cannot be made to leave n-grams of words whole: {reason}",
        hint="Set ngrams to 1.",
    )


def _steps(component: Component | None) -> list[Component]:
    if component is None:
        return []
    if component["type"] == "Sequence":
        return [step for part in component["pretokenizers"] for step in _steps(part)]
    return [component]


def _split_marked(alternative: str, joined: frozenset[Junction]) -> dict[str, Any]:
    """Return a step that cuts words marked by "▁", except those of the alternative."""
    going_on = continuation(LETTER, joined)
    after = f"(?!{going_on})" if going_on else ""
    return _split(f"{alternative}{after}|{word_pattern(joined)}")


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _cut(step: Component, text: str) -> list[str]:
    empty = {"type": "BPE", "vocab": {}, "merges": []}
    return pieces(Tokenizer.from_str(json.dumps({"model": empty, "pre_tokenizer": step})), text)
