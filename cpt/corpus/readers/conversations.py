"""Read conversations and prompts with completions as text in the base model's chat template.

Special tokens of the text are the template's alone: a message that spells one would end its turn or pose
as another's, so its conversation is removed ("special_token_in_message").

The loss on all but the assistant's messages may have a weight. An answer begins where the template, asked for
the next turn, ends, and ends before the white space that the template puts after it: the token that ends the
turn is learnt with the answer. Some templates render an answer differently when later turns follow (Qwen3
drops its reasoning). Such conversations are removed ("answer_not_found") rather than trained on with other
weights.
"""

from __future__ import annotations

import html
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from cpt.corpus.documents import Document, Item, Removed, json_value
from cpt.corpus.readers.files import quoted, shown
from cpt.corpus.readers.records import is_broken, json_type, too_deep
from cpt.errors import DataError, Problem

_ROLES = {"human": "user", "gpt": "assistant"}
"""Roles of the form with `from` and `value` (ShareGPT) that have another name in templates."""

_KNOWN = ("system", "developer", "user", "assistant", "tool")


class TemplateRenderer:
    """A base model's chat template, with the tokens that the corpus puts before and after every document.

    The template's own start and end are taken off where the corpus adds the same tokens.
    """

    def __init__(self, model: Path, start_token: str | None, end_token: str | None) -> None:
        """Take a model folder; its template is loaded with the first conversation.

        Args:
            start_token: Token before every document; None for none.
            end_token: Token after every document; None for none.
        """
        self._model, self._start, self._end = model, start_token, end_token

    @cached_property
    def special(self) -> tuple[str, ...]:
        """Return the spellings that the tokenizer reads as one added token."""
        from cpt.models.tokenizer import load_tokenizer

        added = load_tokenizer(self._model).get_added_tokens_decoder().values()
        return tuple(token.content for token in added if token.special)

    @cached_property
    def _tokenizer(self) -> Any:
        from cpt.models.tokenizer import load_as_transformers

        return load_as_transformers(self._model)

    @cached_property
    def _template(self) -> Any:
        from cpt.models.chat_template import ChatTemplate, TemplateRefused

        try:
            return ChatTemplate(self._tokenizer, self._model)
        except TemplateRefused as error:
            raise DataError(f"{self._model}: {error.message}", hint=NO_TEMPLATE) from error

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """Render a finished conversation, without the tokens that the corpus adds.

        Raises:
            TemplateRefused: The template fails at it.
            ModelError: The template takes more time or memory than any needs.
        """
        text: str = self._template.render_whole(messages)
        text = text[self._added(text) :]
        if self._end and text.rstrip().endswith(self._end):
            text = text.rstrip().removesuffix(self._end)
        return text

    def prompt(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """Render a conversation up to where the model's next message begins, as a model is to read it.

        The template's own start is not taken off.

        Raises:
            TemplateRefused: The template fails at it.
            ModelError: The template takes more time or memory than any needs.
        """
        text: str = self._template.render(messages, to_be_continued=True)
        return text

    def unfinished(self, messages: Sequence[Mapping[str, Any]]) -> tuple[str, int]:
        """Render a conversation whose last message is the assistant's and may go on.

        Returns:
            The text without the token that the corpus adds before it, and where the last message begins.

        Raises:
            as `prompt`.
        """
        asked, said = self.prompt(messages[:-1]), messages[-1]["content"].strip()
        before, whole = asked.rstrip(), self._template.render_whole(messages)
        space, found, _ = whole[len(before) :].partition(said)
        if not (whole.startswith(before) and found) or space.strip():
            # the template writes more than white space before it (Qwen3 closed thoughts, before open ones)
            before, space = asked, ""
        removed = self._added(before)
        begin = min(len(asked), len(before + space))
        return f"{before}{space}{said}"[removed:], begin - removed

    def _added(self, text: str) -> int:
        """Return the length of the start of a rendered text that the corpus adds itself."""
        return len(self._start) if self._start and text.startswith(self._start) else 0

    def answers(self, messages: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]] | None:
        """Return where the assistant's messages begin and end in the result of `render`.

        Returns:
            Pairs of places in characters, in order; None if they cannot be found.

        Raises:
            TemplateRefused: The template fails at a part of the conversation.
        """
        whole: str = self._template.render_whole(messages)
        removed, length = self._added(whole), len(self.render(messages))
        ending: str = self._tokenizer.eos_token or ""
        found = []
        for number, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            # most templates fail at no messages; what comes before a first answer is left to it
            asked: str = self._template.render(messages[:number], to_be_continued=True) if number else ""
            answered: str = self._template.render_whole(messages[: number + 1]).rstrip()
            answered = answered.removesuffix(ending).rstrip()  # some templates end every text with it
            if not (whole.startswith(answered) and answered.startswith(asked.rstrip())):
                return None
            begin, end = max(len(asked) - removed, 0), len(answered)
            following = whole[end:].lstrip()
            if ending and following.startswith(ending):  # others every turn
                end = len(whole) - len(following) + len(ending)
            found.append((begin, max(begin, min(end - removed, length))))
        return found


NO_TEMPLATE = (
    "Conversations need the template that the model is to answer in: add chat_template.jinja to the base's "
    "folder, or write the text out and read it as a field of text."
)


class Conversations:
    """A reader of one conversation per record: a list of messages, or a prompt and its completion.

    Attributes:
        fields: Field with the messages, or those with the prompt and the completion.
    """

    def __init__(
        self, fields: tuple[str, ...], renderer: TemplateRenderer, prompt_weight: float = 1.0
    ) -> None:
        """Take a chat template.

        Args:
            prompt_weight: Weight of the loss on all but the assistant's messages.
        """
        self.fields, self._renderer, self._prompt_weight = fields, renderer, prompt_weight

    def item(self, id: str, record: Mapping[str, Any], *, ended: bool = True) -> Item | Problem:
        """Return a record's conversation as a document, or removed with the reason.

        If it has not ended, its last message is the assistant's, and nothing follows this in the document.
        The reasons: "empty", "message_without_content", "content_not_text" (pictures),
        "special_token_in_message", "refused_by_template", "no_answer", "answer_not_found".
        """
        from cpt.models.chat_template import TemplateRefused

        messages = self._messages(record)
        if isinstance(messages, Problem):
            return messages
        if not messages:
            return Removed(id, "empty")
        try:
            texts = _strings(json_value(messages))
        except RecursionError:
            return too_deep(self.fields[0])
        if any(map(is_broken, texts)):
            return Problem("a message holds half of a surrogate pair, which is not a character")
        said = "\n".join(str(message.get("content") or "") for message in messages)
        for message in messages:  # templates would write "None" or a picture's address
            content = message["content"]
            if content is None and len(message) == 2:
                return Removed(id, "message_without_content", said)
            if content is not None and not isinstance(content, str):
                return Removed(id, "content_not_text")
        if token := self._spelt(texts):
            return Removed(id, "special_token_in_message", said, detail=token)
        try:
            answers: list[tuple[int, int]] | None
            if ended:
                text = self._renderer.render(messages)
                answers = self._renderer.answers(messages) if self._prompt_weight != 1 else []
            else:
                text, begin = self._renderer.unfinished(messages)
                answers = [(begin, len(text))]
            if self._prompt_weight == 1:
                return Document(id, text, ended=ended, marked=True)
        except TemplateRefused as error:
            return Removed(id, "refused_by_template", said, detail=error.message[:200])
        if not answers:
            return Removed(id, "no_answer" if answers == [] else "answer_not_found", said)
        weights = self._weights(answers, len(text))
        return Document(id, text, ended=ended, marked=True, loss_weights=weights)

    def _weights(self, answers: Sequence[tuple[int, int]], length: int) -> tuple[tuple[int, float], ...]:
        """Return the weights of a text of `length` characters: 1 on answers, else the prompt's."""
        runs = [run for begin, end in answers for run in ((begin, self._prompt_weight), (end, 1.0))]
        if runs[-1][0] < length:
            runs.append((length, self._prompt_weight))
        return tuple(runs)

    def _messages(self, record: Mapping[str, Any]) -> list[dict[str, Any]] | Problem:
        if len(self.fields) == 1:
            return _listed(self.fields[0], record[self.fields[0]])
        found: list[dict[str, Any]] = []
        for name, role in zip(self.fields, ("user", "assistant"), strict=True):
            value = record[name]
            if value is None or value == "":
                return []
            messages = [{"role": role, "content": value}] if isinstance(value, str) else _listed(name, value)
            if isinstance(messages, Problem):
                return messages
            found += messages
        return found

    def _spelt(self, texts: Sequence[str]) -> str | None:
        """Return the first special token that anything in the messages spells, also once it is cleaned.

        Blocks that repair text make one of `&lt;/s&gt;`, or of full-width signs.
        """
        for text in texts:
            if text in _KNOWN:
                continue
            repaired = unicodedata.normalize("NFKC", html.unescape(text))
            bare = "".join(each for each in repaired if unicodedata.category(each) not in ("Cc", "Cf"))
            for token in self._renderer.special:
                if token in text or token in repaired or token in bare:
                    return token
        return None


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for key, inner in value.items() for text in [str(key), *_strings(inner)]]
    return [text for inner in value for text in _strings(inner)] if isinstance(value, list | tuple) else []


def _listed(name: str, value: Any) -> list[dict[str, Any]] | Problem:
    """Return a field's messages with `role` and `content`; those without a value have fewer keys."""
    if value is None:
        return []
    if not isinstance(value, list):
        return Problem(
            f"field {quoted(name)} holds {json_type(value)}, not a list of messages",
            hint="A message is an object with role and content, or with from and value.",
        )
    messages = []
    for number, message in enumerate(value, start=1):
        role = message.get("role") or message.get("from") if isinstance(message, Mapping) else None
        if not isinstance(role, str):
            return Problem(
                f"message {number} of field {quoted(name)} has no role",
                hint="A message is an object with role and content, or with from and value.",
            )
        role = _ROLES.get(role, role)
        if role not in _KNOWN:
            return Problem(
                f"message {number} of field {quoted(name)} has the unknown role {shown(role)}",
                hint=f"Known roles: {', '.join([*_KNOWN, *_ROLES])}.",
            )
        others = {
            key: inner
            for key, inner in message.items()
            if key not in ("role", "from", "value", "content") and inner is not None
        }
        content = message.get("content") if "role" in message else message.get("value")
        messages.append({"role": role, "content": content, **others})
    return messages
