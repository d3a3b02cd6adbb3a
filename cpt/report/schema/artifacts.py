"""Define the facts of what stages made: documents, vocabulary, merge, weight search, task vectors.

The weight search has the form of `cpt.stages.merge.search.search_metrics`, the task vectors that of
`merging.analysis.analyse`.
"""

# ruff: noqa: RUF012 - pydantic copies the defaults

from __future__ import annotations

from cpt.report.schema.measurements import Fact


class PairedChange(Fact):
    """Deterioration against the base, in bits per byte or as share of wrong answers, with standard error."""

    change: float
    error: float | None = None


class Trial(Fact):
    """A merge that a search tried; `values` by searched setting, such as "weight of law"."""

    values: dict[str, float]
    by: str
    domain_gain: float
    general_rise: float
    changes: dict[str, PairedChange]
    front: bool
    chosen: bool


class SearchLimit(Fact):
    """A limit and its verdict at the chosen point; `allowed` in the unit of its probe."""

    limit: str
    probe: str
    allowed: float
    verdict: str
    why: str


class BoundReached(Fact):
    """A chosen value at the lower or upper bound of the search space, with an explanation in `says`."""

    name: str
    value: float
    bound: str
    says: str


class WeightSearch(Fact):
    """A finished search for merge weights. `why`: reason for the chosen point, in words."""

    method: str
    models: list[str]
    why: str
    holds: bool
    search_points: list[Trial]
    gates: list[SearchLimit] = []
    at_bounds: list[BoundReached] = []

    @property
    def chosen(self) -> Trial:
        """Return the chosen trial."""
        return next(point for point in self.search_points if point.chosen)


Figures = list[float | None]


class VectorRows(Fact):
    """Numbers of embedding rows of a model compared with the base."""

    shared: int
    new: int
    missing: int
    padding: int


class Vector(Fact):
    """A task vector: its norm, and its norm relative to the base; shares of its squared norm or weights."""

    name: str
    norm: float
    relative: float | None
    weights: int
    changed: int
    carriers: int
    carriers_share: float | None
    embeddings_share: float | None
    new_rows_share: float | None
    rows: VectorRows | None = None


class VectorPair(Fact):
    """Angle and sign conflicts of two task vectors; `random`: standard deviation of random cosines."""

    a: str
    b: str
    cosine: float | None
    random: float | None
    weights: int
    both_changed: int
    conflicts: float | None
    conflicting_a: float | None
    conflicting_b: float | None


class VectorParts(Fact):
    """Figures by part of the model: [vectors][parts]; cosine and conflicts: [pairs][parts]."""

    names: list[str]
    weights: list[int]
    relative: list[Figures]
    share: list[Figures]
    cosine: list[Figures]
    random: list[Figures]
    conflicts: list[Figures]


class VectorGrid(Fact):
    """Norms relative to the base: [vectors][kinds][layers]."""

    layers: list[int]
    kinds: list[str]
    relative: list[list[Figures]]


class Vectors(Fact):
    """Task vectors from one base; `carried`: share of the squared norm that the `carriers` hold."""

    base: str
    carried: float
    vectors: list[Vector]
    pairs: list[VectorPair]
    layers: VectorParts
    kinds: VectorParts
    grid: VectorGrid


class Amount(Fact):
    """Documents, and bytes of UTF-8 text."""

    documents: int
    bytes: int


class ListedSource(Fact):
    """One listed source of a role, with its facts as the recipe gives them."""

    path: str
    licence: str | None = None
    language: str | None = None
    documents_in: int
    bytes_in: int


class Split(Fact):
    """One split of the documents of a source; `bytes` of UTF-8, `tokens` with start and end tokens."""

    documents: int
    bytes: int | None = None
    tokens: int | None = None
    sequences: int | None = None
    listed: dict[str, Amount] = {}


class Documents(Fact):
    """Documents of a source: `documents_in` = both splits + all entries of `removed`."""

    documents_in: int | None = None
    bytes_in: int | None = None
    removed: dict[str, int] = {}
    splits: dict[str, Split] = {}
    listed: dict[str, ListedSource] = {}

    def kept(self, name: str) -> Amount:
        """Return what is left of a listed source, in all splits."""
        found = [split.listed[name] for split in self.splits.values() if name in split.listed]
        return Amount(
            documents=sum(each.documents for each in found), bytes=sum(each.bytes for each in found)
        )

    @property
    def balanced(self) -> bool:
        """Return True if every input document is in a split or was removed."""
        kept = sum(split.documents for split in self.splits.values())
        return self.documents_in == kept + sum(self.removed.values())


class Candidates(Fact):
    """Documents of a selection that became the same; the scores are those of the best, median and worst.

    Inside a band no score is better than another: lowest and highest instead.
    """

    documents: int
    tokens: int
    best: float | None = None
    lowest: float | None = None
    median: float | None = None
    worst: float | None = None
    highest: float | None = None

    @property
    def scores(self) -> list[float | None]:
        """Return the first, the median and the last score."""
        first, last = (self.best, self.worst) if self.lowest is None else (self.lowest, self.highest)
        return [first, self.median, last]


class Histogram(Fact):
    """Numbers of selected and of other documents by score; `edges` has one more entry."""

    edges: list[float] = []
    selected: list[int] = []
    others: list[int] = []


class ClassifierTest(Fact):
    """Result of a classifier of documents on examples that it was not trained on."""

    trained: int
    tested: int
    accuracy: float
    auc: float


class Occurrences(Fact):
    """Pairs of a document and a term in it, before and after a selection."""

    terms: int
    before: int
    after: int


class TermCount(Fact):
    """Documents that hold one term, before and after a selection."""

    term: str
    before: int
    after: int


class ConceptBalance(Fact):
    """Balance of terms: those above the cap are the head, the other ones found are the tail."""

    terms: int
    found: int
    cap: float
    head: Occurrences
    tail: Occurrences
    largest: list[TermCount] = []
    documents_without: int = 0


class DocumentSelection(Fact):
    """A selection of the domain's documents; `candidates` by what became of them.

    better: side on which selected scores are, "low", "high" or "inside" a band.
    """

    by: str
    measure: str = "score"
    better: str = "low"
    tokens: int | None = None
    candidates: dict[str, Candidates] = {}
    histogram: Histogram = Histogram()
    classifier: ClassifierTest | None = None
    concepts: ConceptBalance | None = None


class WrittenKind(Fact):
    """Yield of a kind of written text: results, those that are used, and the others by reason."""

    results: int
    used: int
    reasons: dict[str, int] = {}


class WrittenTexts(Fact):
    """Study texts of a model by kind, with its requests, tokens (`read`, `written`) and the given price."""

    model: str
    passages: int
    requests: int
    tokens: dict[str, int]
    price: float | None = None
    kinds: dict[str, WrittenKind] = {}


class StudyDocuments(Fact):
    """Study documents of a corpus: facts that are asked, tasks by miner and kind, probed items by group."""

    facts: int
    items: dict[str, dict[str, int]]
    probe: dict[str, int] = {}
    written: WrittenTexts | None = None


class Vocabulary(Fact):
    """Size of the vocabulary and bytes per token of held-out domain text, base and final tokenizer.

    method: initialisation of the new rows. seconds: time of the stage that made them.
    """

    before: int | None = None
    after: int | None = None
    bytes_per_token_before: float | None = None
    bytes_per_token_after: float | None = None
    added: int | None = None
    rows: int | None = None
    method: str | None = None
    seconds: float | None = None


class HypernetworkTraining(Fact):
    """Steps and tokens of a hypernetwork's training, and readings of tokenizers that it was not trained on.

    zero_shot: bits per byte by step, by reading ("mistral/domain"); the model's own tokenizer is `source`.
    """

    stage: str
    steps: int
    tokens: int
    zero_shot: dict[str, dict[int, float]] = {}

    def curves(self, text: str) -> dict[str, dict[int, float]]:
        """Return the readings on one text by tokenizer."""
        named = {name.rpartition("/"): found for name, found in self.zero_shot.items()}
        return {tokenizer: found for (tokenizer, _, read), found in named.items() if read == text and found}

    @property
    def texts(self) -> list[str]:
        """Return the names of the texts that were read."""
        return list(dict.fromkeys(name.rpartition("/")[2] for name in self.zero_shot))


class MergeInput(Fact):
    """A model that was merged, named by its stage; `varied` if its weight differs between layers."""

    model: str
    weight: float | None = None
    varied: bool = False


class TrialPoint(Fact):
    """A merge that a search tried: gain on domain text and rise on general text, bits per byte.

    weight: weight of the trained model, if the search varies it alone.
    """

    domain_gain: float
    general_rise: float
    weight: float | None = None


class Merge(Fact):
    """The merge that made the final model.

    search: trials of the search for its weights (`search_points` of the stage's metrics).
    at_bounds: chosen weights at a bound of the search space (`search.at_bounds` of the stage's metrics).
    vectors: analysis of the merged task vectors (`analysis` of the stage's metrics).
    """

    stage: str
    method: str
    models: list[MergeInput] = []
    search: list[TrialPoint] = []
    at_bounds: list[BoundReached] = []
    vectors: Vectors | None = None


class StageFact(Fact):
    """One finished stage. `made`: time at which its artifact was finished (ISO 8601)."""

    name: str
    kind: str
    seconds: float
    made: str = ""
    fingerprint: str
