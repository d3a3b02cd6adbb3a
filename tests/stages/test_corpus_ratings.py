"""The corpus stage's selection by weights, classifier, scores, bands and concepts: every setting."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from corpus_runs import byte_model, run, write
from pydantic import ValidationError

from cpt.corpus import read_documents, read_index
from cpt.corpus.ratings import DSIRSettings
from cpt.corpus.ratings.classifier import Classifier
from cpt.corpus.ratings.dsir import HashedNGrams
from cpt.errors import DataError
from cpt.stages.base import Artifact

MEDICAL = [f"patient {n}: fever, chest pain and a rash of the arm" for n in range(60)]
LEGAL = [f"tenant {n}: rent, damages and a lease of the house" for n in range(60)]
TOKENS = 1_200


@pytest.fixture
def base(tmp_path: Path) -> Artifact:
    return byte_model(tmp_path)


class Selected:
    """A finished selection: its table, its metrics, the share of medical text."""

    def __init__(self, corpus: Path, metrics: dict[str, Any], messages: list[str]) -> None:
        self.corpus, self.facts, self.messages = corpus, metrics["selection"], messages
        self.rows = pq.read_table(corpus / "selection.parquet").to_pylist()
        self.texts = [document.text for document in read_documents(corpus, "domain", "train")]
        self.medical = float(np.mean([text.startswith("patient") for text in self.texts]))
        self.removed = read_index(corpus).sources["domain"].removed_documents
        json.dumps(metrics, allow_nan=False)

    @property
    def scores(self) -> list[float | None]:
        return [row["score"] for row in self.rows]

    def ids(self, became: str = "selected") -> set[str]:
        return {row["id"] for row in self.rows if row["became"] == became}


def select(
    base: Artifact, folder: Path, by: Any, seed: int = 17, texts: Iterable[str] = (), **more: Any
) -> Selected:
    folder.mkdir(parents=True, exist_ok=True)
    domain = write(folder / "domain.jsonl", *(texts or [*MEDICAL, *LEGAL]))
    settings = {"tokens": TOKENS, "by": by, "min_tokens": 8, "max_repetition": 1} | more
    selection = {key: value for key, value in settings.items() if value is not None}
    return Selected(*run(base, folder, seed=seed, domain=[domain], heldout=0.05, select=selection))


# Importance weights


def dsir(folder: Path, *texts: str, **more: Any) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    return {"kind": "dsir", "target": [write(folder / "target.jsonl", *texts)], **more}


def test_dsir_selects_text_like_the_target(base: Artifact, tmp_path: Path) -> None:
    found = {
        name: select(base, tmp_path / name, dsir(tmp_path, *(f"{text} too" for text in target)))
        for name, target in (("medical", MEDICAL), ("legal", LEGAL))
    }
    assert (found["medical"].medical, found["legal"].medical) == (1, 0)
    facts = found["medical"].facts
    assert facts["measure"] == "log importance weight"
    assert facts["reference"]["documents_in"] == 60
    candidates = facts["candidates"]
    assert candidates["selected"]["best"] >= candidates["selected"]["worst"]
    others = [row["rating"] for row in found["medical"].rows if row["became"] == "not_selected"]
    own = [row["rating"] for row in found["medical"].rows if row["became"] == "selected"]
    assert max(own) <= min(others)


def test_dsirs_scores_are_the_weights_among_the_documents(base: Artifact, tmp_path: Path) -> None:
    made = select(base, tmp_path / "made", dsir(tmp_path, *MEDICAL[:5], "fever and rent", buckets=50))
    whole = {int(row["id"].partition(":")[2]): row["score"] for row in made.rows}
    texts = {number: [*MEDICAL, *LEGAL][number - 1] for number in whole}
    grams = HashedNGrams(DSIRSettings(buckets=50))
    held = [text for text in MEDICAL[:5] if text in texts.values()]
    weigh = grams.weigher(grams.total([*held, "fever and rent"]), grams.total(texts.values()))
    assert list(whole.values()) == pytest.approx(weigh(list(texts.values())))


def test_settings_of_dsir(base: Artifact, tmp_path: Path) -> None:
    target = [*MEDICAL[:5], *LEGAL[:5]]
    ways = {
        "plain": {},
        "words": {"ngrams": 1},
        "few": {"buckets": 11},
        "each": {"per_ngram": True},
        "sure": {"sampled": False},
    }
    made = {name: select(base, tmp_path / name, dsir(tmp_path, *target, **way)) for name, way in ways.items()}
    for name in ("words", "few", "each"):
        assert made[name].scores != made["plain"].scores
    assert made["each"].facts["measure"] == "log importance weight per n-gram"
    sure, plain = made["sure"], made["plain"]
    assert sure.scores == plain.scores
    assert [row["rating"] for row in sure.rows] == [-score for score in sure.scores if score is not None]
    assert sure.ids() != plain.ids()
    each = [score for score in made["each"].scores if score is not None]  # noise would drown such weights
    assert [row["rating"] for row in made["each"].rows] == [-score for score in each]
    with pytest.raises(ValidationError, match="sampled makes the choice random with per_ngram"):
        DSIRSettings(per_ngram=True, sampled=True)
    other = select(base, tmp_path / "seed", dsir(tmp_path, *target), seed=18)
    assert other.ids() != plain.ids()


# The classifier


def classifier(folder: Path, positive: list[str], negative: list[str], **more: Any) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    sides = {"positive": positive, "negative": negative}
    files = {side: [write(folder / f"{side}.jsonl", *texts)] for side, texts in sides.items()}
    return {"kind": "classifier", **files, "buckets": 4096, **more}


GOOD = [f"{text}, seen today" for text in MEDICAL]
BAD = [f"{text}, due today" for text in LEGAL[:40]]


def test_a_classifier_selects_what_is_like_its_positives(base: Artifact, tmp_path: Path) -> None:
    made = select(base, tmp_path / "made", classifier(tmp_path, GOOD, BAD))
    assert made.medical == 1
    test = made.facts["classifier"]
    assert (test["trained"], test["tested"], test["accuracy"], test["auc"]) == (80, 20, 1, 1)
    assert made.facts["examples"]["positive"]["documents_in"] == 60
    assert any("classifier of 80 examples, tested on 20" in message for message in made.messages)
    assert select(base, tmp_path / "other", classifier(tmp_path, BAD, GOOD)).medical == 0


def test_settings_of_the_classifier(base: Artifact, tmp_path: Path) -> None:
    ways: dict[str, dict[str, Any]] = {
        "plain": {},
        "ngrams": {"ngrams": 1},
        "buckets": {"buckets": 16},
        "penalty": {"penalty": 5},
        "examples": {"examples": 20},
        "tested": {"tested": 0.5},
    }
    made = {
        name: select(base, tmp_path / name, classifier(tmp_path, GOOD, BAD, **way))
        for name, way in ways.items()
    }
    assert len({tuple(each.scores) for each in made.values()}) == len(ways)
    assert made["examples"].facts["classifier"]["trained"] == 32
    assert made["tested"].facts["classifier"]["tested"] == 50


def test_too_few_examples_are_explained(base: Artifact, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"select\.by: a classifier needs two examples of each class, not 1"):
        select(base, tmp_path / "few", classifier(tmp_path, GOOD, BAD[:1]))
    with pytest.raises(DataError, match=r"select\.by\.negative: no documents: 1 documents in"):
        select(base, tmp_path / "none", classifier(tmp_path, GOOD, [" "]))


@pytest.mark.parametrize("kind", ["dsir", "classifier"])
def test_a_killed_stage_rates_only_the_rest(
    base: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    import cpt.stages.corpus.ratings as module

    monkeypatch.setattr(module, "_CHEAP_AT_ONCE", 16)
    by = dsir(tmp_path, *GOOD) if kind == "dsir" else classifier(tmp_path, GOOD, BAD)
    whole = select(base, tmp_path / "whole", by)
    rated: list[int] = []
    left = 40

    def counted(rater: Any) -> Any:
        def rate(texts: list[str]) -> np.ndarray:
            if len(texts) <= 16:  # more are the examples of the classifier's own test
                if sum(rated) + len(texts) > left:
                    raise KeyboardInterrupt
                rated.append(len(texts))
            return np.asarray(rater(texts))

        return rate

    if kind == "dsir":
        weigher = HashedNGrams.weigher
        monkeypatch.setattr(HashedNGrams, "weigher", lambda *given: counted(weigher(*given)))
    else:
        log_odds = Classifier.log_odds
        monkeypatch.setattr(
            Classifier, "log_odds", lambda self, texts: counted(lambda t: log_odds(self, t))(texts)
        )
    with pytest.raises(KeyboardInterrupt):
        select(base, tmp_path / "killed", by)
    assert sum(rated) == 32
    left = 10_000
    (tmp_path / "killed" / "out").rename(tmp_path / "torn")
    again = select(base, tmp_path / "killed", by)
    assert sum(rated) == len(whole.rows)
    assert again.rows == whole.rows


# Scores from files


def write_scores(path: Path, values: dict[str, Any], field: str = "score", key: str = "id") -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({key: id, field: value}) + "\n" for id, value in values.items()))
    return str(path)


def test_scores_of_a_file(base: Artifact, tmp_path: Path) -> None:
    values = {f"domain.jsonl:{line}": float(line) for line in range(1, 121)}
    file = write_scores(tmp_path / "scores.jsonl", values)
    high = select(base, tmp_path / "high", {"kind": "score", "file": file})
    low = select(base, tmp_path / "low", {"kind": "score", "file": file, "higher_is_better": False})
    assert (high.medical, low.medical) == (0, 1)
    assert high.scores == [values[row["id"]] for row in high.rows]
    assert (high.facts["measure"], high.facts["better"], low.facts["better"]) == ("score", "high", "low")
    renamed = write_scores(tmp_path / "renamed.jsonl", values, field="quality", key="name")
    by = {"kind": "score", "file": renamed, "field": "quality", "id_field": "name"}
    assert select(base, tmp_path / "renamed", by).ids() == high.ids()


def test_documents_without_a_score(base: Artifact, tmp_path: Path) -> None:
    values = {f"domain.jsonl:{line}": float(line) for line in range(1, 101)}
    by = {"kind": "score", "file": write_scores(tmp_path / "scores.jsonl", values)}
    with pytest.raises(DataError, match=r"no row for \d+ of \d+ documents, domain\.jsonl:101 among them"):
        select(base, tmp_path / "error", by)
    dropped = select(base, tmp_path / "drop", {**by, "missing": "drop"})
    assert dropped.removed["no_score"] == len(dropped.ids("no_score")) > 0
    assert all(int(id.partition(":")[2]) > 100 for id in dropped.ids("no_score"))


def test_predictive_strength_of_losses(base: Artifact, tmp_path: Path) -> None:
    rows = [
        {"id": f"domain.jsonl:{line}", "small": 1.0, "large": 0.9 if line <= 60 else 1.1}
        for line in range(1, 121)
    ]
    path = tmp_path / "losses.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    by = {"kind": "predictive-strength", "file": str(path)}
    better, worse = (
        select(base, tmp_path / name, {**by, "models": {"small": 30, "large": score}})
        for name, score in (("better", 50), ("worse", 20))
    )
    assert (better.medical, worse.medical) == (1, 0)
    assert set(better.scores) == {0.0, 1.0}


# Bands


def n_gram(folder: Path, band: Any = None) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    by = {"kind": "n-gram", "reference": [write(folder / "ref.jsonl", *MEDICAL[:9], "a rash in May")]}
    return by if band is None else {**by, "band": band}


def test_a_band_keeps_what_is_between_its_bounds(base: Artifact, tmp_path: Path) -> None:
    plain = select(base, tmp_path / "plain", n_gram(tmp_path))
    scores = np.array(plain.scores, dtype=float)
    low, high = np.quantile(scores, [0.2, 0.7])
    made = select(base, tmp_path / "band", n_gram(tmp_path, [0.2, 0.7]), tokens=None)
    assert made.scores == plain.scores
    assert made.ids() == {row["id"] for row in plain.rows if low <= row["score"] <= high}
    assert made.removed["outside_band"] == len(made.ids("outside_band")) > 0
    assert made.facts["band"] == pytest.approx({"low": low, "high": high})
    assert made.facts["better"] == "inside"
    row = made.facts["candidates"]["selected"]
    assert row["lowest"] <= row["median"] <= row["highest"]
    values = select(base, tmp_path / "values", n_gram(tmp_path, {"bits_per_byte": [low, high]}), tokens=None)
    assert values.ids() == made.ids()


def test_inside_a_band_documents_are_chosen_at_random(base: Artifact, tmp_path: Path) -> None:
    inside = select(base, tmp_path / "all", n_gram(tmp_path, [0.2, 0.9]), tokens=None)
    one, same, other = (
        select(base, tmp_path / name, n_gram(tmp_path, [0.2, 0.9]), tokens=800) for name in ("a", "b", "c")
    )
    assert one.ids() == same.ids() == other.ids() < inside.ids()
    by_score = sorted(inside.rows, key=lambda row: row["score"])
    lowest = [row["id"] for row in by_score if row["became"] == "selected"][: len(one.ids())]
    assert one.ids() != set(lowest)
    with pytest.raises(DataError, match=r"5,000 tokens are to be selected, but .* \d+ outside band"):
        select(base, tmp_path / "much", n_gram(tmp_path, [0.4, 0.5]), tokens=5_000)


# Concepts


def terms(folder: Path, *names: str, **more: Any) -> dict[str, Any]:
    pytest.importorskip("ahocorasick_rs")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "terms.txt").write_text("\n".join(names))
    return {"kind": "concepts", "terms": [{"path": str(folder / "terms.txt")}], **more}


MIXED = [
    *(f"A fever, number {n}" for n in range(80)),
    *(f"Hives, number {n}" for n in range(10)),
    "None of it",
] + [f"Nothing at all, {n}" for n in range(9)]


def share(made: Selected, word: str) -> float:
    return float(np.mean([word in text for text in made.texts]))


def test_concepts_are_balanced_up_to_the_cap(base: Artifact, tmp_path: Path) -> None:
    made = select(
        base, tmp_path / "made", terms(tmp_path, "fever", "hives", cap=12), texts=MIXED, tokens=None
    )
    fevers = sum("fever" in text for text in made.texts)
    assert 5 <= fevers <= 20
    facts = made.facts["concepts"]
    assert (facts["terms"], facts["found"], facts["cap"]) == (2, 2, 12)
    assert facts["head"]["after"] == fevers
    assert facts["tail"]["before"] == facts["tail"]["after"] == sum("Hives" in text for text in made.texts)
    assert facts["documents_without"] == made.removed["no_term"] == len(made.ids("no_term"))
    assert made.removed["above_cap"] == facts["head"]["before"] - fevers
    assert facts["largest"][0]["term"] == "fever"
    larger = select(
        base, tmp_path / "larger", terms(tmp_path, "fever", "hives", cap=40), texts=MIXED, tokens=None
    )
    assert made.ids() < larger.ids()


def test_a_number_of_tokens_finds_the_cap(base: Artifact, tmp_path: Path) -> None:
    made = select(base, tmp_path / "made", terms(tmp_path, "fever", "hives"), texts=MIXED, tokens=500)
    cap = made.facts["concepts"]["cap"]
    same = select(
        base,
        tmp_path / "same",
        terms(tmp_path, "fever", "hives", cap=int(cap) + 1),
        texts=MIXED,
        tokens=None,
    )
    assert made.ids() <= same.ids()
    assert share(made, "Hives") > 0.25 > 10 / 90


def test_documents_without_a_term_are_kept_if_wanted(base: Artifact, tmp_path: Path) -> None:
    by = terms(tmp_path, "fever", "hives", cap=5, unmatched="keep")
    made = select(base, tmp_path / "made", by, texts=MIXED, tokens=None)
    assert "no_term" not in made.removed
    assert share(made, "Nothing") > 0


def test_how_terms_are_found(base: Artifact, tmp_path: Path) -> None:
    def documents_with(*names: str, **more: Any) -> int:
        folder = tmp_path / "-".join([*names, *more])
        made = select(base, folder, terms(folder, *names, cap=1000, **more), texts=MIXED, tokens=None)
        return len(made.ids())

    fevers = documents_with("FEVER")
    assert fevers > 60
    with pytest.raises(DataError, match="can be"):
        documents_with("FEVER", ignore_case=False)
    with pytest.raises(DataError, match="can be"):
        documents_with("eve")
    assert documents_with("eve", whole_words=False) == fevers
    with pytest.raises(DataError, match=r"select\.by\.terms: no term has a letter"):
        documents_with("...")


def test_formats_and_synonyms_of_terms(base: Artifact, tmp_path: Path) -> None:
    pytest.importorskip("ahocorasick_rs")
    path = tmp_path / "terms.list"
    path.write_text('format-version: 1.2\n\n[Term]\nid: X:1\nname: Hives\nsynonym: "fever" EXACT []\n')
    source = {"path": str(path), "format": "obo"}
    counts = [
        len(
            select(
                base,
                tmp_path / f"{synonyms}",
                {"kind": "concepts", "terms": [{**source, "synonyms": synonyms}], "cap": 1000},
                texts=MIXED,
                tokens=None,
            ).ids()
        )
        for synonyms in (True, False)
    ]
    assert counts[0] > 60 > counts[1] > 5


# What is known before anything runs
