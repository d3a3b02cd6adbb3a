"""The part of `cpt eval text` that reads texts in dynamically merged tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from cpt.cli.evaluating.comparing import difference_of_texts, difference_with_interval
from cpt.cli.evaluating.inputs import documents_of
from cpt.cli.output import rows
from cpt.cli.progress_bar import ProgressBar
from cpt.cli.tokenizer.options import located
from cpt.cli.tokenizer.report import short
from cpt.errors import DataError, UsageError
from cpt.references import resolve_model

if TYPE_CHECKING:
    from cpt.models.packed_model import PackedLanguageModel
    from cpt.models.shared_windows import Reader
    from evals.dynamic.scoring import Comparison, DynamicScores
    from tokenizer_tools.hypernetwork.source import SourceModel

_SHORT_OF = 0.01
"""Difference between the share that was asked for and the one that was reached from which it is told."""


class DynamicReading:
    """Scores of texts under several models in merged tokens."""

    def __init__(
        self,
        folders: Mapping[str, Path],
        readers: Sequence[Reader],
        sources: Mapping[str, str],
        share: float,
        hypernet: str,
        view: ProgressBar,
    ) -> None:
        """Check that the models and the hypernetwork fit.

        Args:
            folders: Folder of each model.
            readers: Different tokenizers with windows of the models.
            sources: Reference of each text by name.
            share: Share of the tokens that merging removes.
            hypernet: Reference of the hypernetwork.
            view: Receiver of progress.

        Raises:
            MissingInput, ModelError, DataError: The hypernetwork or a model cannot be read, or they differ.
            UsageError: The models read different windows.
        """
        from tokenizer_tools.hypernetwork.reference import resolve_hypernetwork

        if len(readers) > 1:
            raise UsageError(
                "--dynamic compares models with the same tokenizer and the same windows",
                hint="Name them one by one, or choose a --window that all of them can read.",
            )
        [self._reader] = readers
        self._sources, self._share = sources, share
        self._hypernet = resolve_hypernetwork(located(hypernet), view)
        self._models = {name: _sources_of(self._hypernet, folder, view) for name, folder in folders.items()}
        self._scores: dict[str, dict[str, DynamicScores]] = {}

    def score(self, model: str, packed: PackedLanguageModel, view: ProgressBar) -> None:
        """Score all texts under a model."""
        from evals.dynamic.model import GrownVocabulary, load_cache
        from evals.dynamic.scoring import score_dynamic

        base, own = self._models[model]
        grown = GrownVocabulary(packed.model, own, load_cache(self._hypernet, base, own))
        found, read = {}, 0

        def progress(tokens: int) -> None:
            nonlocal read
            read += tokens
            view.update(read, None, "tokens read three times")

        for name, reference in self._sources.items():
            documents = documents_of(reference, {}, view)
            try:
                found[name] = score_dynamic(
                    grown, own.vocabulary, self._reader, documents, self._share, progress
                )
            except DataError as error:
                raise DataError(f"{name}: {error.message}", hint=error.hint) from error
        self._scores[model] = found

    def facts(self, *, confidence: float, seed: int) -> list[dict[str, Any]]:
        """Return the figures of every text under every model."""
        return [
            {
                "text": name,
                "model": model,
                "share": self._share,
                "merged": {
                    **_facts(by_text[name].merged, confidence, seed),
                    "merged_tokens": by_text[name].tokens,
                },
                "prefill": None
                if (found := by_text[name].prefill) is None
                else _facts(found, confidence, seed),
            }
            for name in self._sources
            for model, by_text in self._scores.items()
        ]


def check_dynamic(share: float | None, hypernet: str | None) -> None:
    """Raise UsageError unless the share is one, and it and the hypernetwork come together."""
    if (share is None) != (hypernet is None):
        raise UsageError(
            "--dynamic SHARE and --hypernet REF go together: it predicts the rows of merged tokens",
            hint="Give both.",
        )
    if share is not None and not 0 <= share <= 1:
        raise UsageError(
            f"--dynamic {share}: that is no share of tokens", hint="Give a number from 0 to 1, such as 0.2."
        )


def print_dynamic(console: Console, found: Sequence[Mapping[str, Any]], confidence: float) -> None:
    """Print the table of both ways of reading beside the usual one, and what a reader must know of them."""
    console.print(
        Text("\n  In merged tokens, and in own tokens after merged context; as usual on the same bytes")
    )
    table = rows(
        "text", "model", "reading", "tokens#", "merged#", "bytes/token#", "as usual#", "bits/byte#",
        f"difference ({confidence:.0%})",
    )  # fmt: skip
    for each in found:
        for way in ("merged", "prefill"):
            if (facts := each[way]) is None:
                continue
            table.add_row(
                "",
                short(each["text"]),
                short(each["model"]),
                way,
                f"{facts['tokens_before']:,}",
                f"{facts['tokens']:,} (-{facts['removed']:.1%})",
                f"{facts['bytes_per_token_before']:.2f} > {facts['bytes_per_token']:.2f}",
                f"{facts['as_usual']:.4f}",
                f"{facts['bits_per_byte']:.4f}",
                difference_with_interval(facts),
            )
    console.print(table)
    for remark in dict.fromkeys(remark for each in found for remark in _remarks(each)):
        console.print(Text(f"  {remark}", style="dim"), soft_wrap=True)


def _sources_of(hypernet: Path, folder: Path, view: ProgressBar) -> tuple[SourceModel, SourceModel]:
    """Return the hypernetwork's source model, and the model that reads: the same, or a variant of it."""
    from tokenizer_tools.hypernetwork.folder import fits, require_fit, source_reference
    from tokenizer_tools.hypernetwork.source import read_source, require_variant

    own = read_source(folder)
    if fits(hypernet, folder):
        return own, own
    reference = source_reference(hypernet)
    view.message(f"the embeddings of {folder} are not those of {reference}: reading the rows of {reference}")
    base = require_fit(hypernet, resolve_model(located(reference), view))
    require_variant(base, own)
    return base, own


def _facts(found: Comparison, confidence: float, seed: int) -> dict[str, Any]:
    lengths = found.lengths
    return {
        "bits_per_byte": found.merged.bits_per_byte,
        "as_usual": found.usual.bits_per_byte,
        **difference_of_texts(found.usual, found.merged, confidence, seed),
        "documents": len(found.usual.bytes),
        "bytes": int(found.usual.bytes.sum()),
        "tokens_before": lengths.before,
        "tokens": lengths.after,
        "removed": lengths.removed,
        "bytes_per_token_before": lengths.bytes / lengths.before,
        "bytes_per_token": lengths.bytes / lengths.after,
    }


def _remarks(each: Mapping[str, Any]) -> Iterator[str]:
    name, share = short(each["text"]), each["share"]
    if each["prefill"] is None:
        yield f"{name}: no document is longer than a window, so there is no context to merge (prefill)"
    for way in ("merged", "prefill"):
        if each[way] is not None and each[way]["removed"] < share - _SHORT_OF:
            yield (
                f"{name}, {way}: merging removed {each[way]['removed']:.1%} of the tokens, not {share:.1%}: "
                + (
                    "the rest is no pair of one word"
                    if way == "prefill"
                    else "merges come from the text before"
                )
            )
