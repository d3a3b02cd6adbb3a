"""Input noise in the pretrain stage: the rows and tokens that it is for, the plan, and what has no effect."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from stage_runs import artifact, model_artifact, run_stage
from tiny import clinical_texts, varied_texts, write_jsonl

from cpt.corpus import open_source, read_documents
from cpt.corpus.document_columns import PlainDocuments
from cpt.models.tokenizer import load_tokenizer
from cpt.stages.base import Artifact
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.corpus.stage import STAGE as CORPUS
from cpt.stages.pretrain.data import stream_of
from cpt.stages.pretrain.input_noise import ordinary_tokens
from cpt.stages.pretrain.stage import STAGE as PRETRAIN
from cpt.training.distributed.environment import Environment
from cpt.training.features import input_noise

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
MONITOR = {"every": 50, "probe_share": None, "samples": None, "early_end": None, "weights": None}
PLAIN = {
    "tokens": 1_000,
    "batch_sequences": 4,
    "replay": 0.25,
    "checkpoint": {"every": 50},
    "monitor": MONITOR,
    "precision": "fp32",
}
WITHOUT = {"documents": 0, "questions": 1, "reading": 1}


def talks(folder: Path, count: int) -> str:
    """Conversations whose template has no special tokens."""
    lines = [
        [
            {"role": "user", "content": f"Is number {number} a fever?"},
            {"role": "assistant", "content": f"No, {number} is a number."},
        ]
        for number in range(count)
    ]
    path = folder / f"talks-{count}.jsonl"
    path.write_text("".join(json.dumps({"messages": each}) + "\n" for each in lines))
    return str(path)


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """A domain with the parts that study makes, conversations among its documents, and replay text."""
    folder = tmp_path_factory.mktemp("noise")
    with_template = folder / "with-template"
    shutil.copytree(tiny_model, with_template)
    (with_template / "chat_template.jinja").write_text(TEMPLATE)
    base = model_artifact("base", with_template, folder)

    def source(part: str, texts: list[str]) -> dict[str, str]:
        return {"path": str(write_jsonl(folder / f"{part}.jsonl", texts)), "part": part}

    config = {
        "domain": [
            source("documents", clinical_texts()[:80]),
            {"path": talks(folder, 40), "chat": "messages", "part": "documents"},
            source("questions", varied_texts(30, "question ")),
            source("reading", varied_texts(30, "reading ")),
        ],
        "replay": [{"path": str(write_jsonl(folder / "replay.jsonl", varied_texts(40, "replay ")))}],
        "heldout": 0.1,
        "sequence_length": 64,
    }
    run_stage(CORPUS, config, {"model": base}, folder / "made")
    return {"model": base, "corpus": artifact("corpus", folder / "made" / "output", "corpus")}


def config_of(**settings: Any) -> Any:
    return PRETRAIN.Config.model_validate(PLAIN | {"input_noise": 0.2} | settings)


def trained(inputs: Mapping[str, Artifact], folder: Path, **settings: Any) -> dict[str, Any]:
    """The weights that a run leaves."""
    run_stage(PRETRAIN, PLAIN | settings, inputs, folder)
    return load_file(folder / "output" / "model" / "model.safetensors")


def same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return all((one[name] == other[name]).all() for name in one)


# rows and tokens


def test_documents_that_are_no_conversations_and_not_of_study_are_plain(inputs: dict[str, Artifact]) -> None:
    corpus = inputs["corpus"].path("corpus")
    documents = list(read_documents(corpus, "domain", "train"))
    plain = PlainDocuments(corpus, "domain")("domain", np.arange(len(documents)))
    assert plain.tolist() == [
        each.part == "documents" and each.text.startswith("Carcinoma") for each in documents
    ]
    assert 0 < plain.sum() < sum(each.part == "documents" for each in documents)


@pytest.mark.parametrize("source", ["domain", "domain.documents", "domain.questions", "domain.reading"])
def test_sequences_tell_which_of_their_pieces_are_plain(inputs: dict[str, Artifact], source: str) -> None:
    corpus = inputs["corpus"].path("corpus")
    tokenizer = load_tokenizer(inputs["model"].path("model"))
    opened, silent = open_source(corpus, source, tell_plain=True), open_source(corpus, source)
    found = []
    for number in range(len(opened)):
        row = opened.sequence(number)
        assert row.plain is not None
        assert silent.sequence(number).plain is None
        pieces = np.split(row.tokens, np.cumsum(row.piece_lengths)[:-1])
        for piece, plain in zip(pieces, row.plain, strict=True):
            text = tokenizer.decode(piece.tolist(), skip_special_tokens=True)
            starts = text.startswith(("Carcinoma", "user:", "question", "reading"))
            assert not starts or plain == text.startswith("Carcinoma")
            found.append(bool(plain))
    assert any(found) == (source in ("domain", "domain.documents"))
    assert not all(found)


@pytest.mark.parametrize("mixture", [None, {"temperature": 1}])
def test_replay_rows_tell_nothing(inputs: dict[str, Artifact], mixture: Any) -> None:
    corpus = inputs["corpus"].path("corpus")
    rows = stream_of(config_of(mixture=mixture), corpus, 3).batch(0)
    assert {row.source for row in rows if row.plain is None} == {"replay"}
    assert all(row.plain is None for row in stream_of(config_of(input_noise=0), corpus, 3).batch(0))


def test_special_tokens_and_those_around_documents_are_not_ordinary(
    inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    model, corpus = inputs["model"].path("model"), inputs["corpus"].path("corpus")
    assert ordinary_tokens(model, corpus, 300) == tuple(range(2, 300))
    assert ordinary_tokens(model, corpus, 200) == tuple(range(2, 200))
    text = {"path": str(write_jsonl(tmp_path / "a.jsonl", clinical_texts()))}
    config = {"domain": [text], "heldout": 0.1, "sequence_length": 64, "end_token": "a"}
    run_stage(CORPUS, config, {"model": inputs["model"]}, tmp_path / "made")
    end = load_tokenizer(model).token_to_id("a")
    found = ordinary_tokens(model, tmp_path / "made" / "output" / "corpus", 300)
    assert found == tuple(each for each in range(2, 300) if each != end)


# a training


def test_noise_is_read_of_documents_alone_and_changes_the_model(
    inputs: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[Any, np.ndarray]] = []

    def spied(row: Any, *arguments: Any) -> np.ndarray:
        read.append((row, original(row, *arguments)))
        return read[-1][1]

    original = input_noise.noisy_tokens
    plain = trained(inputs, tmp_path / "plain")
    off = trained(inputs, tmp_path / "off", input_noise=0.0)
    monkeypatch.setattr(input_noise, "noisy_tokens", spied)
    noisy = trained(inputs, tmp_path / "noisy", input_noise=0.2)
    assert same(plain, off)
    assert not same(plain, noisy)
    replaced, able = 0, 0
    for row, seen in read:
        if row.source == "replay":
            assert np.array_equal(seen, row.tokens)
            continue
        assert row.source == "domain"
        changed = seen != row.tokens
        may = np.repeat(row.plain, row.piece_lengths) & (row.tokens > 1)
        assert not changed[~may].any()
        replaced, able = replaced + int(changed.sum()), able + int(may.sum())
    assert replaced / able == pytest.approx(0.2, abs=0.1)


def test_parts_that_are_read_apart_have_noise_too(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    mixture = {"weights": {"documents": 2, "questions": 1, "reading": 1}}
    plain = trained(inputs, tmp_path / "plain", mixture=mixture, epochs=4)
    noisy = trained(inputs, tmp_path / "noisy", mixture=mixture, epochs=4, input_noise=0.2)
    assert not same(plain, noisy)


# before it


def test_the_plan_tells_the_noise(inputs: dict[str, Artifact]) -> None:
    words = "20% of the tokens read of documents are random (D-AR)"
    for known in (inputs, {}):
        assert words in PRETRAIN.forecast(config_of(), known, {})
        assert "D-AR" not in PRETRAIN.forecast(config_of(input_noise=0), known, {})


def test_a_mixture_without_documents_is_a_problem_before_and_after_the_corpus(
    inputs: dict[str, Artifact],
) -> None:
    settings: dict[str, Any] = {"mixture": {"weights": WITHOUT}, "epochs": 9}
    assert [each.key for each in PRETRAIN.check(config_of(**settings), inputs)] == ["input_noise"]
    assert PRETRAIN.check(config_of(**settings, input_noise=0), inputs) == []
    parts = [{"path": f"{name}.txt", "part": name} for name in WITHOUT]
    made = {"corpus": (CorpusConfig.model_validate({"domain": parts, "replay": [{"path": "replay.txt"}]}),)}

    def before(**changed: Any) -> list[str | None]:
        config = config_of(**settings | changed)
        return [each.key for each in PRETRAIN.check_environment(config, Environment(), made)]

    assert before() == ["input_noise"]
    assert before(input_noise=0) == []
    last = [{"until": 0.5, "weights": WITHOUT}, {"weights": WITHOUT | {"documents": 1}}]
    assert before(mixture=last) == []
    assert before(mixture=None, epochs=1) == []


def test_conversations_in_the_place_of_documents_are_a_problem(
    inputs: dict[str, Artifact], tmp_path: Path
) -> None:
    config = {
        "domain": [
            {"path": talks(tmp_path, 80), "chat": "messages", "part": "documents"},
            {"path": str(write_jsonl(tmp_path / "reading.jsonl", varied_texts(80))), "part": "reading"},
        ],
        "heldout": 0.1,
        "sequence_length": 64,
    }
    run_stage(CORPUS, config, {"model": inputs["model"]}, tmp_path / "made")
    corpus = artifact("talks", tmp_path / "made" / "output", "corpus")
    known = {"model": inputs["model"], "corpus": corpus}
    found = PRETRAIN.check(config_of(tokens=None, replay=0), known)
    assert [each.key for each in found] == ["input_noise"]
    assert "conversations are read as they are" in found[0].message
    assert PRETRAIN.check(config_of(tokens=None, replay=0, input_noise=0), known) == []
