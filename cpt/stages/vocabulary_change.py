"""A vocabulary changed from start to finish: the tokenizer, the model's rows, and the guards of both.

The recipe's stage and the commands `cpt tokenizer extend | prune | replace | train | transliterate` all come
through here, with the same configuration.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.errors import StageFailed
from cpt.references import resolve_file, resolve_model, resolve_tokenizer
from cpt.references.syntax import HubModel, parse
from cpt.stages.base import Progress
from cpt.stages.vocabulary_config import EmbeddingsConfig, VocabularyConfig

if TYPE_CHECKING:
    from tokenizer_tools.transfer import Transfer

Texts = Callable[[], Iterator[str]]
"""Starts a new pass over the text that the new vocabulary is for."""


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
        samples: other text on which the guards compare segmentations before and after.

    Returns:
        What was done and what the guards checked, as plain data.

    Raises:
        DataError: the tokenizer is of a kind that this change does not go with.
        StageFailed: the texts do not yield what is asked for, or a guard failed.
    """
    facts: dict[str, Any] = {}
    before = source
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        if config.prune is not None:
            pruned = output if config.extend is None else Path(scratch)
            facts |= _prune(config, source, texts, pruned, samples, progress)
            source = pruned
        if config.extend is not None:
            facts |= _extend(config, source, texts, output, samples, progress)
    if config.replace is not None:
        facts |= _replace(config, source, output, progress)
    if config.train is not None:
        facts |= _train(config, source, texts, output, progress)
    if config.transliterate is not None:
        facts |= _transliterate(config, source, output, progress)
    _require_spelt(before, output, samples or list(islice(texts(), _SPELT_TEXTS)))
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


def _prune(
    config: VocabularyConfig,
    source: Path,
    texts: Texts,
    output: Path,
    samples: Sequence[str],
    progress: Progress,
) -> dict[str, Any]:
    from tokenizer_tools.guards import check_pruned
    from tokenizer_tools.prune import prune_tokenizer

    assert config.prune is not None
    progress.message(f"removing the {config.prune.tokens:,} tokens that the text needs least")
    pruning = prune_tokenizer(source, texts(), output, remove=config.prune.tokens)
    guards = check_pruned(source, output, samples)
    return {"removed": len(pruning.removed), "prune_guards": asdict(guards)}


def _extend(
    config: VocabularyConfig,
    source: Path,
    texts: Texts,
    output: Path,
    samples: Sequence[str],
    progress: Progress,
) -> dict[str, Any]:
    from tokenizer_tools.extension import extend_tokenizer

    assert config.extend is not None
    progress.message(f"learning {config.extend.tokens:,} tokens on the text")
    extension = extend_tokenizer(
        source,
        texts(),
        output,
        tokens=config.extend.tokens,
        min_frequency=config.extend.min_frequency,
        ngrams=config.extend.ngrams,
        samples=samples,
    )
    return {
        "added": len(extension.tokens),
        "merges": extension.merges,
        "guards": asdict(extension.guards),
        **_shown(output, [token.token_id for token in extension.tokens]),
    }


def _replace(config: VocabularyConfig, source: Path, output: Path, progress: Progress) -> dict[str, Any]:
    from tokenizer_tools.guards import check_replaced
    from tokenizer_tools.replace import replace_tokenizer

    assert config.replace is not None
    target = resolve_tokenizer(config.replace.tokenizer, progress)
    replace_tokenizer(source, target, output)
    return {"guards": asdict(check_replaced(source, output))}


def _train(
    config: VocabularyConfig, source: Path, texts: Texts, output: Path, progress: Progress
) -> dict[str, Any]:
    from tokenizer_tools.guards import check_replaced
    from tokenizer_tools.train import train_tokenizer

    assert config.train is not None
    progress.message(f"training a tokenizer of {config.train.tokens:,} tokens on the text")
    train_tokenizer(source, texts(), output, tokens=config.train.tokens)
    return {"guards": asdict(check_replaced(source, output))}


def _transliterate(
    config: VocabularyConfig, source: Path, output: Path, progress: Progress
) -> dict[str, Any]:
    from tokenizer_tools.transliteration import transliterate_tokenizer

    assert config.transliterate is not None
    progress.message("spelling the vocabulary in Latin letters")
    result = transliterate_tokenizer(
        source,
        output,
        merge=config.transliterate.merge,
        language=config.transliterate.language,
        limit=config.transliterate.tokens,
    )
    return {
        "added": len(result.tokens),
        "guards": asdict(result.guards),
        **_shown(output, [token.token_id for token in result.tokens]),
    }


_SPELT_TEXTS = 500
_UNKNOWN_SHARE = 0.001


def _require_spelt(before: Path, after: Path, texts: Sequence[str]) -> None:
    """Raise if the new tokenizer cannot spell the text: bits per byte would then flatter it.

    Raises:
        StageFailed: more than a thousandth of the characters is unknown, and more than was before.
    """
    from tokenizer_tools.before_after import round_trip
    from tokenizer_tools.vocabulary import load_tokenizer

    characters = sum(map(len, texts))
    tokenizers = (load_tokenizer(before), load_tokenizer(after))
    was, now = (sum(round_trip(tokenizer, text)[1] for text in texts) for tokenizer in tokenizers)
    if now > max(was, _UNKNOWN_SHARE * characters):
        raise StageFailed(
            f"the new tokenizer cannot spell {now / characters:.1%} of the text's characters "
            f"(before: {was / characters:.1%})",
            hint="Choose a tokenizer that falls back to bytes, or one of the text's own language.",
        )


_SHOWN_TOKENS = 20


def _shown(folder: Path, ids: Sequence[int]) -> dict[str, list[str]]:
    """The longest and the first of the new tokens, as text."""
    from tokenizer_tools.vocabulary import load_tokenizer

    tokenizer = load_tokenizer(folder)
    texts = [tokenizer.decode([token_id], skip_special_tokens=False) for token_id in ids]
    return {
        "longest_tokens": sorted(texts, key=lambda text: -len(text))[:_SHOWN_TOKENS],
        "most_frequent_tokens": texts[:_SHOWN_TOKENS],
    }


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
