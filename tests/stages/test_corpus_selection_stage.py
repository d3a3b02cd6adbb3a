"""The corpus stage's selection and mixture: every field, what is counted, what is refused, kill and go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from stage_runs import Heard, model_artifact, run_stage
from tiny import clinical_texts, varied_texts, write_jsonl

from cpt.corpus import CorpusIndex, TrainingStream, open_source, read_documents, read_index, retokenise
from cpt.errors import DataError
from cpt.models.tokenizer import load_tokenizer
from cpt.stages.base import Artifact
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.corpus.stage import STAGE

LEGAL = [
    f"The tenant number {n} of the lessor shall pay rent of {n * 7} on the first day." for n in range(80)
]


@pytest.fixture
def base(tiny_model: Path, tmp_path: Path) -> Artifact:
    return model_artifact("base", tiny_model, tmp_path)


@pytest.fixture
def sources(tmp_path: Path) -> dict[str, Any]:
    """240 clinical and 80 legal documents to choose among."""
    files = {"clinical": clinical_texts(), "legal": LEGAL}
    return {
        "domain": [
            {"path": str(write_jsonl(tmp_path / f"{name}.jsonl", texts))} for name, texts in files.items()
        ],
        "heldout": 0.1,
        "sequence_length": 64,
    }


def made(
    base: Artifact, folder: Path, config: dict[str, Any], seed: int = 17
) -> tuple[Path, CorpusIndex, dict[str, Any], list[str]]:
    heard = Heard()
    metrics = run_stage(STAGE, config, {"model": base}, folder, heard, seed)
    corpus = folder / "output" / "corpus"
    json.dumps(metrics)
    return corpus, read_index(corpus), metrics, heard.messages


def texts_of(corpus: Path, source: str = "domain", split: str = "train") -> list[str]:
    return [document.text for document in read_documents(corpus, source, split)]


def clinical_share(corpus: Path) -> float:
    return float(np.mean(["Carcinoma" in text for text in texts_of(corpus)]))


def n_gram(folder: Path, texts: list[str], **more: Any) -> dict[str, Any]:
    return {"kind": "n-gram", "reference": [{"path": str(write_jsonl(folder / "ref.jsonl", texts))}], **more}


REFERENCE = [
    f"In hepatocellular carcinoma the liver becomes {word}, and hurts." for word in ("small", "large")
]


def test_the_selected_hold_the_tokens_and_all_others_are_counted_with_their_reason(
    base: Artifact, sources: dict[str, Any], tmp_path: Path
) -> None:
    everything, before, _, _ = made(base, tmp_path / "all", sources)
    by = n_gram(tmp_path, REFERENCE)
    config = {**sources, "select": {"tokens": 2_000, "by": by, "min_tokens": 30}}
    corpus, index, metrics, messages = made(base, tmp_path / "some", config)
    counts = index.sources["domain"]
    kept = sum(split.documents for split in counts.splits.values())
    assert counts.documents_in == kept + sum(counts.removed_documents.values()) == 320
    assert counts.removed_documents["not_selected"] == before.sources["domain"].splits["train"].documents - (
        counts.splits["train"].documents + counts.removed_documents.get("too_short", 0)
    )
    tokens = counts.splits["train"].tokens
    longest = max(open_source(everything, "domain").sequence_lengths)
    assert 2_000 <= tokens < 2_000 + longest
    assert texts_of(corpus, split="heldout") == texts_of(everything, split="heldout")
    order = texts_of(everything)
    assert sorted(texts_of(corpus), key=order.index) == texts_of(corpus)
    assert clinical_share(corpus) == 1 > clinical_share(everything)
    chosen = metrics["selection"]
    assert (chosen["by"], chosen["tokens"]) == ("n-gram", 2_000)
    selected, others = (chosen["candidates"][key] for key in ("selected", "not_selected"))
    assert selected["tokens"] == tokens
    assert selected["best"] <= selected["median"] <= selected["worst"] <= others["best"]
    assert chosen["reference"]["documents_in"] == 2
    said = "\n".join(messages)
    assert f"not_selected {counts.removed_documents['not_selected']}" in said
    table = pq.read_table(corpus / "selection.parquet").to_pylist()
    assert len(table) == before.sources["domain"].splits["train"].documents
    assert sum(row["tokens"] for row in table if row["became"] == "selected") == tokens


def test_what_rates_changes_what_is_selected(base: Artifact, sources: dict[str, Any], tmp_path: Path) -> None:
    ways = {
        "base": "base",
        "clinical": n_gram(tmp_path, REFERENCE),
        "random": "random",
    }
    chosen = {
        name: made(base, tmp_path / name, {**sources, "select": {"tokens": 2_000, "by": by}})[0]
        for name, by in ways.items()
    }
    legal = made(
        base, tmp_path / "legal", {**sources, "select": {"tokens": 2_000, "by": n_gram(tmp_path, LEGAL[:5])}}
    )[0]
    assert clinical_share(chosen["clinical"]) == 1
    assert clinical_share(legal) < 0.2
    assert 0.4 < clinical_share(chosen["random"]) < 1
    assert len({tuple(texts_of(corpus)) for corpus in [*chosen.values(), legal]}) == 4


def test_by_base_is_the_bits_per_byte_that_a_probe_would_read(
    base: Artifact, sources: dict[str, Any], tmp_path: Path
) -> None:
    from cpt.models.bits_per_byte import score, tokenise_text
    from cpt.models.packed_model import PackedLanguageModel, load_model, resolve_precision

    corpus, *_ = made(base, tmp_path / "made", {**sources, "select": {"tokens": 1_000}})
    ratings = {row["id"]: row["rating"] for row in pq.read_table(corpus / "selection.parquet").to_pylist()}
    document = next(read_documents(corpus, "domain", "train"))
    model = base.path("model")
    packed = PackedLanguageModel(load_model(model, resolve_precision("auto")))
    own = score(packed, tokenise_text(load_tokenizer(model), [document.text], 64, "<s>"))
    assert ratings[document.id] == pytest.approx(own.bits_per_byte, rel=1e-3)


def test_a_band_of_the_base(base: Artifact, sources: dict[str, Any], tmp_path: Path) -> None:
    by = {"kind": "base", "band": [0, 0.5]}
    corpus, *_ = made(base, tmp_path / "made", {**sources, "select": {"by": by, "min_tokens": 8}})
    rows = pq.read_table(corpus / "selection.parquet").to_pylist()
    middle = np.median([row["score"] for row in rows])
    assert {row["id"] for row in rows if row["became"] == "selected"} == {
        row["id"] for row in rows if row["score"] <= middle
    }


def test_the_order_of_n_grams(base: Artifact, sources: dict[str, Any], tmp_path: Path) -> None:
    ratings = []
    for order in (1, 3):
        by = n_gram(tmp_path, REFERENCE, order=order)
        config = {**sources, "select": {"tokens": 2_000, "by": by}}
        corpus, *_ = made(base, tmp_path / str(order), config)
        ratings.append(pq.read_table(corpus / "selection.parquet")["rating"].to_pylist())
    assert np.median(ratings[1]) < np.median(ratings[0])


def test_seeded_chance(base: Artifact, sources: dict[str, Any], tmp_path: Path) -> None:
    config = {**sources, "select": {"tokens": 2_000, "by": "random"}, "heldout": 0.01}
    chosen = [
        set(texts_of(made(base, tmp_path / f"{number}", config, seed)[0]))
        for number, seed in enumerate((17, 17, 18))
    ]
    assert chosen[0] == chosen[1] != chosen[2]


def test_the_shortest_and_the_repetitive_are_not_the_best(base: Artifact, tmp_path: Path) -> None:
    normal, trap = clinical_texts(), ["The heart of the matter is the heart. " * 20, "The heart."]
    source = {"path": str(write_jsonl(tmp_path / "d.jsonl", [*normal, *trap]))}
    config = {"domain": [source], "heldout": 0.02, "sequence_length": 64}
    corpora = {}
    for name, guards in {"guarded": {}, "naive": {"min_tokens": 8, "max_repetition": 1}}.items():
        by = n_gram(tmp_path, [f"The heart of the matter is the heart. {trap[1]}"])
        corpora[name] = made(base, tmp_path / name, {**config, "select": {"tokens": 400, "by": by, **guards}})
    assert trap[0] in texts_of(corpora["naive"][0])
    assert trap[0] not in texts_of(corpora["guarded"][0])
    removed = corpora["guarded"][1].sources["domain"].removed_documents
    assert (removed["repetitive"], removed["too_short"]) == (1, 1)
    assert corpora["naive"][1].sources["domain"].removed_documents.get("repetitive", 0) == 0


def test_a_killed_stage_rates_only_the_rest(
    base: Artifact, sources: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cpt.corpus.kneser_ney import KneserNey

    config = {**sources, "select": {"tokens": 2_000, "by": n_gram(tmp_path, REFERENCE)}}
    whole, *_ = made(base, tmp_path / "whole", config)
    rated: list[int] = []
    bits = KneserNey.bits
    left = 100

    def counted(self: KneserNey, documents: list[np.ndarray]) -> np.ndarray:
        if sum(rated) + len(documents) > left:
            raise KeyboardInterrupt
        rated.append(len(documents))
        return bits(self, documents)

    monkeypatch.setattr(KneserNey, "bits", counted)
    with pytest.raises(KeyboardInterrupt):
        run_stage(STAGE, config, {"model": base}, tmp_path / "killed")
    before, left = sum(rated), 10_000
    (tmp_path / "killed" / "output").rename(tmp_path / "torn")
    (tmp_path / "again").mkdir()
    (tmp_path / "killed" / "work").rename(tmp_path / "kept")
    from cpt.progress import NullProgress
    from cpt.stages.base import Context

    context = Context(tmp_path / "again", tmp_path / "kept", 17, NullProgress(), {})
    STAGE.run(CorpusConfig.model_validate(config), {"model": base}, context)
    assert 0 < before < sum(rated) < 320
    for path in (path for path in whole.rglob("*") if path.is_file()):
        assert path.read_bytes() == (tmp_path / "again" / "corpus" / path.relative_to(whole)).read_bytes()


def test_more_than_there_is_and_a_reference_without_text_are_explained(
    base: Artifact, sources: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"10,000,000 tokens are to be selected, but .* hold [\d,]+ that can"):
        made(base, tmp_path / "much", {**sources, "select": {"tokens": 10_000_000}})
    by = n_gram(tmp_path, [" "])
    with pytest.raises(DataError, match=r"select\.by\.reference: no documents: 1 documents in"):
        made(base, tmp_path / "none", {**sources, "select": {"tokens": 100, "by": by}})


def test_held_out_text_is_no_reference(base: Artifact, sources: dict[str, Any], tmp_path: Path) -> None:
    plain, *_ = made(base, tmp_path / "plain", sources)
    held = texts_of(plain, split="heldout")
    by = n_gram(tmp_path, [*REFERENCE, *held])
    *_, metrics, _ = made(base, tmp_path / "made", {**sources, "select": {"tokens": 500, "by": by}})
    assert metrics["selection"]["reference"]["removed"]["duplicate_of_heldout"] == len(held)


# Mixture


def mixture(folder: Path, **weights: float) -> list[dict[str, Any]]:
    texts = {"books": varied_texts(120, "books "), "code": varied_texts(60, "code ")}
    return [
        {
            "name": name,
            "weight": weight,
            "sources": [{"path": str(write_jsonl(folder / f"{name}.jsonl", texts[name]))}],
        }
        for name, weight in weights.items()
    ]


def test_a_mixture_has_the_shares_of_its_weights_and_its_parts_are_counted(
    base: Artifact, sources: dict[str, Any], tmp_path: Path
) -> None:
    for weights in ({"books": 3, "code": 1}, {"books": 0.2, "code": 0.2}):
        folder = tmp_path / str(weights["books"])
        folder.mkdir()
        config = {**sources, "replay": {"mixture": mixture(folder, **weights)}}
        corpus, index, metrics, messages = made(base, folder / "made", config)
        assert list(index.sources) == ["domain", "replay.books", "replay.code"]
        tokens = {name: index.sources[f"replay.{name}"].splits["train"].tokens for name in weights}
        share = weights["books"] / sum(weights.values())
        assert tokens["books"] / sum(tokens.values()) == pytest.approx(share, abs=0.01)
        assert metrics["mixture"]["replay.books"]["tokens"] == tokens["books"]
        assert metrics["mixture"]["replay.books"]["weight"] == share
        scarce = min(weights, key=lambda name: (120 if name == "books" else 60) / weights[name])
        assert index.sources[f"replay.{scarce}"].removed_documents.get("not_selected", 0) == 0
        assert any(message.startswith("replay mixture of") for message in messages)
        source = open_source(corpus, "replay")
        assert source.name == source.sequence(0).source == "replay"
        assert source.sequence_lengths.sum() == sum(tokens.values())
        assert len(list(read_documents(corpus, "replay", "train"))) == sum(
            index.sources[f"replay.{name}"].splits["train"].documents for name in weights
        )


def test_the_stream_tells_the_tokens_of_every_part(
    base: Artifact, sources: dict[str, Any], tmp_path: Path
) -> None:
    config = {**sources, "replay": {"mixture": mixture(tmp_path, books=2, code=1)}}
    corpus, *_ = made(base, tmp_path / "made", config)
    opened = {name: open_source(corpus, name) for name in ("domain", "replay")}
    stream = TrainingStream(opened, 0.5, 8, seed=3, offset={"replay": 5})
    for steps in (0, 3, 40):
        parts, whole = stream.parts(steps)["replay"], stream.ledger(steps)["replay"]
        assert set(parts) == {"replay.books", "replay.code"}
        assert sum(part["tokens"] for part in parts.values()) == whole["tokens"]
        assert sum(part["sequences"] for part in parts.values()) == whole["sequences"]
        numbers = [
            number for step in range(steps) for name, number in stream.places(step) if name == "replay"
        ]
        books = sum(number < opened["replay"].parts["replay.books"] for number in numbers)
        assert parts["replay.books"]["sequences"] == books
        epochs = books / opened["replay"].parts["replay.books"]
        assert parts["replay.books"]["epochs"] == pytest.approx(epochs)
    assert "domain" not in stream.parts(3)
    alone = TrainingStream({"domain": opened["domain"]}, 0, 8, seed=3)
    assert alone.parts(3) == {}


@pytest.mark.parametrize("dropped", [(), (3, 4, 6)])
def test_parts_follow_a_changing_share_and_leave_out_what_was_dropped(
    base: Artifact, sources: dict[str, Any], tmp_path: Path, dropped: tuple[int, ...]
) -> None:
    config = {**sources, "replay": {"mixture": mixture(tmp_path, books=2, code=1)}}
    corpus, *_ = made(base, tmp_path / "made", config)
    opened = {name: open_source(corpus, name) for name in ("domain", "replay")}
    stream = TrainingStream(opened, 0, 8, seed=3).with_phases([(0, 0), (2, 6), (5, 3)])
    trained = [place for step in range(8) if step not in dropped for place in stream.places(step)]
    numbers = [number for name, number in trained if name == "replay"]
    parts = stream.parts(8, dropped)["replay"]
    books = sum(number < opened["replay"].parts["replay.books"] for number in numbers)
    assert [part["sequences"] for part in parts.values()] == [books, len(numbers) - books]
    assert sum(part["tokens"] for part in parts.values()) == opened["replay"].sequence_lengths[numbers].sum()


def test_parts_stay_parts_with_another_tokenizer(
    base: Artifact, sources: dict[str, Any], tmp_path: Path
) -> None:
    config = {**sources, "replay": {"mixture": mixture(tmp_path, books=2, code=1)}}
    corpus, index, *_ = made(base, tmp_path / "made", config)
    model = base.path("model")
    again = retokenise(corpus, model, tmp_path / "again", former=model)
    assert again.sources == index.sources
    assert open_source(tmp_path / "again", "replay").parts == open_source(corpus, "replay").parts


def test_a_part_can_be_self_generated(base: Artifact, sources: dict[str, Any], tmp_path: Path) -> None:
    own = {"name": "own", "weight": 1, "self_generated": {"tokens": 300, "length": 32, "batch": 8}}
    config = {**sources, "replay": {"mixture": [*mixture(tmp_path, books=1), own]}}
    _, index, metrics, _ = made(base, tmp_path / "made", config)
    assert metrics["mixture"]["replay.own"]["share"] == pytest.approx(0.5, abs=0.1)
    assert index.sources["replay.books"].removed_documents["not_selected"] > 0
