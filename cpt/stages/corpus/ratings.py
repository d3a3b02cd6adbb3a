"""Rate the documents to select from, each way of rating by its settings."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cpt.corpus.index import SourceCounts
from cpt.errors import DataError
from cpt.references import require_read, resolve_file
from cpt.sources import DOMAIN
from cpt.stages.base import Context
from cpt.stages.corpus.config import (
    AtRandom,
    ByBase,
    ByClassifier,
    ByConcepts,
    ByDSIR,
    ByNGrams,
    ByPredictiveStrength,
    ByScore,
    Source,
)
from cpt.stages.corpus.sources import read_sources

if TYPE_CHECKING:
    import numpy as np

    from cpt.corpus.blocks import Block
    from cpt.corpus.digests import KeySet
    from cpt.corpus.documents import Document
    from cpt.corpus.index import CorpusIndex
    from cpt.corpus.ratings import Band
    from cpt.corpus.selection import Candidates, Rater

OUTSIDE_BAND = "outside_band"
NO_SCORE = "no_score"
NO_TERM = "no_term"
ABOVE_CAP = "above_cap"

_WHOLE = 1 << 31
"""A sequence length longer than any document."""

_CHEAP_AT_ONCE = 256
"""Documents rated between two writes to disk, where a rating costs less than the write."""


@dataclass(frozen=True)
class Rated:
    """The documents with their ratings.

    Attributes:
        measure: Name of the scores, with their unit.
        better: Side on which the selected scores are: low, high, or inside a band.
        scores: float64 (documents,), NaN if a document has none.
        order: float64 (documents,), the lowest are selected first.
        reasons: str (documents,), why documents cannot be selected.
        facts: Metrics of the rating.
        after: Function from the final reasons to further metrics.
    """

    measure: str
    better: Literal["low", "high", "inside"]
    scores: np.ndarray
    order: np.ndarray
    reasons: np.ndarray
    facts: dict[str, Any] = field(default_factory=dict)
    after: Callable[[np.ndarray], dict[str, Any]] = lambda _: {}


@dataclass(frozen=True)
class Request:
    """Everything that a rating may need besides its settings.

    Attributes:
        model: Folder of the base model.
        heldout: Digests of all held-out documents, which no reference text may hold.
        found: Training documents of the domain.
        reasons: Why documents cannot be selected at any rating; the others are rated.
        clean: Cleaning blocks of the corpus, for reference text too.
    """

    model: Path
    corpus: Path
    index: CorpusIndex
    heldout: KeySet
    found: Candidates
    reasons: np.ndarray
    context: Context
    clean: Sequence[Block] = ()

    @property
    def able(self) -> np.ndarray:
        """Return which documents are rated: bool (documents,)."""
        from cpt.corpus.selection import KEPT

        return self.reasons == KEPT

    def documents(self) -> Iterator[Document]:
        """Yield the documents that are rated."""
        from cpt.corpus.selection import texts_to_rate

        return texts_to_rate(self.corpus, DOMAIN, self.reasons)

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Return the values of the rated documents as those of all documents, NaN for the others."""
        import numpy as np

        result = np.full(len(self.found), np.nan)
        result[self.able] = values
        return result

    def chance(self) -> np.ndarray:
        """Return a random order of all documents, float64 (documents,)."""
        from cpt.corpus.selection import chance

        return chance(self.found.digests, self.context.seed)

    def rate(self, make: Callable[[], Rater], at_once: int) -> np.ndarray:
        """Rate the documents with a function of their texts; what an earlier attempt rated is kept."""
        from cpt.corpus.selection import rate

        number, kept = int(self.able.sum()), self.context.work / "selection" / "ratings"
        return self.spread(rate(self.documents(), number, make, kept, self.context.progress, at_once))

    def texts(self, key: str, sources: Sequence[Source], counts: SourceCounts) -> Iterator[Document]:
        """Yield the documents of reference text, none of which is held out.

        Raises:
            DataError: There are none.
        """
        from cpt.corpus.blocks import learn
        from cpt.corpus.build import describe, divide
        from cpt.corpus.heldout import Always

        read = partial(read_sources, sources, self.context.progress, self.context.contents)
        # Cleaned as the domain is: held-out text is told by its cleaned form, and marks of cleaning are no
        # difference between reference and candidates.
        blocks = learn(read, self.clean)
        divided = divide(read(), Always("train"), self.heldout, counts, blocks)
        yield from (document for _, document in divided)
        if not counts.splits:
            raise DataError(
                f"select.by.{key}: no documents: {describe(counts)}",
                hint="Check the source's path, format and text_field. Held-out text cannot be the reference.",
            )
        self.context.progress.message(f"{key}: {describe(counts)}")


By = ByBase | ByNGrams | ByDSIR | ByClassifier | ByScore | ByPredictiveStrength | ByConcepts | AtRandom


def rated(by: By, request: Request) -> Rated:
    """Rate all documents that can be selected.

    Raises:
        DataError: A file or a source of the settings cannot be used.
    """
    request.context.progress.message(f"rating {int(request.able.sum()):,} documents by {by.kind}")
    match by:
        case AtRandom():
            return _in_order("random number", "low", request.spread(request.chance()[request.able]), request)
        case ByBase():
            scores = request.rate(partial(_base_rater, request.model, request.index), at_once=32)
            return _bits_per_byte("bits per byte under the base model", scores, by.band, {}, request)
        case ByNGrams():
            return _by_n_grams(by, request)
        case ByDSIR():
            return _by_dsir(by, request)
        case ByClassifier():
            return _by_classifier(by, request)
        case ByConcepts():
            return _by_concepts(by, request)
        case _:
            return _by_file(by, request)


def _in_order(
    measure: str,
    better: Literal["low", "high"],
    scores: np.ndarray,
    request: Request,
    facts: dict[str, Any] | None = None,
) -> Rated:
    order = scores if better == "low" else -scores
    return Rated(measure, better, scores, order, request.reasons, facts or {})


def _counted(counts: SourceCounts) -> dict[str, Any]:
    return {"documents_in": counts.documents_in, "removed": counts.removed_documents}


def _bits_per_byte(
    measure: str, scores: np.ndarray, band: Band | None, facts: dict[str, Any], request: Request
) -> Rated:
    """Order documents by bits per byte, or at random inside a band."""
    if band is None:
        return _in_order(measure, "low", scores, request, facts)
    low, high = band.limits(scores[request.able])
    reasons = request.reasons.copy()
    reasons[request.able & ~((scores >= low) & (scores <= high))] = OUTSIDE_BAND
    facts = facts | {"band": {"low": low, "high": high}}
    return Rated(measure, "inside", scores, request.spread(request.chance()[request.able]), reasons, facts)


def _by_n_grams(by: ByNGrams, request: Request) -> Rated:
    from cpt.corpus.document_tokenizer import DocumentTokenizer

    counts = SourceCounts()
    documents = request.texts("reference", by.reference, counts)
    tokens = [pieces[0] for pieces in DocumentTokenizer(request.model, _WHOLE, None, None).pieces(documents)]
    scores = request.rate(partial(_n_gram_rater, by.order, tokens, request.model), at_once=32)
    measure = "bits per byte under the n-gram model"
    return _bits_per_byte(measure, scores, by.band, {"reference": _counted(counts)}, request)


def _n_gram_rater(order: int, reference: list[np.ndarray], model: Path) -> Rater:
    """Rate by bits per byte under an n-gram model of the reference's tokens."""
    import numpy as np

    from cpt.corpus.document_tokenizer import DocumentTokenizer
    from cpt.corpus.documents import Document
    from cpt.corpus.kneser_ney import KneserNey
    from cpt.models.tokenizer import load_tokenizer

    ids = load_tokenizer(model).get_vocab(with_added_tokens=True).values()
    grams = KneserNey(reference, order, max(ids) + 1)
    tokenizer = DocumentTokenizer(model, _WHOLE, None, None)

    def rate(texts: list[str]) -> np.ndarray:
        documents = (Document("", text) for text in texts)
        bits = grams.bits([pieces[0] for pieces in tokenizer.pieces(documents)])
        return bits / np.array([len(text.encode()) for text in texts])

    return rate


def _base_rater(model: Path, index: CorpusIndex) -> Rater:
    """Rate by bits per byte under the base model, with the window that it is trained on."""
    from cpt.models.bits_per_byte import score, tokenise_text
    from cpt.models.packed_model import PackedLanguageModel, best_device, load_model, resolve_precision
    from cpt.models.tokenizer import load_tokenizer

    tokenizer = load_tokenizer(model)
    packed = PackedLanguageModel(load_model(model, resolve_precision("auto")))
    packed.to(best_device())

    def rate(texts: list[str]) -> np.ndarray:
        scores = score(packed, tokenise_text(tokenizer, texts, index.sequence_length, index.start_token))
        return scores.nats / (math.log(2) * scores.bytes)

    return rate


def _by_dsir(by: ByDSIR, request: Request) -> Rated:
    """Order by log importance weights with Gumbel noise, which the scores leave out."""
    import numpy as np

    from cpt.atomic import atomic_file
    from cpt.corpus.ratings.dsir import HashedNGrams, gumbel

    grams, counts = HashedNGrams(by), SourceCounts()
    target = grams.total(document.text for document in request.texts("target", by.target, counts))
    kept = request.context.work / "selection" / "raw_counts.npy"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        raw = grams.total(document.text for document in request.documents())
        with atomic_file(kept) as scratch, scratch.open("wb") as file:
            np.save(file, raw)
    raw = np.load(kept, allow_pickle=False)
    scores = request.rate(lambda: grams.weigher(target, raw), at_once=_CHEAP_AT_ONCE)
    noise = gumbel(request.found.digests, request.context.seed) if by.adds_noise else 0.0
    measure = "log importance weight" + (" per n-gram" if by.per_ngram else "")
    facts = {"reference": _counted(counts)}
    return Rated(measure, "high", scores, -(scores + noise), request.reasons, facts)


def _by_classifier(by: ByClassifier, request: Request) -> Rated:
    from cpt.corpus.ratings.classifier import collected, trained

    examples, counts = {}, {}
    for key, sources in (("positive", by.positive), ("negative", by.negative)):
        counts[key] = SourceCounts()
        texts = (document.text for document in request.texts(key, sources, counts[key]))
        examples[key] = collected(texts, by, request.context.seed)
    try:
        classifier, test = trained(by, examples["positive"], examples["negative"])
    except ValueError as error:
        raise DataError(
            f"select.by: {error}", hint="Give more examples; hundreds are a good start."
        ) from error
    request.context.progress.message(
        f"classifier of {test.trained:,} examples, tested on {test.tested:,}: accuracy {test.accuracy:.3f}, "
        f"AUC {test.auc:.3f}"
    )
    facts = {
        "classifier": asdict(test),
        "examples": {key: _counted(found) for key, found in counts.items()},
    }
    scores = request.rate(lambda: classifier.log_odds, at_once=_CHEAP_AT_ONCE)
    return _in_order("log odds of a positive example", "high", scores, request, facts)


def _by_file(by: ByScore | ByPredictiveStrength, request: Request) -> Rated:
    """Order by figures in a file of the user's."""
    import numpy as np

    from cpt.corpus.documents import read_documents
    from cpt.corpus.ratings.scores import in_order, predictive_strength, read_figures
    from cpt.corpus.readers import ReadFiles

    context, files = request.context, ReadFiles()
    path = resolve_file(by.file, context.progress)
    fields = [by.field] if isinstance(by, ByScore) else list(by.models)
    ids = [document.id for document in read_documents(request.corpus, DOMAIN, "train")]
    figures = read_figures(path, by.id_field, fields, set(ids), files)
    require_read(by.file, files.of(path), context.contents.get(by.file))
    found = in_order(figures, ids, request.able, len(fields))
    if isinstance(by, ByScore):
        scores, measure = found[:, 0], by.field
    else:
        scores, measure = predictive_strength(found, list(by.models.values())), "predictive strength"
    lacking = np.flatnonzero(request.able & np.isnan(scores))
    if len(lacking) and by.missing == "error":
        raise DataError(
            f"{path}: no row for {len(lacking):,} of {int(request.able.sum()):,} documents, "
            f"{ids[lacking[0]]} among them",
            hint="Add them, or set select.by.missing: drop.",
        )
    reasons = request.reasons.copy()
    reasons[lacking] = NO_SCORE
    high = isinstance(by, ByPredictiveStrength) or by.higher_is_better
    return Rated(measure, "high" if high else "low", scores, -scores if high else scores, reasons)


def _by_concepts(by: ByConcepts, request: Request) -> Rated:
    """Order by the smallest cap at which a document stays."""
    import numpy as np

    from cpt.corpus.ratings.concepts import Matcher, Matches, balance_facts
    from cpt.corpus.ratings.terms import read_terms, without_duplicates
    from cpt.corpus.readers import ReadFiles
    from cpt.corpus.selection import KEPT, SELECTED_OTHERS

    context, files = request.context, ReadFiles()

    def listed() -> Iterator[Any]:
        for source in by.terms:
            path = resolve_file(source.path, context.progress)
            yield from read_terms(path, source.format, source.synonyms, files)
            require_read(source.path, files.of(path), context.contents.get(source.path))

    concepts = without_duplicates(listed())
    try:
        matcher = Matcher(concepts, whole_words=by.whole_words, ignore_case=by.ignore_case)
    except ValueError as error:
        raise DataError(f"select.by.terms: {error}", hint="Check the files and their format.") from error
    matches, able = Matches(concepts, context.seed), request.able
    keys = (key for key, wanted in zip(request.found.digests, able, strict=True) if wanted)
    total = int(able.sum())
    for done, (key, document) in enumerate(zip(keys, request.documents(), strict=True), start=1):
        matches.add(key, matcher.find(document.text))
        if done % 1000 == 0 or done == total:
            context.progress.update(done, total, "documents")
    scores, reasons = request.spread(matches.smallest_caps()), request.reasons.copy()
    without = able & np.isinf(scores)
    if by.unmatched == "drop":
        reasons[without], scores[without] = NO_TERM, np.nan
    else:
        scores[without] = 0.0
    if by.cap is not None:
        reasons[able & (scores >= by.cap)] = ABOVE_CAP

    def after(final: np.ndarray) -> dict[str, Any]:
        kept = final == KEPT
        cap = float(scores[kept].max()) if by.cap is None or (final == SELECTED_OTHERS).any() else by.cap
        facts = balance_facts(concepts, matches, kept[able], cap)
        return {"concepts": facts | {"documents_without": int(without.sum())}}

    return Rated("smallest cap that keeps it", "low", scores, scores, reasons, after=after)
