"""The pretrain stage: continue the model's training on the corpus, and watch what it forgets."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from cpt.errors import Problem, RecipeError
from cpt.stages.base import Artifact, Context, Stage, StageConfig
from cpt.stages.documents import has_texts, iterate_texts, tokenizer_problems
from cpt.training.optimizers import AdamW
from cpt.training.schedules import Schedule

if TYPE_CHECKING:
    from cpt.corpus import TrainingStream
    from cpt.monitor.bits_per_byte import TokenisedText
    from cpt.training.settings import Settings
    from cpt.training.state import Result

PROBES = ("domain", "general")
"""Sources whose held-out text is probed."""


class Monitor(BaseModel):
    """Probes during training: bits per byte of held-out text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: int = Field(
        default=10, gt=0, description="Steps between readings, once past the dense start (1, 2, 4, 8, …)."
    )
    tokens: int = Field(default=8_000, gt=1, description="Tokens of held-out text that a probe reads.")
    window: int = Field(default=1024, gt=1, description="Longest stretch of text that a probe reads at once.")
    tolerance: float = Field(
        default=0.001,
        ge=0,
        description="Bits per byte above the first reading that still count as recovered.",
    )


class Checkpoints(BaseModel):
    """Checkpoints from which a killed run continues."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    every: int = Field(default=50, gt=0, description="Steps between checkpoints.")
    keep: int = Field(default=1, gt=0, description="How many of the newest are kept.")


class PretrainConfig(StageConfig):
    """How the model is trained on."""

    beside_the_result: ClassVar[frozenset[str]] = frozenset({"checkpoint"})

    tokens: int = Field(gt=0, description="Tokens to train on, replay included; rounded up to whole steps.")
    batch_sequences: int = Field(default=8, gt=0, description="Sequences of a global batch.")
    micro_batch_sequences: int | None = Field(
        default=None,
        gt=0,
        description="Sequences that go through the model at once; default: the whole batch.",
    )
    replay: float = Field(
        default=0.0, ge=0, lt=1, description="Share of each global batch that is replay text."
    )
    epochs: float = Field(default=1.0, gt=0, description="How often the domain text may be gone through.")
    schedule: Schedule = Field(default=Schedule(), description="How the learning rate moves.")
    optimizer: AdamW = Field(default=AdamW(), description="Settings of AdamW.")
    clip: float = Field(default=1.0, gt=0, description="Largest norm of the gradient.")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        default="auto", description="Precision of matrix products; auto: bf16 where the hardware has it."
    )
    monitor: Monitor = Field(default=Monitor(), description="Probes during training.")
    checkpoint: Checkpoints = Field(default=Checkpoints(), description="Checkpoints.")
    compile: bool = Field(default=False, description="Compile feed-forward blocks and norms (torch.compile).")


class PretrainStage(Stage[PretrainConfig]):
    """Continual pretraining with re-warming, replay and probes."""

    kind: ClassVar[str] = "pretrain"
    Config: ClassVar[type[StageConfig]] = PretrainConfig
    consumes: ClassVar[tuple[str, ...]] = ("model", "corpus")
    produces: ClassVar[tuple[str, ...]] = ("model", "training")

    def check(self, config: PretrainConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
        """The replay share must be whole rows, and the corpus must hold the tokens that are asked for."""
        from cpt.corpus.stream import replay_rows

        try:
            replay_rows(config.replay, config.batch_sequences)
        except RecipeError as error:
            return error.problems
        if "corpus" not in inputs:
            return []
        problems = _corpus_problems(config, inputs["corpus"].path("corpus"))
        if "model" in inputs:
            problems += tokenizer_problems(inputs["model"].path("model"), inputs["corpus"].path("corpus"))
        return problems

    def forecast(self, config: PretrainConfig, inputs: Mapping[str, Artifact]) -> str:
        """Steps and tokens, as far as the corpus is known."""
        if "corpus" not in inputs:
            return f"{config.tokens:,} tokens"
        corpus = inputs["corpus"].path("corpus")
        stream = _stream(config, corpus, seed=0)
        steps = _steps(config, corpus, stream)
        return f"about {_tokens(stream, steps):,} tokens in {steps:,} steps"

    def run(self, config: PretrainConfig, inputs: Mapping[str, Artifact], context: Context) -> dict[str, Any]:
        """Train, then save the model and what is known of the training."""
        from cpt.packed.model import load_model
        from cpt.training.loop import train

        model_folder, corpus = inputs["model"].path("model"), inputs["corpus"].path("corpus")
        model, stream = load_model(model_folder), _stream(config, corpus, context.seed)
        result = train(
            model,
            stream,
            _probes(config, model, model_folder, corpus, context.seed),
            _settings(config, _steps(config, corpus, stream)),
            context.work,
            context.progress,
        )
        _save_model(model, model_folder, context.output / "model")
        return _save_training(config, result, context)


def _steps(config: PretrainConfig, corpus: Path, stream: TrainingStream) -> int:
    """The fewest steps that hold the tokens asked for: sequences are not always full."""
    from cpt.corpus import read_index

    most = config.batch_sequences * read_index(corpus).sequence_length
    steps = 0
    while (missing := config.tokens - _tokens(stream, steps)) > 0:
        steps += math.ceil(missing / most)
    return steps


def _tokens(stream: TrainingStream, steps: int) -> int:
    return sum(int(entry["tokens"]) for entry in stream.ledger(steps).values())


def planned(config: PretrainConfig, corpus: Path, seed: int) -> tuple[TrainingStream, int]:
    """What a corpus would be trained on: the stream and the steps that are taken of it."""
    stream = _stream(config, corpus, seed)
    return stream, _steps(config, corpus, stream)


def _stream(config: PretrainConfig, corpus: Path, seed: int) -> TrainingStream:
    from cpt.corpus import TrainingStream, open_source
    from cpt.corpus.stream import DOMAIN, REPLAY

    names = (DOMAIN, REPLAY) if config.replay else (DOMAIN,)
    sources = {name: open_source(corpus, name) for name in names if has_texts(corpus, name, "train")}
    return TrainingStream(sources, config.replay, config.batch_sequences, seed)


def _corpus_problems(config: PretrainConfig, corpus: Path) -> list[Problem]:
    """What the corpus cannot give."""
    if config.replay and not has_texts(corpus, "replay", "train"):
        return [
            Problem(
                f"a replay share of {config.replay:g} is wanted, but the corpus has no replay text",
                key="replay",
                hint="Give the corpus stage `replay:` (sources, or self_generated), or set replay: 0.",
            )
        ]
    stream = _stream(config, corpus, seed=0)
    steps = _steps(config, corpus, stream)
    most = stream.available_steps(config.epochs)
    if steps <= most:
        return []
    passes = stream.ledger(steps)["domain"]["epochs"]
    return [
        Problem(
            f"{config.tokens:,} tokens are {steps:,} steps, but the domain text lasts for {most:,} steps "
            f"({stream.available_tokens(config.epochs):,} tokens) when it is gone through at most "
            f"{config.epochs:g} times",
            key="tokens",
            hint=f"Train on fewer tokens, add text, or set epochs: {math.ceil(passes * 100) / 100:g}.",
        )
    ]


def _settings(config: PretrainConfig, steps: int) -> Settings:
    from cpt.monitor.probes import probe_steps
    from cpt.packed.model import resolve_precision
    from cpt.training.settings import Settings

    return Settings(
        steps=steps,
        micro_batch=config.micro_batch_sequences or config.batch_sequences,
        schedule=config.schedule,
        optimizer=config.optimizer,
        clip=config.clip,
        dtype=resolve_precision(config.precision),
        probe_at=probe_steps(steps, config.monitor.every),
        checkpoint_every=config.checkpoint.every,
        keep_checkpoints=config.checkpoint.keep,
        compile=config.compile,
    )


def _probes(
    config: PretrainConfig, model: Any, folder: Path, corpus: Path, seed: int
) -> dict[str, TokenisedText]:
    """Held-out documents of every probed source, in a seeded order, in the model's tokens."""
    import numpy as np

    from cpt.corpus import read_index
    from cpt.model_folder.tokenizer import load_tokenizer
    from cpt.monitor.bits_per_byte import tokenise_text

    tokenizer, start_token = load_tokenizer(folder), read_index(corpus).start_token
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    window = min(config.monitor.window, positions or config.monitor.window)
    probes = {}
    for name in PROBES:
        if has_texts(corpus, name, "heldout"):
            texts = list(iterate_texts(corpus, name, "heldout"))
            order = np.random.default_rng(seed).permutation(len(texts))
            shuffled = (texts[index] for index in order)
            probes[name] = tokenise_text(tokenizer, shuffled, window, start_token, config.monitor.tokens)
    return probes


def _save_model(model: Any, source: Path, folder: Path) -> None:
    """Write the trained weights, and beside them the source's tokenizer and generation settings."""
    model.save_pretrained(folder)
    for file in source.iterdir():
        if file.name == "config.json":
            continue  # save_pretrained has written it, with the data type of what it saved
        if (
            file.is_file()
            and not file.name.startswith("model")
            and file.suffix in {".json", ".jinja", ".model", ".txt"}
        ):
            shutil.copyfile(file, folder / file.name)


def _save_training(config: PretrainConfig, result: Result, context: Context) -> dict[str, Any]:
    """Write the training folder; returns the stage's metrics."""
    from cpt.monitor.probes import stability

    folder = context.output / "training"
    folder.mkdir()
    shutil.copyfile(context.work / "steps.jsonl", folder / "steps.jsonl")
    lines = (json.dumps(reading.as_json()) + "\n" for reading in result.readings)
    (folder / "probes.jsonl").write_text("".join(lines))
    (folder / "ledger.json").write_text(json.dumps(result.ledger, indent=2))
    gaps = stability(result.readings, config.monitor.tolerance)
    summary = {
        "steps": result.steps,
        "tokens": result.tokens,
        "seconds": result.seconds,
        "tokens_per_second": result.tokens / result.seconds,
        "stability": {name: asdict(gap) for name, gap in gaps.items()},
    }
    (folder / "summary.json").write_text(json.dumps(summary, indent=2))
    return {**summary, "ledger": result.ledger}


STAGE = PretrainStage()
