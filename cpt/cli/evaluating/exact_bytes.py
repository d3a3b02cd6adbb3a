"""The part of `cpt eval text` that scores the beginnings of texts byte by byte."""

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
from cpt.cli.tokenizer.report import short
from cpt.errors import DataError, UsageError

if TYPE_CHECKING:
    from cpt.models.bits_per_byte import Scores
    from cpt.models.packed_model import PackedLanguageModel
    from evals.exact_bytes.excerpts import Excerpts, ExcerptScores

ENSEMBLE = "ensemble"


class ExactBytes:
    """Exact scores of the same beginnings of texts under several models."""

    def __init__(
        self,
        folders: Mapping[str, Path],
        windows: Mapping[str, int],
        sources: Mapping[str, str],
        start_token: str | None,
        most: int,
        view: ProgressBar,
    ) -> None:
        """Read the tokenizers, and choose what is scored.

        Args:
            folders: Folder of each model.
            windows: Most tokens that each model reads at once.
            sources: Reference of each text by name.
            start_token: Token before every text, or "auto".
            most: Most bytes of each text.
            view: Receiver of progress.

        Raises:
            DataError: A tokenizer is no BPE that can be followed, or there is nothing to score.
            UsageError: A tokenizer has no token to start a text with.
        """
        from evals.exact_bytes.excerpts import take_excerpts
        from evals.exact_bytes.model import start_id
        from tokenizer_tools.canonical.tokens import canonical_tokens

        self._starts = {model: start_id(folder, start_token) for model, folder in folders.items()}
        self._tokens = {}
        for number, (model, folder) in enumerate(folders.items()):
            view.update(number, len(folders), "tokenizers taken apart")
            self._tokens[model] = canonical_tokens(folder)
        self._excerpts: dict[str, Excerpts] = {}
        for name, reference in sources.items():
            try:
                self._excerpts[name] = take_excerpts(
                    documents_of(reference, {}, view),
                    list(self._tokens.values()),
                    list(windows.values()),
                    most,
                )
            except DataError as error:
                raise DataError(f"{name}: {error.message}", hint=error.hint) from error
        self._scores: dict[str, dict[str, ExcerptScores]] = {}

    def score(self, model: str, packed: PackedLanguageModel, view: ProgressBar) -> None:
        """Score all texts under a model."""
        from evals.exact_bytes.excerpts import score_excerpts
        from evals.exact_bytes.model import ByteModel

        reader = ByteModel(packed, self._tokens[model], (self._starts[model],))
        total, done = sum(int(each.bytes.sum()) for each in self._excerpts.values()), 0

        def progress(count: int) -> None:
            nonlocal done
            done += count
            view.update(done, total, "bytes scored one by one")

        self._scores[model] = {
            name: score_excerpts(reader, each, progress) for name, each in self._excerpts.items()
        }

    def facts(self, *, ensemble: bool, confidence: float, seed: int) -> list[dict[str, Any]]:
        """Return the figures of every text under every model, and under all as one."""
        from evals.exact_bytes.excerpts import score_ensemble

        found = []
        first, *_ = self._scores
        for name, excerpts in self._excerpts.items():
            size = int(excerpts.bytes.sum())
            common = {
                "text": name,
                "documents": len(excerpts.ids),
                "bytes": size,
                "documents_left_out": dict(excerpts.left_out),
            }
            reference = self._scores[first][name].exact
            for model, by_text in self._scores.items():
                scores = by_text[name]
                facts = {"model": model, **common, **_figures(scores.exact)}
                facts["by_tokens"] = scores.by_tokens.bits_per_byte
                facts["minus_by_tokens"] = facts["bits_per_byte"] - facts["by_tokens"]
                facts["left_out_tokens"] = scores.left_out
                facts["seconds_per_1000_bytes"] = 1000 * scores.seconds / size
                if model != first:
                    facts |= difference_of_texts(reference, scores.exact, confidence, seed)
                found.append(facts)
            if ensemble:
                mean = score_ensemble([by_text[name] for by_text in self._scores.values()])
                facts = {"model": ENSEMBLE, "models": list(self._scores), **common, **_figures(mean)}
                found.append(facts | difference_of_texts(reference, mean, confidence, seed))
        return found


def check_ensemble(ensemble: bool, most: int | None, models: Sequence[str]) -> None:
    """Raise UsageError for an ensemble of one model, or one that is not scored byte by byte."""
    if ensemble and (most is None or len(models) < 2):
        raise UsageError(
            "--ensemble averages the bytes' probabilities of several models",
            hint="Name at least two models, and give --exact-bytes N.",
        )


def print_exact(console: Console, found: Sequence[Mapping[str, Any]], confidence: float) -> None:
    """Print the table of exact figures, and what a reader must know of them."""
    console.print(Text("\n  First bytes of each text, byte by byte, and the same bytes by their tokens"))
    table = rows(
        "text",
        "model",
        "exact#",
        "by tokens#",
        "exact - by tokens#",
        f"difference ({confidence:.0%})",
        "bytes#",
        "s/kB#",
    )
    for each in found:
        own = ["", "", ""]
        if "by_tokens" in each:
            own = [f"{each['by_tokens']:.4f}", f"{each['minus_by_tokens']:+.4f}"]
            own.append(f"{each['seconds_per_1000_bytes']:.1f}")
        table.add_row(
            "",
            short(each["text"]),
            short(each["model"]),
            f"{each['bits_per_byte']:.4f}",
            *own[:2],
            difference_with_interval(each),
            f"{each['bytes']:,}",
            own[2],
        )
    console.print(table)
    for remark in dict.fromkeys(remark for each in found for remark in _remarks(each)):
        console.print(Text(f"  {remark}", style="dim"), soft_wrap=True)


def _figures(scores: Scores) -> dict[str, Any]:
    error = scores.standard_error if len(scores.nats) > 1 else None
    return {"bits_per_byte": scores.bits_per_byte, "stderr": error}


def _remarks(each: Mapping[str, Any]) -> Iterator[str]:
    for reason, count in each["documents_left_out"].items():
        yield f"{short(each['text'])}: {count:,} documents left out: {reason}"
