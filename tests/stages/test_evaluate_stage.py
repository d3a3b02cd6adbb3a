"""The evaluate stage: both models on the same text and items."""

import json
import math
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from stage_runs import artifact, make_corpus, model_artifact, run_stage
from tiny import clinical_texts
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt.corpus import Document, read_documents, read_index
from cpt.corpus.build import write_source
from cpt.corpus.heldout import Always
from cpt.errors import StageFailed
from cpt.halves import half_of
from cpt.models import bits_per_byte as bits_per_byte_module
from cpt.models.bits_per_byte import Scores, TokenisedText
from cpt.models.tokenizer import load_tokenizer
from cpt.progress import NullProgress
from cpt.stages.base import Artifact, UpstreamArtifact, WiringError
from cpt.stages.evaluate.stage import DOCUMENTS, STAGE
from cpt.stages.evaluate.stage import ITEMS as KEPT_ITEMS
from cpt.stages.vocabulary.stage import STAGE as VOCABULARY

PLAIN = {"heldout_tokens": 1000, "precision": "fp32"}
ITEMS = [
    {"question": "The heart of the", "choices": ["matter", "kidney", "doctor"], "answer": 0},
    {"question": "Nine", "choices": ["kidneys", "muscle"], "answer": 0},
]


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """The base, and the base with more tokens, which reads the same documents in fewer tokens."""
    folder = tmp_path_factory.mktemp("artifacts")
    base = model_artifact("base", tiny_model, folder)
    corpus = make_corpus(base, folder)
    run_stage(VOCABULARY, {"extend": {"tokens": 30}}, {"model": base, "corpus": corpus}, folder / "extended")
    after = model_artifact("after", folder / "extended/output/model", folder)
    return {"before": base, "after": after, "corpus": corpus}


@pytest.fixture(scope="module")
def plain(inputs: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The scores without further settings."""
    return evaluate({}, inputs, tmp_path_factory.mktemp("plain") / "run")


def evaluate(
    config: dict[str, Any], inputs: dict[str, Artifact], folder: Path, **more: Any
) -> dict[str, Any]:
    run_stage(STAGE, PLAIN | config, inputs, folder, **more)
    return json.loads((folder / "output/scores/scores.json").read_text())


def bits_per_byte(model_folder: Path, texts: list[str], start_token: str) -> float:
    """One document at a time, through transformers alone."""
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(model_folder),
        AutoTokenizer.from_pretrained(model_folder),
    )
    nats = 0.0
    for text in texts:
        ids = torch.tensor([tokenizer.encode(start_token + text, add_special_tokens=False)])
        with torch.no_grad():
            nats += model(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
    return nats / math.log(2) / sum(len(text.encode()) for text in texts)


def test_both_models_are_measured_on_the_same_documents(inputs, tmp_path: Path) -> None:
    metrics = run_stage(STAGE, PLAIN | {"heldout_tokens": 100_000}, inputs, tmp_path)
    scores = json.loads((tmp_path / "output/scores/scores.json").read_text())
    files = {file.name for file in (tmp_path / "output/scores").iterdir()}
    assert files == {"scores.json", DOCUMENTS, KEPT_ITEMS}
    assert metrics.keys() == {"bits_per_byte", "tasks"}
    corpus = inputs["corpus"].path("corpus")
    start = read_index(corpus).start_token
    assert scores["confidence"] == 0.95
    assert set(scores["bits_per_byte"]) == {"domain", "general"}
    for probe, found in scores["bits_per_byte"].items():
        texts = [document.text for document in read_documents(corpus, probe, "heldout")]
        assert found["documents"] == len(texts)
        assert found["bytes"] == sum(len(text.encode()) for text in texts)
        for when in ("before", "after"):
            expected = bits_per_byte(inputs[when].path("model"), texts, start)
            assert found[when]["value"] == pytest.approx(expected, rel=1e-4)
            assert found[when]["low"] < found[when]["value"] < found[when]["high"]
        change = found["after"]["value"] - found["before"]["value"]
        assert found["difference"]["value"] == pytest.approx(change)
    assert scores["tasks"] == {}
    kept = json.loads((tmp_path / "output/scores" / DOCUMENTS).read_text())
    for probe, found in kept.items():
        after = sum(found["nats"]) / sum(found["bytes"]) / math.log(2)
        assert after == pytest.approx(scores["bits_per_byte"][probe]["after"]["value"])
        texts = {document.text for document in read_documents(corpus, probe, "heldout")}
        assert set(found["texts"]) == {sha256(text.encode()).hexdigest() for text in texts}


def test_windows_hold_the_same_bytes_for_both_models(
    inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows of as many tokens would give the extended model more context."""
    read: list[TokenisedText] = []
    score = bits_per_byte_module.score

    def listening(model: Any, text: TokenisedText) -> Scores:
        read.append(text)
        return score(model, text)

    monkeypatch.setattr(bits_per_byte_module, "score", listening)
    scores = evaluate({"heldout_tokens": 100_000, "window": 16}, inputs, tmp_path)
    stretches = []
    for role, texts in (("before", read[:2]), ("after", read[2:])):
        tokenizer = load_tokenizer(inputs[role].path("model"))
        stretches.append(
            [
                tokenizer.decode(ids[context:].tolist())
                for text in texts
                for ids, context in zip(text.windows, text.context, strict=True)
            ]
        )
    assert stretches[0] == stretches[1]
    assert len(stretches[0]) > 2 * sum(found["documents"] for found in scores["bits_per_byte"].values())
    assert read[2].tokens < read[0].tokens
    for found in scores["bits_per_byte"].values():
        assert 0 < found["windows"]["mean_context_bytes"] < found["windows"]["bytes_per_window"]
        assert found["windows"]["unaligned_bytes"] == 0


def test_both_models_are_measured_on_the_gpu(inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def on_device(model: torch.nn.Module, text: TokenisedText) -> Scores:
        seen.append(next(model.parameters()).device.type)
        return Scores(text.bytes + 1.0, text.bytes)

    monkeypatch.setattr("cpt.models.packed_model.best_device", lambda: torch.device("meta"))
    monkeypatch.setattr(bits_per_byte_module, "score", on_device)
    evaluate({}, inputs, tmp_path)
    assert seen == ["meta"] * 4


def test_tasks_are_scored_and_kept_apart(inputs, tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    file.write_text("\n".join(map(json.dumps, ITEMS)))
    tasks = [
        {"name": "go-on", "continuation_of": "domain", "items": 7},
        {"name": "mine", "path": str(file)},
        {"name": "first", "path": str(file), "items": 1},
    ]
    scores = evaluate({"tasks": tasks}, inputs, tmp_path / "run")
    assert {name: task["items"] for name, task in scores["tasks"].items()} == {
        "go-on": 7,
        "mine": 2,
        "first": 1,
    }
    assert scores["tasks"]["mine"]["chance"] == pytest.approx((1 / 3 + 1 / 2) / 2)
    for task in scores["tasks"].values():
        assert task["metric"] == "acc_norm"
        for when in ("before", "after"):
            assert 0 <= task[when]["low"] <= task[when]["value"] <= task[when]["high"] <= 1
            assert 0 < task["p_gold"][when]["value"] < 1
        by_p_gold = {when: found["value"] for when, found in task["p_gold"].items()}
        assert by_p_gold["difference"] == pytest.approx(by_p_gold["after"] - by_p_gold["before"])
    marks = json.loads((tmp_path / "run/output/scores" / KEPT_ITEMS).read_text())
    assert marks.keys() == {"go-on", "mine", "first"}
    assert len(set(marks.values())) == 3


def test_fewer_items_than_asked_for_are_said_and_none_is_a_failure(inputs, tmp_path: Path) -> None:
    messages: list[str] = []

    class Recorder(NullProgress):
        def message(self, text: str) -> None:
            messages.append(text)

    task = {"name": "go-on", "continuation_of": "domain", "items": 999}
    scores = evaluate({"tasks": [task]}, inputs, tmp_path / "a", progress=Recorder())
    assert any(f"{scores['tasks']['go-on']['items']} items" in message for message in messages)
    with pytest.raises(StageFailed, match="make no item"):
        evaluate(
            {"tasks": [task | {"continuation_of": "general"}]},
            without_general(inputs, tmp_path),
            tmp_path / "b",
        )


def without_general(inputs: dict[str, Artifact], folder: Path) -> dict[str, Artifact]:
    return inputs | {"corpus": make_corpus(inputs["before"], folder / "plain", general=False)}


def test_every_setting_counts(inputs, plain, tmp_path: Path) -> None:
    plain = plain["bits_per_byte"]["domain"]

    def changed(name: str, **settings: Any) -> dict[str, Any]:
        return evaluate(settings, inputs, tmp_path / name)["bits_per_byte"]["domain"]

    assert changed("one", heldout_tokens=1)["documents"] == 1 < plain["documents"]
    assert changed("short", window=8)["before"]["value"] != plain["before"]["value"]
    assert changed("half", precision="bf16")["before"]["value"] != plain["before"]["value"]
    wide = changed("sure", confidence=0.999)["before"]
    assert wide["low"] < plain["before"]["low"] < plain["before"]["high"] < wide["high"]
    other_seed = evaluate({}, inputs, tmp_path / "seed", seed=3)["bits_per_byte"]["domain"]
    assert other_seed["bytes"] != plain["bytes"]


def test_roles_are_the_base_the_newest_model_and_the_corpus() -> None:
    model, both = frozenset({"model"}), frozenset({"model", "corpus"})
    earlier = (
        UpstreamArtifact("base", model),
        UpstreamArtifact("corpus", frozenset({"corpus"})),
        UpstreamArtifact("vocabulary", both),
        UpstreamArtifact("pretrain", model),
    )
    config = STAGE.Config.model_validate
    assert STAGE.wire(config({}), earlier) == {"before": "base", "after": "pretrain", "corpus": "vocabulary"}
    assert STAGE.wire(config({"from": "vocabulary"}), earlier)["after"] == "vocabulary"


def test_a_model_is_compared_with_further_models_too(inputs, plain, another_model, tmp_path: Path) -> None:
    """With an earlier stage's, here its own once more, and with one that no stage made."""
    other = str(another_model("other", seed=1))
    task = {"name": "go-on", "continuation_of": "domain", "items": 5}
    config = {"against": ["base", "early", other], "tasks": [task]}
    scores = evaluate(config, inputs | {"against:1": inputs["after"]}, tmp_path / "run")
    assert plain.keys() == {"confidence", "bits_per_byte", "tasks"}
    assert {**scores, "tasks": {}, "against": None} == {**plain, "against": None}
    assert scores["against"].keys() == {"early", other}
    same, changed = scores["against"].values()
    for found in (
        *same["bits_per_byte"].values(),
        same["tasks"]["go-on"],
    ):  # a model does not differ from itself
        assert found["difference"]["value"] == 0.0
        assert found["difference"]["low"] <= 0.0 <= found["difference"]["high"]
        assert found["before"] == found["after"]
    for kind in ("bits_per_byte", "tasks"):
        for name, score in changed[kind].items():
            assert score["after"] == scores[kind][name]["after"]
            change = score["after"]["value"] - score["before"]["value"]
            assert score["difference"]["value"] == pytest.approx(change)
    assert changed["bits_per_byte"]["domain"]["before"] != plain["bits_per_byte"]["domain"]["before"]


def test_further_models_are_stages_or_references() -> None:
    model = frozenset({"model"})
    earlier = (
        UpstreamArtifact("base", model),
        UpstreamArtifact("corpus", frozenset({"corpus"})),
        UpstreamArtifact("pretrain", model),
        UpstreamArtifact("merge", model, {"base": "base", "model0": "pretrain"}, chosen=True),
        UpstreamArtifact("again", model, {"model": "merge"}),
    )

    def config(*against: str, **more: Any) -> Any:
        return STAGE.Config.model_validate({"against": ["base", *against], **more})

    roles = STAGE.wire(config("pretrain", "org/model", "again", **{"from": "merge"}), earlier)
    assert roles == {
        "before": "base",
        "after": "merge",
        "corpus": "corpus",
        "against:1": "pretrain",
        "against:3": "again",
        "chosen:0": "merge",
    }
    assert STAGE.references(config("pretrain", "org/model", "./mine")) == ["org/model", "./mine"]
    for name, message in (
        ("corpus", "`corpus` makes no model"),
        ("petrain", "there is no earlier stage called `petrain`"),
        ("again", "`again` makes the model that is evaluated"),
    ):
        with pytest.raises(WiringError, match=message) as raised:
            STAGE.wire(config("org/model", name), earlier)
        assert raised.value.problem.key == "against.2"
    for against, message in (
        (["pretrain"], "`base` must be the first"),
        (["base", "a", "a"], "more than once"),
    ):
        with pytest.raises(ValidationError, match=message):
            STAGE.Config.model_validate({"against": against})


def test_a_folder_that_is_no_model_is_found_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    [problem] = STAGE.check(STAGE.Config.model_validate({"against": ["base", str(tmp_path / "other")]}), {})
    assert problem.key == "against.1"
    assert "other" in problem.message


def test_files_are_references_and_are_checked_line_by_line(inputs, tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl"
    file.write_text(json.dumps(ITEMS[0]) + "\n{}\n")
    tasks = [{"name": "a", "continuation_of": "general"}, {"name": "b", "path": str(file)}]
    config = STAGE.Config.model_validate({"tasks": tasks})
    assert STAGE.references(config) == [str(file)]
    [problem] = STAGE.check(config, {})
    assert (problem.file, problem.line, problem.key) == (str(file), 2, "tasks.1.path")
    without = without_general(inputs, tmp_path)["corpus"]
    [problem] = STAGE.heldout_problems(config, without, halved=False)
    assert (problem.key, problem.message) == (
        "tasks.0.continuation_of",
        "the corpus holds out no general text",
    )


def test_held_out_text_that_makes_no_item_is_found_with_the_corpus(inputs, tmp_path: Path) -> None:
    """On all of it, and on the half that is left where merge weights are searched."""
    folder = tmp_path / "few"
    texts = clinical_texts()[:6]
    search = [text for text in texts if half_of(text) == "search"]
    assert 0 < len(search) < len(texts)
    config = STAGE.Config.model_validate({"tasks": [{"name": "a", "continuation_of": "domain"}]})

    def keys(texts: list[str], halved: bool) -> list[str | None]:
        write_source(folder / "corpus", "domain", _documents(texts), Always("heldout"), set())
        found = STAGE.heldout_problems(config, artifact("corpus", folder, "corpus"), halved)
        return [problem.key for problem in found]

    assert STAGE.heldout_problems(config, inputs["corpus"], halved=False) == []
    assert keys(texts, halved=False) == []
    assert keys(texts[:1], halved=False) == ["tasks.0.continuation_of"]
    assert keys(texts, halved=True) == ["tasks.0.continuation_of"]
    assert keys(search, halved=True) == ["tasks.0.continuation_of", None]


def _documents(texts: list[str]) -> list[Document]:
    return [Document(str(number), text) for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([{"name": "a", "path": "x"}, {"name": "a", "path": "y"}], "two tasks are called a"),
        ([{"name": "../a", "path": "x"}], "pattern"),
        ([{"name": "a", "continuation_of": "replay"}], "domain"),
        ([{"name": "a", "continuation_of": "domain", "path": "x"}], "Extra inputs"),
    ],
)
def test_tasks_that_make_no_sense_are_refused(tasks: list[dict], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        STAGE.Config.model_validate({"tasks": tasks})
