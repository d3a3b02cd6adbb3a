"""The hypernetwork stage in a fixed tokenizer: where it begins, and the model that it trains and writes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from made_hypernetworks import hub_snapshot, write_hypernetwork
from pydantic import ValidationError
from safetensors.torch import load_file
from stage_runs import Heard, artifact, make_corpus, model_artifact, run_stage
from tiny import clinical_texts, varied_texts, write_jsonl, write_tiny_model

from cpt.cli import main
from cpt.errors import StageFailed
from cpt.models.token_ids import read_new_tokens
from cpt.recipe.fingerprint import config_data
from cpt.stages.base import Artifact, UpstreamArtifact, WiringError
from cpt.stages.corpus.checks import tokenizer_problems
from cpt.stages.hypernetwork.stage import STAGE
from tokenizer_tools.hypernetwork.folder import load_hypernetwork, read_facts
from tokenizer_tools.hypernetwork.predict import predict_rows
from tokenizer_tools.hypernetwork.surface_forms import from_pieces
from tokenizer_tools.transfer import pieces_of
from tokenizer_tools.vocabulary import read_vocabulary

EMBEDDING = "model.embed_tokens.weight"
SMALL: dict[str, Any] = {
    "steps": 3,
    "texts": 2,
    "sequence_length": 24,
    "precision": "fp32",
    "schedule": {"kind": "constant", "peak": 1e-3},
}


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of 330 tokens."""
    return write_tiny_model(tmp_path_factory.mktemp("other") / "other", vocabulary=330)


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """Model, corpus and a hypernetwork."""
    folder = tmp_path_factory.mktemp("inputs")
    base = model_artifact("base", tiny_model, folder)
    write_hypernetwork(folder / "zett" / "hypernetwork", tiny_model)
    network = artifact("zett", folder / "zett", "hypernetwork")
    return {"model": base, "corpus": make_corpus(base, folder), "hypernetwork": network}


def settings(other: Path, **more: Any) -> dict[str, Any]:
    return {**SMALL, "tokenizer": str(other), **more}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def test_the_model_has_the_tokenizer_and_the_rows_that_are_predicted(
    inputs: dict[str, Artifact], other: Path, tiny_model: Path, tmp_path: Path
) -> None:
    config = settings(other, backbone={"rate": 1e-3})
    metrics = run_stage(STAGE, config, inputs, tmp_path / "run")
    output = tmp_path / "run" / "output"
    source, target = read_vocabulary(tiny_model), read_vocabulary(output / "model")
    assert target.tokens == read_vocabulary(other).tokens
    plain = [token for token, surface in enumerate(target.surfaces) if surface]
    forms = from_pieces(
        pieces_of(source, target, plain), [target.surfaces[token] or b"" for token in plain], 300, 7
    )
    rows = predict_rows(load_hypernetwork(output / "hypernetwork", tiny_model), forms)["tied"]
    made, before = weights(output / "model"), weights(tiny_model)
    torch.testing.assert_close(made[EMBEDDING][plain], rows)
    assert torch.equal(made[EMBEDDING][:2], before[EMBEDDING][:2])
    assert made.keys() == before.keys()
    for name in made.keys() - {EMBEDDING}:
        assert not torch.equal(made[name], before[name]), name
    assert len(read_new_tokens(output / "model")) == 30
    assert tokenizer_problems(output / "model", output / "corpus") == []
    facts = metrics["vocabulary"]
    assert (facts["before"], facts["after"], facts["rows"]) == (300, 330, 384)
    assert (facts["copied_rows"], facts["new_rows"]) == (2, 328)
    assert facts["initialisation"]["predicted"] == 328
    assert facts["bytes_per_token_after"] > facts["bytes_per_token_before"]
    assert not list((tmp_path / "run" / "work").glob("tmp*"))
    card = (output / "hypernetwork" / "README.md").read_text()
    assert f"trained together with the model, for the tokenizer `{other}`" in card
    assert json.loads(json.dumps(metrics))["steps"] == 3


def test_at_rate_zero_the_model_is_a_plain_transfer(
    inputs: dict[str, Artifact],
    other: Path,
    tiny_model: Path,
    tmp_path: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The model equals what `cpt tokenizer transfer` makes with the trained hypernetwork, to the bit.

    The transfer refuses such a hypernetwork, since the model may have been trained too.
    """
    monkeypatch.setattr("tokenizer_tools.embeddings.hypernetwork.require_untrained_model", lambda _: None)
    for shared in ("copied", "predicted"):
        config = settings(other, backbone={"rate": 0}, shared=shared)
        run_stage(STAGE, config, inputs, tmp_path / shared)
        output, plain = tmp_path / shared / "output", tmp_path / f"{shared}-plain"
        words = ("--hypernet", output / "hypernetwork", "--tokenizer", other, f"shared={shared}")
        words = (*words, "--model", tiny_model, "--out", plain)
        assert main(["tokenizer", "transfer", *map(str, words)]) == 0
        made, expected = weights(output / "model"), weights(plain)
        assert made.keys() == expected.keys()
        assert all(torch.equal(made[name], expected[name]) for name in made)
        assert {path.name for path in (output / "model").iterdir()} == {path.name for path in plain.iterdir()}


def test_without_a_backbone_only_the_hypernetwork_is_made(
    inputs: dict[str, Artifact], other: Path, tmp_path: Path
) -> None:
    config = STAGE.Config.model_validate(settings(other))
    assert STAGE.outputs(config) == ("hypernetwork",)
    assert not config.brings_new_tokens
    metrics = run_stage(STAGE, settings(other), inputs, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run" / "output").iterdir()] == ["hypernetwork"]
    assert "vocabulary" not in metrics
    both = STAGE.Config.model_validate(settings(other, backbone={}))
    assert STAGE.outputs(both) == ("hypernetwork", "model", "corpus")
    assert both.brings_new_tokens


def test_training_begins_with_the_network_of_a_stage_a_folder_or_the_hub(
    inputs: dict[str, Artifact],
    other: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first log record is that of the network that it begins with; without one, of a new network."""
    folder = inputs["hypernetwork"].path("hypernetwork")
    shutil.copytree(folder, hub_snapshot(tmp_path / "hub", monkeypatch))
    alone = {role: inputs[role] for role in ("model", "corpus")}
    first: dict[str, Any] = {}
    for name, given, more in (
        ("stage", inputs, {}),
        ("folder", alone, {"initial": str(folder)}),
        ("hub", alone, {"initial": "org/zett"}),
        ("new", alone, {"network": {"layers": 1, "heads": 2}}),
    ):
        config = settings(other, steps=1, **more)
        checked = STAGE.Config.model_validate(config)
        assert [*STAGE.check(checked, given), *STAGE.fetch(checked, Heard())] == []
        run_stage(STAGE, config, given, tmp_path / name)
        made = tmp_path / name / "output" / "hypernetwork"
        assert read_facts(made).hypernetwork == read_facts(folder).hypernetwork
        first[name] = json.loads((made / "steps.jsonl").read_text())["loss_nats"]
    assert first["stage"] == first["folder"] == first["hub"] != first["new"]


def test_a_stopped_stage_goes_on_and_a_finished_one_is_prolonged(
    inputs: dict[str, Artifact], other: Path, tmp_path: Path
) -> None:
    config = settings(other, backbone={"rate": 1e-3}, checkpoint={"every": 1})
    run_stage(STAGE, config | {"steps": 2}, inputs, tmp_path / "first")
    start = tmp_path / "first" / "output" / "hypernetwork"
    alone = {role: inputs[role] for role in ("model", "corpus")}
    longer = config | {"steps": 4, "start": str(start)}
    assert STAGE.check(STAGE.Config.model_validate(longer), alone) == []
    run_stage(STAGE, longer, alone, tmp_path / "second")
    run_stage(STAGE, config | {"steps": 4}, inputs, tmp_path / "whole")
    for name in ("hypernetwork/hypernetwork.safetensors", "model/model.safetensors"):
        one, another = ((tmp_path / run / "output" / name).read_bytes() for run in ("second", "whole"))
        assert one == another


def test_where_the_network_comes_from_is_wired(other: Path) -> None:
    base = UpstreamArtifact("base", frozenset({"model"}))
    corpus = UpstreamArtifact("corpus", frozenset({"corpus"}))
    networks = [
        UpstreamArtifact(name, frozenset({"hypernetwork"}), inputs={"model": "base"})
        for name in ("one", "two")
    ]

    def wired(earlier: list[UpstreamArtifact], **more: Any) -> dict[str, str]:
        return STAGE.wire(STAGE.Config.model_validate(settings(other, **more)), [base, corpus, *earlier])

    plain = {"model": "base", "corpus": "corpus"}
    assert wired(networks) == plain | {"hypernetwork": "two"}
    assert wired(networks, **{"from": "one"}) == plain | {"hypernetwork": "one"}
    assert wired(networks, initial="a/b") == wired(networks, start="a/b") == wired([]) == plain
    sampled = STAGE.Config.model_validate(SMALL)
    assert STAGE.wire(sampled, [base, corpus, *networks]) == plain
    with pytest.raises(WiringError, match="predicts noise before it is trained"):
        wired([], network={"variant": "zett"})
    assert wired([], network={"variant": "zett"}, initial="a/b") == plain


def test_what_cannot_begin_is_found_before_anything_runs(
    inputs: dict[str, Artifact], other: Path, tmp_path: Path
) -> None:
    folder = inputs["hypernetwork"].path("hypernetwork")
    alone = {role: inputs[role] for role in ("model", "corpus")}

    def problem(given: dict[str, Artifact], **more: Any) -> tuple[str | None, str]:
        (found,) = STAGE.check(STAGE.Config.model_validate(settings(other, **more)), given)
        return found.key, found.message

    stranger = model_artifact("stranger", write_tiny_model(tmp_path / "stranger", seed=3), tmp_path / "a")
    key, message = problem(inputs | {"model": stranger})
    assert (key, "was trained for" in message) == ("", True)
    key, message = problem(alone, initial=str(tmp_path))
    assert (key, "is no hypernetwork" in message) == ("initial", True)
    key, message = problem(alone, initial=str(folder), network={"layers": 2, "heads": 2})
    assert (key, "has another architecture" in message) == ("initial", True)
    grown = tmp_path / "grown"
    words = ("tokenizer", "extend", inputs["model"].path("model"), "--tokens", 10, "--out", grown)
    text = write_jsonl(tmp_path / "text.jsonl", varied_texts(20))
    assert main([*map(str, words), "--text", str(text)]) == 0
    key, message = problem(inputs | {"model": model_artifact("grown", grown, tmp_path / "b")})
    assert "knows 300 tokens, but the model in" in message
    lost = STAGE.Config.model_validate(settings(tmp_path / "nowhere", initial=str(tmp_path / "lost")))
    assert [found.key for found in STAGE.fetch(lost, Heard())] == ["tokenizer", "initial"]
    for more, message in (
        ({"start": "a/b"}, "give one"),
        ({"tokenizer": None}, "goes with a fixed tokenizer"),
    ):
        with pytest.raises(ValidationError, match=message):
            STAGE.Config.model_validate({**settings(other, initial="c/d"), **more})


def test_the_tokenizer_is_checked_before_anything_trains(inputs: dict[str, Artifact], tmp_path: Path) -> None:
    """One that the model cannot have is refused."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    letters = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    letters.pre_tokenizer = pre_tokenizers.Whitespace()
    (tmp_path / "letters").mkdir()
    letters.save(str(tmp_path / "letters" / "tokenizer.json"))
    with pytest.raises(StageFailed, match="fails its checks: it has no eos token"):
        run_stage(STAGE, settings(tmp_path / "letters"), inputs, tmp_path / "run")
    assert not list((tmp_path / "run" / "work").glob("step-*"))


def test_settings_of_before_keep_their_fingerprint() -> None:
    sampled = config_data(STAGE.Config.model_validate(SMALL))
    assert not {"tokenizer", "backbone", "initial"} & sampled.keys()
    fixed = STAGE.Config.model_validate(SMALL | {"tokenizer": "a/b", "initial": "c/d"})
    assert {"tokenizer", "initial"} <= config_data(fixed).keys()
    assert STAGE.references(fixed) == ["a/b", "c/d"]


def test_a_recipe_plans_trains_and_evaluates(
    tiny_model: Path,
    other: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "text.jsonl", clinical_texts())
    write_jsonl(tmp_path / "general.jsonl", varied_texts(20, "general "))
    sampled = {"network": {"layers": 1, "heads": 2}, "sampling": {"vocabulary": 450, "queue": 16}}
    probes = {"tokenizers": {"other": str(other)}, "every": 2, "bytes": 300}
    corpus = {
        "domain": [{"path": "text.jsonl"}],
        "general": [{"path": "general.jsonl"}],
        "heldout": 0.2,
        "sequence_length": 48,
    }
    n_shot = settings(other, name="n-shot", backbone={"rate": 1e-3}, probes=probes)
    pretrain = {"tokens": 500, "batch_sequences": 2, "monitor": {"every": 3, "window": 64}}
    stages = [
        {"corpus": corpus},
        {"hypernetwork": SMALL | sampled | {"name": "zero-shot"}},
        {"hypernetwork": n_shot},
        {"pretrain": pretrain},
        {"evaluate": {"window": 64}},
        {"report": {}},
    ]
    recipe = {"name": "r", "base": str(tiny_model), "stages": stages}
    (tmp_path / "r.yaml").write_text(json.dumps(recipe))
    assert main(["plan", "r.yaml"]) == 0
    planned = " ".join(capsys.readouterr().out.split())
    assert f"at most 144 tokens of {other}, on which hypernetwork and model train" in planned
    assert main(["run", "r.yaml"]) == 0, capsys.readouterr().err
    (folder,) = (tmp_path / "runs" / "r").glob("n-shot-*")
    record = json.loads((folder / "artifact.json").read_text())
    assert record["kinds"] == ["hypernetwork", "model", "corpus"]
    assert record["parents"].keys() == {"model", "corpus", "hypernetwork"}
    assert list(record["metrics"]["zero_shot"]["other/domain"]) == ["0", "2", "3"]
    capsys.readouterr()
    words = ("eval", "text", tiny_model, folder / "model", "--text", "text.jsonl", "--json")
    assert main([*map(str, words)]) == 0
    found = json.loads(capsys.readouterr().out)["texts"]
    assert found[0]["bytes"] == found[1]["bytes"]
    assert main(["report", "r", "--json"]) == 0
    vocabulary = json.loads(capsys.readouterr().out)["vocabulary"]
    assert (vocabulary["before"], vocabulary["after"]) == (300, 330)
