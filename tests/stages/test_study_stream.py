"""Study documents in the order of training: questions before their documents, and never in sight of them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from invented import LINES, glossary_text, term
from stage_runs import Heard, artifact, model_artifact, run_stage
from tiny import varied_texts, write_jsonl
from transformers import PreTrainedTokenizerFast

from cpt.corpus import TrainingStream, read_documents
from cpt.corpus.study.facts import Terms
from cpt.models.batch import PackedBatch, pack
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.stages.base import Artifact
from cpt.stages.corpus.stage import STAGE as CORPUS
from cpt.stages.pretrain.data import planned
from cpt.stages.pretrain.stage import STAGE as PRETRAIN
from cpt.training.data import pack_sequences

DOCUMENTS = 40
TERMS = [term(number, line) for number in range(DOCUMENTS) for line in range(LINES)]
SENTENCES = [f"Here the {each} turns, and there it rests." for each in TERMS]
QUESTIONS_ALONE = {"documents": 0, "reading": 0, "questions": 1}
MIXED = [{"until": "85%", "weights": {"documents": 3, "reading": 1, "questions": 2}}]
LAST = [{"weights": {"documents": 2, "reading": 1, "questions": 3}}]


def story(number: int) -> str:
    """A document whose glossary stands below sentences with its terms."""
    told = " ".join(SENTENCES[number * LINES : (number + 1) * LINES])
    return f"{glossary_text(number)}\nThe tale of mill {number}\n{told}\n"


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("study")
    base = model_artifact("base", tiny_model, folder)
    config = {
        "domain": [{"path": str(write_jsonl(folder / "domain.jsonl", list(map(story, range(DOCUMENTS)))))}],
        "replay": {"sources": [{"path": str(write_jsonl(folder / "replay.jsonl", varied_texts(30, "x ")))}]},
        "study": {"forms": 3},
        "heldout": 0.1,
        "sequence_length": 128,
    }
    run_stage(CORPUS, config, {"model": base}, folder / "made")
    return {"model": base, "corpus": artifact("corpus", folder / "made" / "output", "corpus")}


@dataclass(frozen=True)
class Read:
    """What a training reads, with the document that every piece of a row is of."""

    stream: TrainingStream
    steps: int
    corpus: Path

    @classmethod
    def of(cls, inputs: dict[str, Artifact], *phases: dict[str, Any]) -> Read:
        settings = {"tokens": 120_000, "replay": 0.25, "epochs": 9, "mixture": list(phases)}
        config = PRETRAIN.Config.model_validate(settings)
        assert PRETRAIN.check(config, inputs) == []
        return cls(*planned(config, inputs, seed=17), inputs["corpus"].path("corpus"))

    @cached_property
    def texts(self) -> dict[str, list[tuple[str, str]]]:
        """Part and text of each document, in the order of the file of its source."""
        return {
            source: [
                (document.part, document.text) for document in read_documents(self.corpus, source, "train")
            ]
            for source in ("domain", "replay")
        }

    @cached_property
    def rows(self) -> dict[str, list[np.ndarray]]:
        """Rows of the documents of each sequence, by the sequence's source and number."""
        found: dict[str, list[np.ndarray]] = {}
        for folder in sorted((self.corpus / "tokens").iterdir()):
            documents, sequences = (
                np.load(folder / f"shard-00000.{kind}.npy") for kind in ("documents", "sequences")
            )
            found[folder.name] = np.split(documents, sequences[1:-1])
        return found

    def pieces(self, step: int) -> Iterator[tuple[str, str]]:
        """Yield part and text of the document of each piece of a batch, in the order of the packed row."""
        for source, number in self.stream.places(step):
            for row in self.rows[source][number]:
                yield self.texts[source.partition(".")[0]][row]

    def first_steps(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the first step that holds a question on each term, and that of a text that holds it."""
        named, asked, told = Terms(TERMS), dict[str, int](), dict[str, int]()
        for step in range(self.steps):
            for part, text in self.pieces(step):
                for each in named.of(text):
                    (asked if part == "questions" else told).setdefault(each, step)
        return asked, told


def logits(model: Any, batch: PackedBatch) -> torch.Tensor:
    """Return the logits of every token of a packed row: [T, V]."""
    with torch.no_grad():
        return PackedLanguageModel(model)._hidden(batch) @ model.lm_head.weight.T


def test_with_once_every_fact_is_asked_in_a_step_before_its_document(inputs: dict[str, Artifact]) -> None:
    once = {"until": "once", "weights": QUESTIONS_ALONE}
    asked, told = Read.of(inputs, once, *MIXED, *LAST).first_steps()
    trained = asked.keys() & told.keys()
    assert 0.3 * len(TERMS) < len(trained) < 0.6 * len(TERMS)
    assert all(asked[each] < told[each] for each in trained)
    documents = list(read_documents(inputs["corpus"].path("corpus"), "domain", "train"))
    questions = "\n".join(each.text for each in documents if each.part == "questions")
    assert asked.keys() == set(Terms(TERMS).of(questions)), "no fact is left out"
    share = {"until": "2%", "weights": QUESTIONS_ALONE}
    asked, told = Read.of(inputs, share, *MIXED, *LAST).first_steps()
    assert any(asked[each] >= told[each] for each in trained)  # a share of the steps is no such promise


def forecast(inputs: dict[str, Artifact], **settings: Any) -> list[str]:
    config = PRETRAIN.Config.model_validate({"batch_sequences": 4, "epochs": 99} | settings)
    assert PRETRAIN.check(config, inputs) == []
    words = PRETRAIN.forecast(config, inputs, {}).split("; ")
    return [each for each in words if "recall probe" in each]


def part(name: str, **others: float) -> dict[str, Any]:
    return {"mixture": {"weights": dict.fromkeys(QUESTIONS_ALONE, 0) | {name: 1} | others}}


def test_text_of_probed_facts_that_is_not_read_is_told_with_the_tokens_that_it_takes(
    inputs: dict[str, Artifact],
) -> None:
    both = part("documents", questions=1)
    found = forecast(inputs, tokens=4_000, **both)
    assert len(found) == 2
    for each, start, end in (
        (
            found[0],
            "documents is read 0.",
            "% of the facts that the recall probe calls untrained and reversed",
        ),
        (
            found[1],
            "questions is read 0.",
            "% of questions on the facts that the recall probe calls trained are",
        ),
    ):
        assert each.startswith(start)
        assert end in each
        epochs, share = float(each.split()[3]), int(each.split("about ")[1].split("%")[0])
        assert share == pytest.approx(100 * (1 - epochs), abs=1)
        assert each.endswith(" tokens, or select less text)")
    needed = [int(each.split("at least ")[1].split(" ")[0].replace(",", "")) for each in found]
    assert forecast(inputs, tokens=max(needed), **both) == []
    (last,) = forecast(inputs, tokens=max(needed) - 4 * 128, **both)
    assert f"at least {max(needed):,} tokens" in last
    (none,) = forecast(inputs, tokens=90_000, **part("questions"))
    assert none.startswith("documents is read 0 times: about 100% of the facts")
    assert none.endswith("are not read (select less text)")
    (none,) = forecast(inputs, tokens=30_000, batch_sequences=256, **part("documents"))  # fewer than a batch
    assert none.startswith("questions is read 0 times: about 100% of questions on the facts")
    assert "(set more `epochs`, or" in forecast(inputs, epochs=0.5, **both)[0]


def test_text_that_is_read_as_a_whole_has_all_facts_of_the_probe(inputs: dict[str, Artifact]) -> None:
    (found,) = forecast(inputs, tokens=4_000)
    assert "calls trained and untrained and reversed are not read" in found
    assert found.startswith("domain is read 0.")
    assert forecast(inputs, epochs=1) == []


def test_a_run_says_what_it_does_not_read_and_nothing_where_there_is_no_probe(
    inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    settings = {"tokens": 1_000, "batch_sequences": 4, "monitor": {"every": 99, "samples": None}}
    heard = Heard()
    run_stage(PRETRAIN, settings | part("documents"), inputs, tmp_path / "run", heard)
    assert any(message.startswith("documents is read 0.") for message in heard.messages)
    shutil.copytree(inputs["corpus"].folder, tmp_path / "corpus")
    (tmp_path / "corpus" / "corpus" / "recall.jsonl").unlink()
    assert (
        forecast({**inputs, "corpus": artifact("corpus", tmp_path / "corpus", "corpus")}, tokens=1_000) == []
    )


@pytest.fixture(scope="module")
def mixed(inputs: dict[str, Artifact]) -> Read:
    """A training in which questions and documents share batches from the first step on."""
    return Read.of(inputs, *MIXED, *LAST)


def test_no_packed_piece_holds_a_question_and_the_text_that_holds_its_fact(
    mixed: Read, inputs: dict[str, Artifact]
) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(inputs["model"].path("model"))
    named, together = Terms(TERMS), 0
    for step in range(mixed.steps):
        batch, pieces = pack_sequences(mixed.stream.batch(step)), list(mixed.pieces(step))
        begins = batch.layout.boundaries.tolist()
        assert len(begins) == len(pieces) + 1
        for (begin, end), (part, text) in zip(pairwise(begins), pieces, strict=True):
            # All that a token sees lies between its piece's first token and itself, and is of one document.
            assert batch.position_ids[0, begin:end].tolist() == list(range(end - begin))
            seen = tokenizer.decode(batch.input_ids[0, begin:end], skip_special_tokens=True)
            assert seen in text
            assert part != "questions" or not any(sentence in seen for sentence in SENTENCES)
        facts = [(part, set(named.of(text))) for part, text in pieces]
        told = {fact for part, each in facts if part == "documents" for fact in each}
        together += any(part == "questions" and each & told for part, each in facts)
    assert together > mixed.steps / 2, "one row often holds both, beside each other"


def test_a_question_beside_its_document_has_the_logits_that_it_has_alone(
    mixed: Read, inputs: dict[str, Artifact]
) -> None:
    model = load_model(inputs["model"].path("model"))
    for step in range(0, mixed.steps, 5):
        batch, pieces = pack_sequences(mixed.stream.batch(step)), list(mixed.pieces(step))
        together = logits(model, batch)
        begins = batch.layout.boundaries.tolist()
        for (begin, end), (part, _) in zip(pairwise(begins), pieces, strict=True):
            if part == "questions":
                alone = logits(model, pack([batch.input_ids[0, begin:end].numpy()]))
                torch.testing.assert_close(together[begin:end], alone, atol=1e-5, rtol=0)
