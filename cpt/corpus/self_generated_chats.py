"""Sample conversations from a chat model: it writes the user's turn of its own template, then answers it.

A model that was tuned on conversations has learnt the user's turns too, so what it writes there follows the
distribution of its instructions (Magpie: Xu et al. 2024, arXiv 2406.08464).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from cpt.corpus.documents import Item, Removed
from cpt.corpus.readers.conversations import Conversations, TemplateRenderer
from cpt.corpus.self_generated import SPARE, Engine, Sample, keep, kept, load_for_prompts
from cpt.errors import Problem, StageFailed
from cpt.models.tokenizer import load_tokenizer
from cpt.progress import Progress

_MOST_DROPPED = 256
"""Number of samples in a row of which none can be kept, before sampling fails. If 2% can be kept, so many
fail by chance once in 170 times."""


def generate_chats(
    model_folder: Path,
    tokens: int,
    length: int,
    batch: int,
    temperature: float,
    seed: int,
    start_token: str | None,
    end_token: str | None,
    work: Path,
    progress: Progress,
    engine: Engine = "transformers",
    prompt_weight: float = 1.0,
) -> Iterator[Item]:
    """Sample conversations until those that are kept hold at least `tokens` tokens.

    An answer that the model has not ended is kept as far as it goes, and nothing marks its end. To leave it
    out would teach short answers. Conversations are removed as "cut_prompt" (the user's turn has not ended),
    "empty_prompt", "empty_answer", "long_prompt" (too few positions are left for an answer), or for a reason
    of `Conversations`.

    Args:
        tokens: Number of tokens in the turns, without those of the template.
        length: Largest number of tokens of both turns; the user's has at most half of them.
        batch: Number of conversations sampled at once.
        start_token: Token that the corpus puts before every document.
        end_token: Token that the corpus puts after every document; it ends a turn too.
        work: Folder in which finished batches are kept, so that they are not sampled again.
        engine: Library that samples.
        prompt_weight: Weight of the loss on all but the answers.

    Raises:
        StageFailed: The template or the model cannot be used for this.
    """
    work.mkdir(parents=True, exist_ok=True)
    renderer = TemplateRenderer(model_folder, start_token, end_token)
    reader = Conversations(("messages",), renderer, prompt_weight)
    sampler: _ChatSampler | None = None
    dropped: Counter[str] = Counter()  # reasons since the last one that was kept
    counts: Counter[str] = Counter()
    made = drawn = index = 0
    while made < tokens:
        file = work / f"batch-{index:05d}.json"
        each = made / drawn if drawn else length
        rows = min(batch, math.ceil((tokens - made) / each * SPARE)) if each else batch
        found = kept(file, Exchange)
        # another prompt_weight, which may remove others ("answer_not_found"), may have kept a larger batch
        if found is None or len(found) != rows:
            if sampler is None:
                turns = _Turns(model_folder, renderer, length)
                sampler = _ChatSampler(turns, model_folder, start_token, end_token, engine)
            found = sampler.sample(rows, length, temperature, seed + index)
            keep(file, found)
        for row, exchange in enumerate(found):
            item = _item(reader, f"chat-{index:05d}-{row:03d}", exchange)
            if isinstance(item, Removed):
                dropped[item.reason] += 1
                counts[item.reason] += 1
            else:
                made += exchange.tokens
                counts[_ENDED if exchange.ended else _UNFINISHED] += 1
                dropped.clear()
            yield item
        if dropped.total() >= _MOST_DROPPED:
            reasons = ", ".join(f"{reason} {count}" for reason, count in dropped.most_common())
            raise StageFailed(
                f"the model in {model_folder} writes no conversations: none of the last {dropped.total()} "
                f"samples can be used ({reasons})",
                hint="Give a larger length, or use form: text.",
            )
        drawn += len(found)
        if index == 0 or made >= tokens:
            progress.message(_described(counts))
        index += 1
        progress.update(min(made, tokens), tokens, "token")


_ENDED, _UNFINISHED = "ended", "unfinished"


def _described(counts: Counter[str]) -> str:
    """Return how many conversations are kept, and the others by reason."""
    whole, cut = counts[_ENDED], counts[_UNFINISHED]
    text = f"of {counts.total():,} sampled conversations {whole + cut:,} are kept, {cut:,} of them unfinished"
    reasons = [each for each in counts.most_common() if each[0] not in (_ENDED, _UNFINISHED)]
    return f"{text}; left out: {', '.join(f'{name} {n:,}' for name, n in reasons)}" if reasons else text


@dataclass(frozen=True)
class Exchange:
    """A sampled conversation of one turn of the user and its answer.

    Attributes:
        tokens: Number of sampled tokens, without those that end turns.
        ended: Whether the model ended the answer.
        fault: Reason for which it is dropped; empty if there is none.
    """

    prompt: str
    answer: str
    tokens: int
    ended: bool
    fault: str


def _item(reader: Conversations, id: str, exchange: Exchange) -> Item:
    """Return the conversation as a document, or removed with the reason."""
    if exchange.fault:
        return Removed(id, exchange.fault, f"{exchange.prompt}\n{exchange.answer}".strip())
    item = reader.item(id, {"messages": _messages(exchange.prompt, exchange.answer)}, ended=exchange.ended)
    assert not isinstance(item, Problem), "both messages have a role and a text"
    return item


def _messages(*turns: str) -> list[dict[str, str]]:
    return [{"role": role, "content": turn} for role, turn in zip(("user", "assistant"), turns, strict=False)]


_TEXT = "text7d1f0c93"
"""Stand-in for a message: where it is found in a rendered conversation, the message's text is written."""


class _Turns:
    """The places in a chat template where turns are written, and the tokens that end them.

    Attributes:
        opening: Token ids up to the user's text, with the system's turn if the template adds one.
        prompt_ends: Ids of the tokens that end the user's turn.
        answer_ends: Ids of the tokens that end the answer, besides those that end a document.
        special: Ids of all special tokens.
    """

    def __init__(self, model_folder: Path, renderer: TemplateRenderer, length: int) -> None:
        """Find them.

        Args:
            length: Largest number of tokens of both turns.

        Raises:
            StageFailed: The template refuses a user's message, ends it with no special token, or leaves too
                few positions of the model for both turns.
        """
        from cpt.models.chat_template import TemplateRefused
        from cpt.models.loading import settings

        self._renderer = renderer
        self._tokenizer: Tokenizer = load_tokenizer(model_folder)
        self._tokenizer.encode_special_tokens = False  # the template's special tokens are meant as such
        self._positions = getattr(settings(model_folder).get_text_config(), "max_position_embeddings", None)
        added = self._tokenizer.get_added_tokens_decoder().items()
        self._ids_of = {token.content: id for id, token in added if token.special}
        self.special = frozenset(self._ids_of.values())
        try:
            asked = renderer.prompt(_messages(_TEXT))
            answered = renderer.render(_messages("Hello.", _TEXT))
        except TemplateRefused as error:
            raise StageFailed(
                f"the chat template in {model_folder} refuses a conversation that the user begins: "
                f"{error.message}",
                hint=_USE_TEXT,
            ) from error
        opening, _, rest = asked.partition(_TEXT)
        self.prompt_ends, self.answer_ends = self._first(rest), self._first(answered.partition(_TEXT)[2])
        if not self.prompt_ends:
            raise StageFailed(
                f"the chat template in {model_folder} ends a user's turn with no special token, so the "
                "end of a sampled turn cannot be told",
                hint=_USE_TEXT,
            )
        # most tokenizers join a space to the word after it, so the model has to write the space too
        self.opening = self._ids(opening.rstrip(" "))
        own = len(self._ids(asked)) - len(self._ids(_TEXT))
        if self._positions and own + length > self._positions:
            raise StageFailed(
                f"conversations of {length} tokens and {own} tokens of the chat template are more than the "
                f"{self._positions} positions of the model",
                hint=f"Use length: {self._positions - own}.",
            )

    def _first(self, text: str) -> frozenset[int]:
        """Return the id of the special token that a text begins with, after white space; empty if none."""
        fitting = [token for token in self._ids_of if text.lstrip().startswith(token)]
        return frozenset(self._ids_of[token] for token in sorted(fitting, key=len)[-1:])

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def prompt(self, text: str) -> list[int]:
        """Return the ids of a conversation from its beginning to where the answer is written.

        Raises:
            TemplateRefused: The template fails at this text.
        """
        return self._ids(self._renderer.prompt(_messages(text)))

    def fits(self, prompt: Sequence[int], length: int) -> bool:
        """Return True if the positions suffice for an answer of a length.

        A text may have more tokens than were sampled of it.
        """
        return not self._positions or len(prompt) + length <= self._positions


_USE_TEXT = "Use form: text, or give the model another chat template."


class _ChatSampler:
    """A loaded model that samples batches of conversations."""

    def __init__(
        self,
        turns: _Turns,
        model_folder: Path,
        start_token: str | None,
        end_token: str | None,
        engine: Engine,
    ) -> None:
        self._turns = turns
        self._engine = load_for_prompts(engine, model_folder, start_token, end_token)

    def sample(self, batch: int, length: int, temperature: float, seed: int) -> list[Exchange]:
        """Sample the user's turns, then answers to those that can be used."""
        from cpt.models.chat_template import TemplateRefused

        turns = self._turns
        opening = turns.opening or [self._engine.marks.start]
        lengths = [length // 2] * batch
        asked = self._follow([opening] * batch, lengths, temperature, 2 * seed, turns.prompt_ends)
        faults = [_prompt_fault(sample) for sample in asked]
        prompts: dict[int, list[int]] = {}
        for row, sample in enumerate(asked):
            if not faults[row]:
                try:
                    prompts[row] = turns.prompt(sample.text.strip())
                except TemplateRefused:
                    faults[row] = "refused_by_template"
        for row in [row for row in prompts if not turns.fits(prompts[row], length - asked[row].tokens)]:
            faults[row] = "long_prompt"
            del prompts[row]
        lengths = [length - asked[row].tokens for row in prompts]
        said = self._follow(list(prompts.values()), lengths, temperature, 2 * seed + 1, turns.answer_ends)
        answers = dict(zip(prompts, said, strict=True))
        found = []
        for row, sample in enumerate(asked):
            answer = answers.get(row, Sample("", 0, ended=False))
            fault = faults[row] or ("" if answer.text.strip() else "empty_answer")
            tokens = sample.tokens + answer.tokens
            found.append(Exchange(sample.text.strip(), answer.text, tokens, answer.ended, fault))
        return found

    def _follow(
        self,
        prompts: list[list[int]],
        lengths: list[int],
        temperature: float,
        seed: int,
        ends: frozenset[int],
    ) -> list[Sample]:
        """Sample a turn after each prompt, up to any special token; `ends` and those of documents end it."""
        if not prompts:
            return []
        stops = self._engine.marks.special | self._turns.special | ends
        rows = self._engine.follow(prompts, lengths, temperature, seed, stops)
        return [self._engine.marks.read(row, stops, ends) for row in rows]


def _prompt_fault(sample: Sample) -> str:
    """Return the reason for which a user's turn cannot be used; empty if there is none."""
    if not sample.ended:
        return "cut_prompt"
    return "" if sample.text.strip() else "empty_prompt"
