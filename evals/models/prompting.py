"""Turn text into a model's tokens: the start token, the end token, and the chat template."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from cpt.atomic import write_text
from cpt.errors import UsageError
from cpt.models.chat_template import ChatTemplate, TemplateRefused
from cpt.models.tokenizer import FILE, SETTINGS, load_as_transformers, load_tokenizer
from cpt.references.cache import file_sha256

AUTO_START = "auto"
"""Start token that stands for the tokenizer's own, as in lm-eval."""


@dataclass(frozen=True)
class StartTokens:
    """Tokens before a text.

    Attributes:
        tokens: Ids before every text that nothing else precedes.
        empty: Id that stands for an empty context, so that a first token can be predicted.
    """

    tokens: tuple[int, ...]
    empty: int


@dataclass(frozen=True)
class _SpecialTokens:
    """A tokenizer's own special tokens.

    Attributes:
        before: Ids that it puts before a text.
        bos: Id of its start token, if any.
        eos: Id of its end token, if any.
    """

    before: tuple[int, ...]
    bos: int | None
    eos: int | None


class Prompting:
    """A model folder's tokenizer, start, end and chat template; the model itself is not needed.

    Attributes:
        start: Tokens before a text.
        end: Id of the tokenizer's end token, at which generation stops; None if it has none.
    """

    def __init__(
        self,
        folder: Path,
        start_token: str | None = AUTO_START,
        *,
        chat: bool = False,
        cache: Path | None = None,
    ) -> None:
        """Read a folder's tokenizer.

        Args:
            folder: Model folder.
            start_token: Token before every text, as it preceded every training document; None for no token;
                `AUTO_START` for the tokenizer's own.
            chat: Prompts in the model's chat template, whose special tokens are then read as such.
            cache: Folder that keeps a tokenizer's own start and end: to load it in transformers takes
                seconds.

        Raises:
            UsageError: The tokenizer has no such token or no chat template.
        """
        self.folder, self._cache = folder, cache
        self.tokenizer: Tokenizer = load_tokenizer(folder)
        self.tokenizer.encode_special_tokens = not chat
        own = self._special_tokens()
        self.end = own.eos
        self.start = (
            self._tokenizer_start(own) if start_token == AUTO_START else self._named_start(start_token, own)
        )
        if chat and not self.full.chat_template:
            raise UsageError(
                f"the tokenizer in {folder} has no chat template",
                hint="Evaluate without --chat, or add chat_template.jinja to the model's folder.",
            )

    @cached_property
    def full(self) -> Any:
        """Return the tokenizer as transformers loads it."""
        return load_as_transformers(self.folder)

    @cached_property
    def _chat(self) -> ChatTemplate:
        return ChatTemplate(self.full, self.folder)

    def _special_tokens(self) -> _SpecialTokens:
        """Return the tokenizer's special tokens, from the cache or by loading it in transformers."""
        if self._cache is None:
            return self._read_special_tokens()
        names = [name for name in (FILE, *SETTINGS) if (self.folder / name).is_file()]
        content = "".join(f"{name}\0{file_sha256(self.folder / name)}\n" for name in names)
        key = hashlib.sha256(f"{version('transformers')}\n{content}".encode()).hexdigest()[:32]
        file = self._cache / "starts" / f"{key}.json"
        with contextlib.suppress(OSError, ValueError, TypeError):
            before, bos, eos = json.loads(file.read_text(encoding="utf-8"))
            return _SpecialTokens(tuple(before), bos, eos)
        own = self._read_special_tokens()
        file.parent.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps([own.before, own.bos, own.eos]), durable=False, concurrent=True)
        return own

    def _read_special_tokens(self) -> _SpecialTokens:
        ids = self.full("a").input_ids
        plain = self.full("a", add_special_tokens=False).input_ids
        tokens = tuple(ids[: ids.index(plain[0])]) if plain and plain[0] in ids else ()
        return _SpecialTokens(tokens, self.full.bos_token_id, self.full.eos_token_id)

    def _tokenizer_start(self, own: _SpecialTokens) -> StartTokens:
        """Return the tokenizer's tokens before a text, and lm-eval's token for an empty context."""
        candidates = (own.bos, own.eos, *own.before)
        empty = next((token for token in candidates if token is not None), None)
        if empty is None:
            raise UsageError(
                f"the tokenizer in {self.folder} has neither a start nor an end token",
                hint="Name the token that precedes texts with --start-token.",
            )
        return StartTokens(own.before, empty)

    def _named_start(self, token: str | None, own: _SpecialTokens) -> StartTokens:
        if token is None:
            return StartTokens((), self._tokenizer_start(own).empty)
        found = self.tokenizer.token_to_id(token)
        if found is None:
            raise UsageError(
                f"the tokenizer in {self.folder} has no token {token!r}",
                hint=f"Use {AUTO_START} for what the tokenizer itself puts before a text, or none.",
            )
        return StartTokens((found,), found)

    def render(self, messages: Sequence[dict[str, str]], *, to_be_continued: bool) -> str:
        """Render a conversation in the chat template; a refused system message joins the first turn.

        Args:
            messages: Messages with `role` and `content`.
            to_be_continued: True if the model's turn comes next, False if its last message is continued.
        """
        try:
            return self._chat.render(messages, to_be_continued=to_be_continued)
        except TemplateRefused as error:
            without = [message for message in messages if message["role"] != "system"]
            if not error.by_itself or len(without) == len(messages):
                raise
            system = "\n\n".join(message["content"] for message in messages if message["role"] == "system")
            first = {**without[0], "content": f"{system}\n\n{without[0]['content']}"}
            joined = [first, *without[1:]]
            return self._chat.render(joined, to_be_continued=to_be_continued)
