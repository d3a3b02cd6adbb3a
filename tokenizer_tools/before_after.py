"""A tokenizer before and after a change: where text gets other tokens, and what must have stayed.

Text is compared in stretches: between two places where both tokenizers cut, with other tokens in between.
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
"""Whether a change makes the second tokens of what were the first."""

_BATCH = 256
_TEXT_END = sys.maxsize
_CHAT = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
]


@dataclass(frozen=True)
class BeforeAfter:
    """Two tokenizer folders, and the text on which they are compared."""

    old: Path
    new: Path
    texts: Sequence[str]

    @cached_property
    def before(self) -> Tokenizer:
        """The old tokenizer, reading special tokens in a text as plain text."""
        return load_tokenizer(self.old)

    @cached_property
    def after(self) -> Tokenizer:
        """The new tokenizer, reading special tokens in a text as plain text."""
        return load_tokenizer(self.new)

    @cached_property
    def old_ids(self) -> Mapping[str, int]:
        """Id of every old token."""
        return self.before.get_vocab(with_added_tokens=True)

    @cached_property
    def new_ids(self) -> Mapping[str, int]:
        """Id of every new token."""
        return self.after.get_vocab(with_added_tokens=True)

    def stretches(self) -> Iterator[tuple[list[str], list[str]]]:
        """The tokens before and after, of every stretch of text where they differ."""
        remaining = iter(self.texts)
        while batch := list(islice(remaining, _BATCH)):
            encoded = (
                tokenizer.encode_batch(batch, add_special_tokens=False)
                for tokenizer in (self.before, self.after)
            )
            for old, new in zip(*encoded, strict=True):
                yield from _stretches(old, new)

    def unexplained(self, explains: Explains) -> tuple[int, list[str]]:
        """How many stretches differ, and those of them that the change does not explain."""
        count, wrong = 0, []
        for old, new in self.stretches():
            count += 1
            if not explains(old, new):
                wrong.append(f"{old} became {new}, which the change does not explain")
        return count, wrong

    def other_round_trips(self) -> Iterator[str]:
        """Texts decoded otherwise than before, unless it is exactly, or with fewer unknown characters."""
        for text in self.texts:
            was, unknown_before = round_trip(self.before, text)
            found, unknown_after = round_trip(self.after, text)
            if found not in (was, text) and unknown_after >= unknown_before:
                yield f"{text[:40]!r} is decoded as {found[:40]!r}, formerly {was[:40]!r}"

    def other_special_tokens(self) -> Iterator[str]:
        """Added tokens that are gone or act otherwise, and special tokens of other roles."""
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
        """Texts that transformers encodes otherwise than tokenizer.json says, and did not before."""
        for text in texts:
            was, found = map(same_ids, self._loaded, (self.before, self.after), (text, text))
            if was and not found:
                yield f"transformers loads another tokenizer than {FILE}: {text[:40]!r} differs"

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        return load_for_transformers(self.old, self.old), load_for_transformers(self.new, self.old)


def load_for_transformers(folder: Path, model: Path) -> Any:
    """A folder's tokenizer as transformers loads it.

    Args:
        model: folder whose config.json, if it has one, names the kind of model.

    Raises:
        ModelError: it cannot be loaded.
    """
    return load_as_transformers(folder, settings(model) if (model / CONFIG).is_file() else None)


def same_ids(loaded: Any, tokenizer: Tokenizer, text: str) -> bool:
    """Whether transformers and tokenizer.json make the same of a text, special tokens not added."""
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    try:
        return bool(loaded.encode(text, add_special_tokens=False) == ids)
    except Exception:  # the tokenizers library raises bare ones, as where the class takes another model
        return False


def _framed(loaded: Any, text: str) -> Any:
    """Tokens of a text as transformers gives it to the model, or why it cannot."""
    try:
        return loaded.convert_ids_to_tokens(loaded.encode(text))
    except Exception as error:  # as in `same_ids`
        return str(error)


def chat(loaded: Any, folder: Path) -> tuple[str | None, str | None]:
    """What a tokenizer's chat template makes of a short chat, and the error if it cannot.

    Args:
        folder: where the tokenizer is from, for messages.

    Raises:
        ModelError: the template takes more time or memory than any needs.
    """
    if loaded.chat_template is None:
        return None, None
    try:
        return ChatTemplate(loaded, folder).render(_CHAT, to_be_continued=True), None
    except TemplateRefused as error:
        return None, error.message


def round_trip(tokenizer: Tokenizer, text: str) -> tuple[str, int]:
    """The text encoded and decoded, and how many of its characters lie in unknown tokens."""
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
    """Tokens in front of every place in the text, in characters, at which the tokenizer cuts.

    Tokens that stand for parts of one character are not cut apart.
    """
    offsets = encoding.offsets
    cuts = {
        end: at + 1 for at, ((_, end), (following, _)) in enumerate(pairwise(offsets)) if end <= following
    }
    return {**cuts, _TEXT_END: len(offsets)}
