"""A vocabulary changed from start to finish: the tokenizer, the model's rows, and the guards of both.

The recipe's stage and the commands `cpt tokenizer extend | prune | replace | train | transliterate` all come
through here, with the same configuration.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.errors import StageFailed
from cpt.progress import Progress
from cpt.references import resolve_file, resolve_model, resolve_tokenizer
from cpt.references.syntax import HubModel, parse
from cpt.stages.vocabulary.config import (
    EmbeddingsConfig,
    ExtendConfig,
    PruneConfig,
    ReplaceConfig,
    TrainConfig,
    TransliterateConfig,
    VocabularyConfig,
)

if TYPE_CHECKING:
    from tokenizer_tools.guards import GuardReport
    from tokenizer_tools.transfer import Transfer

Texts = Callable[[], Iterator[str]]
"""Starts a new pass over the text that the new vocabulary is for."""

_SAMPLES, _SAMPLE_CHARACTERS = 500, 20_000


def samples_of(texts: Iterable[str]) -> list[str]:
    """Text for the guards: the first documents, of long ones the beginning."""
    return [text[:_SAMPLE_CHARACTERS] for text in islice(texts, _SAMPLES)]


@dataclass(frozen=True)
class _Work:
    """One change of a tokenizer, from one folder to another."""

    source: Path
    output: Path
    texts: Texts
    samples: Sequence[str]
    progress: Progress


def change_tokenizer(
    config: VocabularyConfig,
    source: Path,
    texts: Texts,
    output: Path,
    *,
    samples: Sequence[str] = (),
    progress: Progress,
) -> dict[str, Any]:
    """Write the changed tokenizer into `output` and check it.

    Args:
        source: model or tokenizer folder.
        samples: text on which the guards compare segmentations before and after; by default some of `texts`.

    Returns:
        What was done and what the guards checked, as plain data.

    Raises:
        DataError: the tokenizer is of a kind that this change does not go with.
        StageFailed: the texts do not yield what is asked for, or a guard failed.
    """
    facts: dict[str, Any] = {}
    samples = samples or samples_of(texts())
    steps = [(name, step) for name, step in _STEPS.items() if getattr(config, name) is not None]
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        folder = source
        for name, step in steps:
            target = output if name == steps[-1][0] else Path(scratch)
            facts |= step(getattr(config, name), _Work(folder, target, texts, samples, progress))
            folder = target
    _require_spelt(source, output, samples)
    return facts


def change_model(
    embeddings: EmbeddingsConfig,
    transfer: Transfer,
    output: Path,
    *,
    pad_to_multiple_of: int,
    progress: Progress,
) -> dict[str, Any]:
    """Write the model with rows for the tokenizer that `output` holds, and check it.

    Returns:
        Rows, rows copied and made, and what the guards checked, as plain data.
    """
    from tokenizer_tools.embeddings import method
    from tokenizer_tools.guards import check_model
    from tokenizer_tools.model_folder import write_model

    rule = None
    if len(transfer.new):
        progress.message(f"making the rows of {len(transfer.new):,} new tokens by {embeddings.method}")
        parameters = embeddings.parameters({**(embeddings.model_extra or {}), **_resolved(embeddings)})
        rule = method(embeddings.method).prepare(transfer, parameters)
    rows = write_model(output, transfer, rule, pad_to_multiple_of=pad_to_multiple_of)
    return {
        "rows": rows,
        "copied_rows": len(transfer.shared_target),
        "new_rows": len(transfer.new),
        "model_guards": asdict(check_model(transfer.model, output, transfer)),
    }


def change_vocabulary(
    config: VocabularyConfig,
    source: Path,
    texts: Texts,
    output: Path,
    *,
    samples: Sequence[str] = (),
    seed: int,
    progress: Progress,
) -> dict[str, Any]:
    """`change_tokenizer`, then `change_model`: `output` is a model folder in the new vocabulary."""
    from tokenizer_tools.transfer import between

    facts = change_tokenizer(config, source, texts, output, samples=samples, progress=progress)
    transfer = between(source, output, model=source, seed=seed, texts=texts)
    facts |= change_model(
        config.initialisation,
        transfer,
        output,
        pad_to_multiple_of=config.pad_to_multiple_of,
        progress=progress,
    )
    return facts | _sizes(transfer)


def _prune(config: PruneConfig, work: _Work) -> dict[str, Any]:
    from tokenizer_tools.guards import check_pruned
    from tokenizer_tools.prune import prune_tokenizer

    work.progress.message(f"removing the {config.tokens:,} tokens that the text needs least")
    pruning = prune_tokenizer(work.source, work.texts(), work.output, remove=config.tokens)
    guards = check_pruned(work.source, work.output, work.samples)
    return {"removed": len(pruning.removed), "prune_guards": asdict(guards)}


def _extend(config: ExtendConfig, work: _Work) -> dict[str, Any]:
    from tokenizer_tools.extension import extend_tokenizer

    extension = extend_tokenizer(
        work.source,
        work.texts(),
        work.output,
        tokens=config.tokens,
        min_frequency=config.min_frequency,
        ngrams=config.ngrams,
        samples=work.samples,
        progress=work.progress.message,
    )
    return {"merges": extension.merges, **_added(work.output, extension.tokens, extension.guards)}


def _replace(config: ReplaceConfig, work: _Work) -> dict[str, Any]:
    from tokenizer_tools.guards import check_replaced
    from tokenizer_tools.replace import replace_tokenizer

    target = resolve_tokenizer(config.tokenizer, work.progress)
    replace_tokenizer(work.source, target, work.output)
    return {"guards": asdict(check_replaced(work.source, work.output))}


def _train(config: TrainConfig, work: _Work) -> dict[str, Any]:
    from tokenizer_tools.guards import check_replaced
    from tokenizer_tools.train import train_tokenizer

    work.progress.message(f"training a tokenizer of {config.tokens:,} tokens on the text")
    train_tokenizer(work.source, work.texts(), work.output, tokens=config.tokens)
    return {"guards": asdict(check_replaced(work.source, work.output))}


def _transliterate(config: TransliterateConfig, work: _Work) -> dict[str, Any]:
    from tokenizer_tools.transliteration import transliterate_tokenizer

    work.progress.message("spelling the vocabulary in Latin letters")
    result = transliterate_tokenizer(
        work.source, work.output, merge=config.merge, language=config.language, limit=config.tokens
    )
    return _added(work.output, result.tokens, result.guards)


_STEPS: Mapping[str, Callable[[Any, _Work], dict[str, Any]]] = {
    "prune": _prune,
    "extend": _extend,
    "replace": _replace,
    "train": _train,
    "transliterate": _transliterate,
}
"""Every change by its name in the configuration, in the order in which they are made."""

_SHOWN_TOKENS = 20


def _added(folder: Path, tokens: Sequence[Any], guards: GuardReport) -> dict[str, Any]:
    """Facts on tokens that were added: how many, and the longest and the first of them as text."""
    from cpt.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(folder)
    texts = [tokenizer.decode([token.token_id], skip_special_tokens=False) for token in tokens]
    return {
        "added": len(tokens),
        "guards": asdict(guards),
        "longest_tokens": sorted(texts, key=lambda text: -len(text))[:_SHOWN_TOKENS],
        "most_frequent_tokens": texts[:_SHOWN_TOKENS],
    }


_UNKNOWN_SHARE = 0.001


def _require_spelt(before: Path, after: Path, texts: Sequence[str]) -> None:
    """Raise if the new tokenizer cannot spell the text: bits per byte would then flatter it.

    Raises:
        StageFailed: more than a thousandth of the characters is unknown, and more than was before.
    """
    from cpt.models.tokenizer import load_tokenizer
    from tokenizer_tools.before_after import round_trip

    characters = sum(map(len, texts))
    tokenizers = (load_tokenizer(before), load_tokenizer(after))
    was, now = (sum(round_trip(tokenizer, text)[1] for text in texts) for tokenizer in tokenizers)
    if now > max(was, _UNKNOWN_SHARE * characters):
        raise StageFailed(
            f"the new tokenizer cannot spell {now / characters:.1%} of the text's characters "
            f"(before: {was / characters:.1%})",
            hint="Choose a tokenizer that falls back to bytes, or one of the text's own language.",
        )


def _sizes(transfer: Transfer) -> dict[str, int]:
    """Tokens of the vocabulary before and after."""
    return {
        when: sum(token is not None for token in vocabulary.tokens)
        for when, vocabulary in (("before", transfer.source), ("after", transfer.target))
    }


def _resolved(embeddings: EmbeddingsConfig) -> Mapping[str, Path]:
    """The method's parameters that name files, as paths."""
    return {
        name: resolve_model(reference)
        if isinstance(parse(reference).place, HubModel)
        else resolve_file(reference)
        for name, reference in embeddings.files().items()
    }
