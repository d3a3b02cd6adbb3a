"""The corpus stage's conversations from the base model: documents, counts, resumption, checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from corpus_runs import byte_model, problems
from pydantic import ValidationError
from stage_runs import model_artifact, run_stage
from tiny import clinical_texts, write_chat_model, write_jsonl

from cpt.corpus import read_documents, read_index
from cpt.corpus.documents import Document
from cpt.corpus.self_generated_chats import _ChatSampler
from cpt.stages.base import Artifact
from cpt.stages.corpus.replay_config import SelfGenerated
from cpt.stages.corpus.stage import STAGE as CORPUS

CHATS = {"tokens": 400, "length": 16, "batch": 50, "form": "chat"}


@pytest.fixture
def base(tmp_path: Path) -> Artifact:
    return model_artifact("base", write_chat_model(tmp_path / "model"), tmp_path)


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    domain = str(write_jsonl(tmp_path / "domain.jsonl", clinical_texts()))
    settings = {"domain": [{"path": domain}], "heldout": 0.1, "sequence_length": 128}
    return settings | {"replay": {"self_generated": CHATS}}


def made(base: Artifact, config: dict[str, Any], folder: Path, shared: Path | None = None) -> Path:
    run_stage(CORPUS, config, {"model": base}, folder, shared=shared)
    return folder / "output" / "corpus"


def replay(corpus: Path) -> list[Document]:
    return list(read_documents(corpus, "replay", "train"))


def test_replay_is_conversations_and_what_was_dropped_is_counted(
    base: Artifact, config: dict[str, Any], tmp_path: Path
) -> None:
    corpus = made(base, config, tmp_path / "made")
    documents, counts = replay(corpus), read_index(corpus).sources["replay"]
    assert documents
    assert all(document.text.startswith("<|im_start|>system\nBe kind.") for document in documents)
    assert all(document.marked for document in documents)
    assert all(document.text.endswith("<|im_end|>\n") == document.ended for document in documents)
    assert 0 < counts.splits["train"].cut == sum(not document.ended for document in documents)
    assert counts.splits["train"].marked == counts.splits["train"].documents == len(documents)
    removed = counts.removed_documents
    assert removed["cut_prompt"] > 0
    assert removed["empty_prompt"] + removed["empty_answer"] > 0
    assert counts.documents_in == len(documents) + sum(removed.values())


def test_a_weight_of_prompts_reaches_the_tokens(
    base: Artifact, config: dict[str, Any], tmp_path: Path
) -> None:
    own = {"name": "own", "weight": 1, "self_generated": CHATS | {"prompt_weight": 0}}
    plain = {"name": "text", "weight": 1, "self_generated": {**CHATS, "form": "text"}}
    corpus = made(base, config | {"replay": {"mixture": [own, plain]}}, tmp_path / "made")
    sources = read_index(corpus).sources
    chats, texts = sources["replay.own"].splits["train"], sources["replay.text"].splits["train"]
    assert 0 < chats.tokens_without_loss < chats.tokens
    assert texts.tokens_without_loss == texts.marked == 0


def test_another_held_out_share_samples_nothing_again_but_what_sampling_depends_on_does(
    base: Artifact, config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sample, seeds = _ChatSampler.sample, []

    def counted(self: _ChatSampler, *arguments: Any) -> Any:
        seeds.append(arguments[-1])
        return sample(self, *arguments)

    monkeypatch.setattr(_ChatSampler, "sample", counted)
    first = replay(made(base, config, tmp_path / "first", tmp_path / "shared"))
    assert seeds
    seeds.clear()
    assert replay(made(base, config | {"heldout": 0.2}, tmp_path / "again", tmp_path / "shared")) == first
    assert seeds == []
    weighted = config | {"replay": {"self_generated": CHATS | {"prompt_weight": 0.5}}}
    again = replay(made(base, weighted, tmp_path / "weighted", tmp_path / "shared"))
    assert [document.text for document in again] == [document.text for document in first]
    assert all(document.loss_weights for document in again)
    assert seeds == [], "a loss weight changes no sample"
    for number, changed in enumerate(({"temperature": 0.9}, {"length": 17})):
        other = config | {"replay": {"self_generated": CHATS | changed}}
        made(base, other, tmp_path / str(number), tmp_path / "shared")
        assert seeds, changed
        seeds.clear()


def test_chats_are_checked_before_anything_runs(base: Artifact, tmp_path: Path) -> None:
    chats = {"self_generated": CHATS}
    mixture = {"mixture": [{"name": "a", "weight": 1, "sources": [{"path": "a.txt"}]}]}
    mixture["mixture"].append({"name": "own", "weight": 1, **chats})
    plain = byte_model(tmp_path / "plain")
    without = "the base model has no chat template"
    assert problems(plain, replay=chats, sequence_length=64) == {"replay.self_generated.form": without}
    assert problems(plain, replay=mixture)["replay.mixture.1.self_generated.form"] == without
    assert "form" not in str(problems(plain, replay={"self_generated": {"tokens": 9}}))
    assert problems(base, replay=chats, sequence_length=64) == {}
    long = {"self_generated": CHATS | {"length": 128}}
    assert "128 positions" in problems(base, replay=long)["replay.self_generated.length"]


def test_a_weight_of_prompts_needs_conversations() -> None:
    assert SelfGenerated(tokens=9, form="chat", prompt_weight=0).prompt_weight == 0
    for wrong in ({"prompt_weight": 0.5}, {"form": "chat", "prompt_weight": 2}, {"form": "dialogue"}):
        with pytest.raises(ValidationError):
            SelfGenerated.model_validate({"tokens": 9, **wrong})
