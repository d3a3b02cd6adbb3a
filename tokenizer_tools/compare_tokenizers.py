"""Compare a tokenizer before and after a change: changed tokens of text, and what must have stayed.

A stretch of text lies between two places where both tokenizers cut, and has other tokens in between.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from tokenizers import Encoding, Tokenizer

from cpt.models.chat_template import ChatTemplate, TemplateRefused
from cpt.models.folder_files import CONFIG
from cpt.models.loading import settings
from cpt.models.tokenizer import FILE, load_as_transformers, load_tokenizer

Explains = Callable[[Sequence[str], Sequence[str]], bool]
"""Function of the old and the new tokens of a stretch: True if the change explains the new ones."""

_BATCH = 256
_TEXT_END = sys.maxsize
_CHAT = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
]


@dataclass(frozen=True)
class TokenizerComparison:
    """Two tokenizer folders, and the texts on which they are compared."""

    old: Path
    new: Path
    texts: Sequence[str]

    @cached_property
    def before(self) -> Tokenizer:
        """Return the old tokenizer; it reads special tokens in a text as plain text."""
        return load_tokenizer(self.old)

    @cached_property
    def after(self) -> Tokenizer:
        """Return the new tokenizer; it reads special tokens in a text as plain text."""
        return load_tokenizer(self.new)

    @cached_property
    def old_ids(self) -> Mapping[str, int]:
        """Return the id of every old token."""
        return self.before.get_vocab(with_added_tokens=True)

    @cached_property
    def new_ids(self) -> Mapping[str, int]:
        """Return the id of every new token."""
        return self.after.get_vocab(with_added_tokens=True)

    def stretches(self) -> Iterator[tuple[list[str], list[str]]]:
        """Yield the tokens before and after, for every stretch of text where they differ."""
        remaining = iter(self.texts)
        while batch := list(islice(remaining, _BATCH)):
            encoded = (
                tokenizer.encode_batch(batch, add_special_tokens=False)
                for tokenizer in (self.before, self.after)
            )
            for old, new in zip(*encoded, strict=True):
                yield from _stretches(old, new)

    def unexplained(self, explains: Explains) -> tuple[int, list[str]]:
        """Return the number of stretches that differ, and messages on the unexplained ones."""
        count, wrong = 0, []
        for old, new in self.stretches():
            count += 1
            if not explains(old, new):
                wrong.append(f"{old} became {new}, which the change does not explain")
        return count, wrong

    def other_round_trips(self) -> Iterator[str]:
        """Yield messages on texts that decode worse: neither exactly nor with fewer unknown characters."""
        for text in self.texts:
            was, unknown_before = round_trip(self.before, text)
            found, unknown_after = round_trip(self.after, text)
            if found not in (was, text) and unknown_after >= unknown_before:
                yield f"{text[:40]!r} is decoded as {found[:40]!r}, formerly {was[:40]!r}"

    def other_special_tokens(self) -> Iterator[str]:
        """Yield messages on added tokens that are gone or changed, and on changed roles of special tokens."""
        old, new = (
            {token.content: token for token in tokenizer.get_added_tokens_decoder().values()}
            for tokenizer in (self.before, self.after)
        )
        for content, token in old.items():
            if new.get(content) != token:
                yield f"{new.get(content)!r} was {token!r}"
        roles = [loaded.special_tokens_map for loaded in self._loaded]
        if roles[0] != roles[1]:
            yield f"special tokens are {roles[1]}, were {roles[0]}"
        for text in ("", "".join(old)):
            tokens = [_framed(loaded, text) for loaded in self._loaded]
            if tokens[0] != tokens[1]:
                yield f"{text!r} is framed as {tokens[1]}, was {tokens[0]}"
        chats = [
            chat(loaded, folder) for loaded, folder in zip(self._loaded, (self.old, self.new), strict=True)
        ]
        if chats[0] != chats[1]:
            yield f"the chat template makes {chats[1]}, made {chats[0]}"

    def otherwise_loaded(self, texts: Sequence[str]) -> Iterator[str]:
        """Yield messages on texts that transformers newly encodes unlike tokenizer.json."""
        for text in texts:
            was, found = map(same_ids, self._loaded, (self.before, self.after), (text, text))
            if was and not found:
                yield f"transformers loads another tokenizer than {FILE}: {text[:40]!r} differs"

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        return load_for_transformers(self.old, self.old), load_for_transformers(self.new, self.old)


def load_for_transformers(folder: Path, model: Path) -> Any:
    """Load a folder's tokenizer with transformers.

    Args:
        folder: Folder of the tokenizer.
        model: Folder whose config.json, if it has one, names the kind of model.

    Raises:
        ModelError: The tokenizer cannot be loaded.
    """
    return load_as_transformers(folder, settings(model) if (model / CONFIG).is_file() else None)


def same_ids(loaded: Any, tokenizer: Tokenizer, text: str) -> bool:
    """Return True if transformers and tokenizer.json give a text the same ids, special tokens not added."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    try:
        return bool(loaded.encode(text, add_special_tokens=False) == ids)
    except Exception:  # the tokenizers library raises bare exceptions, such as for a class of another model
        return False


def _framed(loaded: Any, text: str) -> Any:
    """Return the tokens that transformers gives a model for a text, or the message of its error."""
    try:
        return loaded.convert_ids_to_tokens(loaded.encode(text))
    except Exception as error:  # as in `same_ids`
        return str(error)


def chat(loaded: Any, folder: Path) -> tuple[str | None, str | None]:
    """Render a short chat by a tokenizer's chat template, and return the text and the error.

    Args:
        loaded: Tokenizer as transformers loads it.
        folder: Folder of the tokenizer, for messages.

    Raises:
        ModelError: The template takes more time or memory than any template needs.
    """
    if loaded.chat_template is None:
        return None, None
    try:
        return ChatTemplate(loaded, folder).render(_CHAT, to_be_continued=True), None
    except TemplateRefused as error:
        return None, error.message


def round_trip(tokenizer: Tokenizer, text: str) -> tuple[str, int]:
    """Encode and decode a text; return the result and the number of characters in unknown tokens."""
    encoding = tokenizer.encode(text, add_special_tokens=False)
    unknown = getattr(tokenizer.model, "unk_token", None)
    triples = zip(encoding.tokens, encoding.ids, encoding.offsets, strict=True)
    unknowns = sum(
        end - start
        for token, token_id, (start, end) in triples
        if token == unknown or tokenizer.id_to_token(token_id) != token  # Unigram shows the unknown text
    )
    return tokenizer.decode(encoding.ids, skip_special_tokens=False), unknowns


def _stretches(old: Encoding, new: Encoding) -> Iterator[tuple[list[str], list[str]]]:
    was, now = old.tokens, new.tokens
    if was == now:
        return
    cuts, new_cuts = _cuts(old), _cuts(new)
    common = sorted(cuts.keys() & new_cuts.keys())
    for start, end in pairwise([-1, *common]):
        stretch = was[cuts.get(start, 0) : cuts[end]]
        new_stretch = now[new_cuts.get(start, 0) : new_cuts[end]]
        if stretch != new_stretch:
            yield stretch, new_stretch


def _cuts(encoding: Encoding) -> dict[int, int]:
    """Map every cut, as a character position in the text, to the number of tokens before it.

    Tokens that stand for parts of one character are not cut apart.
    """
    offsets = encoding.offsets
    cuts = {
        end: at + 1 for at, ((_, end), (following, _)) in enumerate(pairwise(offsets)) if end <= following
    }
    return {**cuts, _TEXT_END: len(offsets)}
