"""Change a model's vocabulary from start to finish: its tokenizer, its embedding rows, the checks of both.

The Python functions of `tokenizer_tools`, the commands `cpt tokenizer extend | prune | replace | train |
transliterate` and the vocabulary stage of a recipe all call `change_vocabulary` with the same settings.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.errors import StageFailed
from cpt.progress import NullProgress, Progress
from cpt.references import resolve_file, resolve_model, resolve_tokenizer
from cpt.references.resolve import is_gguf
from cpt.references.syntax import HubModel, parse
from tokenizer_tools.settings import (
    EmbeddingsConfig,
    ExtendConfig,
    PruneConfig,
    ReplaceConfig,
    TrainConfig,
    TransliterateConfig,
    VocabularyChange,
)

if TYPE_CHECKING:
    from tokenizer_tools.transfer import Transfer
    from tokenizer_tools.validation import TokenizerChecks

Texts = Callable[[], Iterator[str]]
"""Function that starts a new pass over the text that the new vocabulary is for."""

_SAMPLES, _SAMPLE_CHARACTERS = 500, 20_000
_EXAMPLES = 20
_UNKNOWN_SHARE = 0.001
_QUIET = NullProgress()


def samples_of(texts: Iterable[str]) -> list[str]:
    """Return texts for the checks: the first 500 documents, at most 20,000 characters of each."""
    return [text[:_SAMPLE_CHARACTERS] for text in islice(texts, _SAMPLES)]


@dataclass(frozen=True)
class _Step:
    """One change of a tokenizer, from one folder to another."""

    source: Path
    output: Path
    texts: Texts
    samples: Sequence[str]
    progress: Progress


def change_vocabulary(
    change: VocabularyChange,
    source: Path,
    texts: Texts,
    output: Path,
    *,
    samples: Sequence[str] = (),
    seed: int,
    progress: Progress = _QUIET,
) -> dict[str, Any]:
    """Write a model folder in a changed vocabulary: `change_tokenizer`, then `change_model`.

    Args:
        change: Settings of the change.
        source: Folder of the model.
        texts: Function that starts a new pass over the text that the vocabulary is for.
        output: Folder that receives the model.
        samples: Texts on which the checks compare tokens before and after; by default some of `texts`.
        seed: Seed of every random choice.
        progress: Receiver of messages.

    Returns:
        Sizes, what was done and what was checked, as plain data.

    Raises:
        DataError: The tokenizer or the model cannot be changed in this way.
        StageFailed: The texts hold too little, or a check failed.
    """
    from tokenizer_tools.transfer import plan_transfer

    if change.brings_new_tokens:
        check_initialisation(change.initialisation, source)
    facts = change_tokenizer(change, source, texts, output, samples=samples, progress=progress)
    transfer = plan_transfer(source, output, model=source, seed=seed, texts=texts)
    facts |= change_model(
        change.initialisation,
        transfer,
        output,
        pad_to_multiple_of=change.pad_to_multiple_of,
        progress=progress,
    )
    return facts | sizes(transfer)


def change_tokenizer(
    change: VocabularyChange,
    source: Path,
    texts: Texts,
    output: Path,
    *,
    samples: Sequence[str] = (),
    progress: Progress = _QUIET,
) -> dict[str, Any]:
    """Write the changed tokenizer into a folder and check it.

    Args:
        change: Settings of the change; `embeddings` is not used.
        source: Folder of the model or tokenizer.
        texts: Function that starts a new pass over the text that the vocabulary is for.
        output: Folder that receives the tokenizer.
        samples: Texts on which the checks compare tokens before and after; by default some of `texts`.
        progress: Receiver of messages.

    Returns:
        What was done and what was checked, as plain data.

    Raises:
        DataError: The tokenizer cannot be changed in this way.
        StageFailed: The texts hold too little, or a check failed.
    """
    facts: dict[str, Any] = {}
    samples = samples or samples_of(texts())
    steps = [(name, step) for name, step in _STEPS.items() if getattr(change, name) is not None]
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        folder = source
        for name, step in steps:
            target = output if name == steps[-1][0] else Path(scratch)
            facts |= step(getattr(change, name), _Step(folder, target, texts, samples, progress))
            folder = target
    _require_known_characters(source, output, samples)
    return facts


def change_model(
    embeddings: EmbeddingsConfig,
    transfer: Transfer,
    output: Path,
    *,
    pad_to_multiple_of: int,
    progress: Progress = _QUIET,
) -> dict[str, Any]:
    """Write the model with embedding rows for the tokenizer that the output folder holds, and check it.

    Args:
        embeddings: Initialisation method of new rows.
        transfer: Plan that names the model and maps old tokens to new ones.
        output: Folder with the new tokenizer; receives the model.
        pad_to_multiple_of: Number whose multiple the rows are rounded up to.
        progress: Receiver of messages.

    Returns:
        Numbers of rows, copied rows and new rows, and what was checked, as plain data.
    """
    from tokenizer_tools.embeddings import method
    from tokenizer_tools.resize_model import write_model
    from tokenizer_tools.validation import check_model

    chosen, parameters = method(embeddings.method), _parameters(embeddings)
    made = chosen.remake(transfer, parameters) if chosen.remake is not None else transfer
    rule, facts = None, {}
    if len(made.new):
        progress.message(f"making the rows of {len(made.new):,} tokens by {embeddings.method}")
        rule = chosen.prepare(made, parameters)
        if chosen.facts is not None:
            facts = {"initialisation": chosen.facts(made, parameters)}
    rows = write_model(output, transfer, rule, made=made, pad_to_multiple_of=pad_to_multiple_of)
    return {
        "rows": rows,
        "copied_rows": len(made.shared_target),
        "new_rows": len(made.new),
        **facts,
        "model_guards": asdict(check_model(transfer.model, output, transfer, made)),
    }


def check_initialisation(embeddings: EmbeddingsConfig, model: Path) -> None:
    """Raise if the initialisation method cannot work for a model, as far as that is known before learning.

    Raises:
        CptError: The method cannot work, or a reference among its parameters cannot be resolved.
    """
    from tokenizer_tools.embeddings import method

    if embeddings.model_extra and (check := method(embeddings.method).check) is not None:
        check(model, _parameters(embeddings))


def _prune(config: PruneConfig, step: _Step) -> dict[str, Any]:
    from tokenizer_tools.pruning import prune_tokenizer
    from tokenizer_tools.validation import check_pruned

    step.progress.message(f"removing the {config.tokens:,} tokens that the text needs least")
    pruning = prune_tokenizer(step.source, step.texts(), step.output, remove=config.tokens)
    checks = check_pruned(step.source, step.output, step.samples)
    return {"removed": len(pruning.removed), "prune_guards": asdict(checks)}


def _extend(config: ExtendConfig, step: _Step) -> dict[str, Any]:
    from tokenizer_tools.extension import extend_tokenizer

    extension = extend_tokenizer(
        step.source,
        step.texts(),
        step.output,
        tokens=config.tokens,
        min_frequency=config.min_frequency,
        ngrams=config.ngrams,
        samples=step.samples,
        progress=step.progress.message,
    )
    return {"merges": extension.merges, **_added(step.output, extension.tokens, extension.checks)}


def _replace(config: ReplaceConfig, step: _Step) -> dict[str, Any]:
    from tokenizer_tools.replacement import replace_tokenizer
    from tokenizer_tools.validation import check_replaced

    target = resolve_tokenizer(config.tokenizer, step.progress)
    replace_tokenizer(step.source, target, step.output)
    return {"guards": asdict(check_replaced(step.source, step.output))}


def _train(config: TrainConfig, step: _Step) -> dict[str, Any]:
    from tokenizer_tools.replacement import train_tokenizer
    from tokenizer_tools.validation import check_replaced

    step.progress.message(f"training a tokenizer of {config.tokens:,} tokens on the text")
    train_tokenizer(step.source, step.texts(), step.output, tokens=config.tokens)
    return {"guards": asdict(check_replaced(step.source, step.output))}


def _transliterate(config: TransliterateConfig, step: _Step) -> dict[str, Any]:
    from tokenizer_tools.transliteration import transliterate_tokenizer

    step.progress.message("spelling the vocabulary in Latin letters")
    result = transliterate_tokenizer(
        step.source, step.output, merge=config.merge, language=config.language, limit=config.tokens
    )
    return _added(step.output, result.tokens, result.checks)


_STEPS: Mapping[str, Callable[[Any, _Step], dict[str, Any]]] = {
    "prune": _prune,
    "extend": _extend,
    "replace": _replace,
    "train": _train,
    "transliterate": _transliterate,
}
"""Function of every change by its name in the settings, in the order in which changes are made."""


def _added(folder: Path, tokens: Sequence[Any], checks: TokenizerChecks) -> dict[str, Any]:
    """Return facts on added tokens: their number, the longest and the first of them as text."""
    from cpt.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folder)
    texts = [tokenizer.decode([token.token_id], skip_special_tokens=False) for token in tokens]
    return {
        "added": len(tokens),
        "guards": asdict(checks),
        "longest_tokens": sorted(texts, key=lambda text: -len(text))[:_EXAMPLES],
        "most_frequent_tokens": texts[:_EXAMPLES],
    }


def _require_known_characters(before: Path, after: Path, texts: Sequence[str]) -> None:
    """Raise if the new tokenizer cannot spell the text.

    Bits per byte would flatter such a tokenizer: an unknown token costs few bits for any number of bytes.

    Raises:
        StageFailed: More than a thousandth of the characters is unknown, and more than before.
    """
    from cpt.models.tokenizer import load_tokenizer
    from tokenizer_tools.compare_tokenizers import round_trip

    characters = sum(map(len, texts))
    tokenizers = (load_tokenizer(before), load_tokenizer(after))
    was, now = (sum(round_trip(tokenizer, text)[1] for text in texts) for tokenizer in tokenizers)
    if now > max(was, _UNKNOWN_SHARE * characters):
        raise StageFailed(
            f"the new tokenizer cannot spell {now / characters:.1%} of the text's characters "
            f"(before: {was / characters:.1%})",
            hint="Choose a tokenizer that falls back to bytes, or one of the text's own language.",
        )


def sizes(transfer: Transfer) -> dict[str, int]:
    """Return the numbers of tokens in the vocabulary before and after."""
    return {
        when: sum(token is not None for token in vocabulary.tokens)
        for when, vocabulary in (("before", transfer.source), ("after", transfer.target))
    }


def _parameters(embeddings: EmbeddingsConfig) -> Any:
    """Return the parameters of the method, with local paths."""
    return embeddings.parameters({**(embeddings.model_extra or {}), **_resolved(embeddings)})


def _resolved(embeddings: EmbeddingsConfig) -> Mapping[str, Path]:
    """Return the parameters of the method that name files, as local paths."""
    from tokenizer_tools.embeddings import method

    def resolve(reference: str) -> Path:
        parsed = parse(reference)
        names_model = isinstance(parsed.location, HubModel) or is_gguf(parsed)
        return resolve_model(reference) if names_model else resolve_file(reference)

    if not (files := embeddings.files()):
        return {}
    resolvers = method(embeddings.method).resolvers
    return {name: resolvers.get(name, resolve)(reference) for name, reference in files.items()}
