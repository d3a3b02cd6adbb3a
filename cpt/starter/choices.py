"""Choose the settings of a first recipe from facts about text, machine and time, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from cpt.corpus.self_generated import SAMPLED_COST
from cpt.errors import UsageError
from cpt.formatting import number, plural
from cpt.starter.text_facts import TextFacts
from cpt.training.schedules.phases import enough_warmup

FAR, NEAR = 0.75, 0.9
"""Bytes per token, relative to general text, below which a text is far from what the model knows.

A text in another language is far below `NEAR` already.
"""

TRAINING_SHARE = 0.65
"""Share of the time for training and for sampling replay.

Probes take 5 to 10%, vocabulary, search of the merge weight and evaluation a quarter (as in the quickstart).
"""

EPOCHS = 4
"""Passes over a text up to which repeated tokens are worth nearly as much as new ones.

Muennighoff et al. 2023, arXiv 2305.16264, section 5.
"""

FEWEST_STEPS, MOST_STEPS = 20, 300
"""Steps below which a warm-up and a decay have no room, and above which batches grow before steps do."""


FEWEST_DOCUMENTS, MOST_HELD_OUT = 16, 0.2
"""Documents to hold out at least, and the largest share of the text that they may be.

The search of the merge weight reads one half of them, the report the other. With fewer than eight documents
in a half no gate can act.
"""

_FEWEST_ITEMS = 8
"""Items of the continuation task below which it is left out: with fewer, no difference is ever shown."""

SHORT_RUN = 100_000
"""Tokens below which a run is so short that its rate must be high.

12 steps of 24,000 tokens learnt a fifth more at a peak of 3e-4 than at 1e-4 (docs/decide/rate.md).
"""

_SHORTEST, _LONGEST = 256, 1024
_SHORTEST_CHUNK, _LONGEST_CHUNK = 1_000, 8_000
_FEWEST_READ, _MOST_READ = 2_048, 8_192
_SMALLEST_BATCH, _LARGEST_BATCH = 8, 64


@dataclass(frozen=True)
class Wishes:
    """The wishes of a user.

    Attributes:
        hours: Time for the whole recipe.
        language: Code of the text's language; None to tell it from the text.
        replay: True if replay text is given; else the model samples its own.
        suites: Benchmark suites to evaluate by, with their levels.
    """

    hours: float
    language: str | None = None
    replay: bool = False
    suites: Sequence[str] = ()


@dataclass(frozen=True)
class BaseFacts:
    """Facts about the model that is adapted.

    Attributes:
        general_bytes_per_token: Bytes per token of general text in its tokenizer.
        positions: Most positions that it has; None without a limit.
    """

    general_bytes_per_token: float
    positions: int | None


@dataclass(frozen=True)
class Training:
    """The speed and memory of a machine.

    Attributes:
        name: Name of the device.
        tokens_per_second: Training speed.
        micro_batch: Sequences that fit at once.
        checkpointing: True if they only fit with gradient checkpointing.
    """

    name: str
    tokens_per_second: float
    micro_batch: int
    checkpointing: bool


@dataclass(frozen=True)
class Choices:
    """Settings of a recipe; `reasons` has a sentence for each that needs one, by its name.

    Attributes:
        tokens: Training tokens, replay included.
        peak: Highest learning rate.
        epochs: Passes over the text that the tokens make, rounded up.
        batch, micro_batch: Sequences per step, and those that go through the model at once.
        replay: Share of replay rows in a batch.
        sampled: Tokens of replay that the model samples; 0 where replay text is given.
        new_tokens: Tokens that the vocabulary gets; 0: none.
        distil: True if their embeddings are distilled, which takes minutes.
        continuation: True if a task asks for the continuation of held-out documents.
        limit: Largest rise of general text in bits per byte.
        probe_every, probe_tokens: Steps between readings, and tokens of each text that they read.
    """

    sequence_length: int
    heldout: float
    tokens: int
    peak: float
    epochs: int
    batch: int
    micro_batch: int
    replay: float
    sampled: int
    new_tokens: int
    distil: bool
    continuation: bool
    limit: float
    warmup: float
    probe_every: int
    probe_tokens: int
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """Return the number of optimizer steps."""
        return math.ceil(self.tokens / (self.batch * self.sequence_length))


def sequence_length(facts: TextFacts, tokens: float, positions: int | None) -> int:
    """Return the length of packed sequences: twice the median document, from 256 to 1,024 tokens.

    Where a run is so short that it would have fewer than twice `FEWEST_STEPS` steps, it is less.

    Args:
        tokens: Training tokens of the run.
        positions: Most positions of the model; None if it has no limit.
    """
    length = min(_LONGEST, max(_SHORTEST, 1 << (2 * facts.median_tokens - 1).bit_length()))
    while length > _SHORTEST and tokens < 2 * FEWEST_STEPS * _SMALLEST_BATCH * length:
        length //= 2
    return min(length, positions or length)


def is_far(facts: TextFacts, base: BaseFacts, language: str | None) -> bool:
    """Return True if a text is far from what the base was trained on.

    Args:
        facts: Facts about the text.
        base: Facts about the model.
        language: Language of the text, if known.
    """
    relative = facts.bytes_per_token / base.general_bytes_per_token
    return relative < (NEAR if language not in (None, "en") else FAR)


def choose(facts: TextFacts, base: BaseFacts, wishes: Wishes, training: Training) -> Choices:
    """Choose the settings.

    Args:
        facts: Facts about the domain's text.
        base: Facts about the model.
        wishes: Time, language, replay and suites.
        training: Speed and memory of the machine.

    Raises:
        UsageError: The time or the text allows no training worth the name, or no held-out text.
    """
    reasons: dict[str, str] = {}
    language = wishes.language or facts.language
    far, general = is_far(facts, base, language), base.general_bytes_per_token
    heldout = heldout_share(facts)
    reasons["heldout"] = f"{round(heldout * facts.documents):,} documents to measure on, never trained on"
    share = 0.25 if far else 0.05
    compared = f"{facts.bytes_per_token:.2f} bytes per token here, {general:.2f} in general text"
    cost = 1 if wishes.replay else 1 + SAMPLED_COST * share
    affordable = wishes.hours * 3600 * TRAINING_SHARE / cost * training.tokens_per_second
    available = facts.tokens * (1 - heldout) * EPOCHS / (1 - share) if facts.complete else math.inf
    length = sequence_length(facts, min(affordable, available), base.positions)
    reasons["sequence_length"] = f"half of the documents have {facts.median_tokens:,} tokens or less"
    batch = _batch(min(affordable, available), length)
    share = max(share, 1 / batch)
    tokens = _rounded(min(affordable, available))
    if tokens < FEWEST_STEPS * batch * length:
        need = FEWEST_STEPS * batch * length
        if affordable < available:
            hours = wishes.hours * need / affordable
            raise UsageError(
                f"{wishes.hours:g} hours are {number(affordable)} tokens on {training.name}: fewer than "
                f"{FEWEST_STEPS} steps",
                hint=f"Give at least {hours:.1g} hours, or take a smaller model.",
            )
        raise UsageError(
            f"the text has {number(facts.tokens)} tokens: four passes are fewer than {FEWEST_STEPS} steps",
            hint="Add text, or write a recipe by hand (cpt init --template medical).",
        )
    fresh = facts.tokens * (1 - heldout)
    epochs = max(1, math.ceil(tokens * (1 - share) / fresh)) if facts.complete else 1
    bound = (
        f"what {wishes.hours:g} hours allow at {number(training.tokens_per_second)} tokens a second"
        if affordable < available
        else f"{EPOCHS} passes over the text, after which repeated text teaches little"
    )
    reasons["tokens"] = bound
    what = "another language" if language not in (None, "en") else "a text far from what the model knows"
    reasons["replay"] = (
        f"{what} needs about 25% ({compared})" if far else f"a weak shift needs about 5% ({compared})"
    ) + (f"; one row of {batch} is the least" if share == 1 / batch else "")
    new, distil = _new_tokens(far, facts.bytes_per_token / general, tokens)
    reasons["vocabulary"] = (
        f"{compared}; a shorter text costs less to train on and to read"
        if new
        else f"{compared}, and {number(tokens)} tokens: new tokens would cost more than they give"
    )
    steps = math.ceil(tokens / (batch * length))
    reasons["batch"] = plural(steps, "step")
    peak, reasons["peak"] = peak_rate(tokens)
    return Choices(
        sequence_length=length,
        heldout=heldout,
        tokens=tokens,
        peak=peak,
        epochs=epochs,
        batch=batch,
        micro_batch=_micro_batch(batch, training.micro_batch),
        replay=share,
        sampled=0 if wishes.replay else _sampled(share * tokens),
        new_tokens=new,
        distil=distil,
        continuation=heldout * facts.documents / 2 * facts.continuable >= _FEWEST_ITEMS,
        limit=0.02 if far else 0.01,
        warmup=enough_warmup(steps),
        probe_every=max(5, steps // 20),
        probe_tokens=probe_tokens(tokens),
        reasons=reasons,
    )


def chunk_length(facts: TextFacts) -> int | None:
    """Return the characters of the chunks that a few long documents are cut into; None if they stay whole.

    Chunks are as long as two of the longest sequences, or as short as twice the fewest documents need.
    """
    fewest = math.ceil(FEWEST_DOCUMENTS / MOST_HELD_OUT)
    if facts.documents >= fewest:
        return None
    length = min(_LONGEST_CHUNK, facts.characters // (2 * fewest))
    return length // 100 * 100 if length >= _SHORTEST_CHUNK else None


def heldout_share(facts: TextFacts) -> float:
    """Return the share of the documents to hold out: 10% of few, 1% of many, at least `FEWEST_DOCUMENTS`.

    Raises:
        UsageError: They would be more than a fifth of the text.
    """
    needed = FEWEST_DOCUMENTS / facts.documents
    if needed > MOST_HELD_OUT:
        raise UsageError(
            f"the text has {plural(facts.documents, 'document')}: too few to hold out {FEWEST_DOCUMENTS} of "
            "them, without which nothing can be measured",
            hint=f"Give at least {math.ceil(FEWEST_DOCUMENTS / MOST_HELD_OUT)}, or longer ones: they are cut "
            "into chunks.",
        )
    usual = 0.1 if facts.documents < 1_000 else 0.04 if facts.documents < 10_000 else 0.01
    return max(usual, math.ceil(1_000 * needed) / 1_000)


def probe_tokens(tokens: int) -> int:
    """Return the tokens that a reading reads of each text, by the training tokens of the run.

    The first and the last reading of two texts are four times as many, each for a third of a training token's
    time. With a sixteenth of the run they take less than a tenth of it. 2,048 are at least eight passages,
    without which no gate can act.
    """
    return max(_FEWEST_READ, min(_MOST_READ, tokens // 16 // 256 * 256))


def peak_rate(tokens: int) -> tuple[float, str]:
    """Return the peak of the learning rate for a number of training tokens, with its reason."""
    if tokens < SHORT_RUN:
        return 3e-4, "3e-4 learns a fifth more than 1e-4 in a run this short"
    return 1e-4, "a higher peak learns more and forgets more"


def _micro_batch(batch: int, fitting: int) -> int:
    """Return the largest divisor of a batch that fits."""
    return next(size for size in range(min(batch, fitting), 0, -1) if batch % size == 0)


def _batch(tokens: float, length: int) -> int:
    """Return the sequences per step: 8, doubled up to 64 while there are more than `MOST_STEPS` steps."""
    batch = _SMALLEST_BATCH
    while batch < _LARGEST_BATCH and tokens / (batch * length) > MOST_STEPS:
        batch *= 2
    return batch


def _new_tokens(far: bool, relative: float, tokens: int) -> tuple[int, bool]:
    """Return the number of new tokens, and whether their embeddings are distilled.

    Each new token must be met often enough to be learned: about a thousand training tokens for each.
    """
    if relative >= NEAR:
        return 0, False
    most = 8192 if far else 2048
    affordable = 1 << max(0, (tokens // 1_000).bit_length() - 1)
    new = min(most, affordable)
    return (new, not far) if new >= 256 else (0, False)


def _sampled(tokens: float) -> int:
    """Return the tokens of replay to sample: those that are read, at most a million, read several times."""
    return int(min(1_000_000, max(8_000, _rounded(tokens))))


def _rounded(value: float) -> int:
    """Round down to two significant digits."""
    scale = 10 ** max(0, math.floor(math.log10(max(1.0, value))) - 1)
    return int(value // scale * scale)
