"""The report stage: reads the earlier stages' folders, writes report.html and report.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from cpt.corpus.index import Amount, CorpusIndex, SourceCounts, SplitCounts, write_index
from cpt.errors import DataError
from cpt.progress import NullProgress
from cpt.stages.base import Artifact, Context, UpstreamArtifact, WiringError
from cpt.stages.report import STAGE, ReportConfig

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "base": "models/tiny",
    "seed": 1,
    "stages": [{"corpus": {}}, {"pretrain": {}}, {"evaluate": {}}, {"report": {}}],
}


def artifact(
    root: Path, stage: str, kinds: tuple[str, ...], name: str | None = None, **facts: Any
) -> Artifact:
    folder = root / (name or stage)
    for kind in kinds:
        (folder / kind).mkdir(parents=True)
    return Artifact(
        name=name or stage,
        stage=stage,
        kinds=kinds,
        fingerprint=f"{stage:0<64}",
        folder=folder,
        seconds=2.5,
        created="2026-03-01T09:22:56.000001+00:00",
        versions={"cpt": "0.1.0"},
        **facts,
    )


def corpus(
    root: Path, stage: str = "corpus", kinds: tuple[str, ...] = ("corpus",), tokens: int = 60
) -> Artifact:
    made = artifact(root, stage, kinds)
    splits = {
        "train": SplitCounts(documents=7, bytes=900, tokens=300, pieces=8, sequences=5),
        "heldout": SplitCounts(documents=2, bytes=200, tokens=tokens, pieces=2),
    }
    domain = SourceCounts(
        documents_in=10, removed={"duplicate": Amount(documents=1), "empty": Amount()}, splits=splits
    )
    index = CorpusIndex(
        sequence_length=64, start_token="<s>", end_token=None, tokenizer="0", sources={"domain": domain}
    )
    write_index(made.path("corpus"), index)
    return made


def pretrain(root: Path) -> Artifact:
    made = artifact(root, "pretrain", ("model", "training"))
    Tokenizer(WordLevel({"a": 0, "b": 1, "c": 2}, unk_token="a")).save(
        str(made.path("model") / "tokenizer.json")
    )
    gap = {"before": 1.2, "end": 0.9, "depth": 0.0, "trough_step": 0, "trough_tokens": 0}
    gap |= {"recovery_step": None, "recovery_tokens": None, "area": 0.0, "permanent": -0.3}
    summary = {"stability": {"domain": gap}, "tokens_per_second": 50.0, "steps": 2, "tokens": 128}
    steps = [{"step": n, "tokens": 64 * n, "loss_nats": 3.0 / n, "lr": 1e-3} for n in (1, 2)]
    probes = [
        {
            "step": n,
            "tokens": 64 * n,
            "probe": "domain",
            "kind": "text",
            "value": level,
            "standard_error": None,
        }
        for n, level in ((0, 1.2), (1, 1.0), (2, 0.9))
    ]
    folder = made.path("training")
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "ledger.json").write_text('{"domain": {"sequences": 2, "tokens": 128, "epochs": 0.4}}')
    (folder / "steps.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in steps))
    (folder / "probes.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in probes))
    return made


def evaluate(root: Path) -> Artifact:
    made = artifact(root, "evaluate", ("scores",))
    levels = {
        "before": {"value": 1.25, "low": 1.2, "high": 1.3},
        "after": {"value": 1.0, "low": 0.9, "high": 1.1},
        "difference": {"value": -0.25, "low": -0.3, "high": -0.2},
    }
    scores = {"confidence": 0.95, "bits_per_byte": {"domain": levels}, "tasks": {}}
    (made.path("scores") / "scores.json").write_text(json.dumps(scores))
    return made


def report(
    root: Path, stages: list[Artifact], config: ReportConfig | None = None
) -> tuple[dict[str, Any], str]:
    output = root / "output"
    output.mkdir()
    context = Context(output=output, work=root / "work", seed=1, progress=NullProgress(), recipe=RECIPE)
    STAGE.run(config or ReportConfig(), {stage.name: stage for stage in stages}, context)
    assert sorted(path.name for path in (output / "report").iterdir()) == ["report.html", "report.json"]
    data = json.loads((output / "report/report.json").read_text(encoding="utf-8"))
    return data, (output / "report/report.html").read_text(encoding="utf-8")


def test_facts_come_from_every_artifact(tmp_path: Path) -> None:
    data, page = report(tmp_path, [corpus(tmp_path), pretrain(tmp_path), evaluate(tmp_path)])
    domain = data["probes"]["domain"]
    assert (domain["before"], domain["after"], domain["permanent"]) == (1.25, 1.0, -0.25)
    followed = {"before": 1.2, "end": 0.9, "permanent": pytest.approx(-0.3), "permanent_error": None}
    assert domain["training"] == followed
    assert data["tokens"] == {"domain": 128}
    assert data["tokens_per_second"] == 50.0
    assert data["seconds"] == {"corpus": 2.5, "pretrain": 2.5, "evaluate": 2.5}
    assert data["vocabulary"]["before"] == data["vocabulary"]["after"] == 3
    assert data["vocabulary"]["bytes_per_token_before"] == pytest.approx(200 / (60 - 2))
    assert data["documents"]["domain"]["removed"] == {"duplicate": 1, "empty": 0}
    assert data["absent"] == ["vocabulary", "merge"]
    assert data["versions"] == {"cpt": "0.1.0"}
    assert data["machine"]["cpus"] >= 1
    assert "20% fewer bits per byte on domain text" in page


def test_the_newest_artifact_of_a_kind_counts(tmp_path: Path) -> None:
    metrics = {"before": 3, "after": 4, "bytes_per_token_before": 3.0, "bytes_per_token_after": 4.0}
    first, second = tmp_path / "1", tmp_path / "2"
    later = corpus(second, "vocabulary", ("model", "corpus"), tokens=52)
    later = later.model_copy(update={"metrics": {**metrics, "longest_tokens": ["abc"]}})
    data, _ = report(tmp_path, [corpus(first), later])
    assert data["vocabulary"].items() >= metrics.items()
    assert data["documents"]["domain"]["splits"]["heldout"]["tokens"] == 52


def test_a_title_heads_the_page(tmp_path: Path) -> None:
    data, page = report(tmp_path, [corpus(tmp_path)], ReportConfig(title="Medicine & law"))
    assert data["title"] == "Medicine & law"
    assert "<title>Medicine &amp; law: run report</title>" in page
    assert data["name"] == "tiny"


def test_every_earlier_stage_is_read_but_not_the_base_model() -> None:
    earlier = [
        UpstreamArtifact("base", frozenset({"model"})),
        UpstreamArtifact("corpus", frozenset({"corpus"})),
        UpstreamArtifact("anneal", frozenset({"model", "training"})),
    ]
    assert STAGE.wire(ReportConfig(), earlier) == {"corpus": "corpus", "anneal": "anneal"}


def test_from_has_no_meaning_for_a_report() -> None:
    with pytest.raises(WiringError) as raised:
        STAGE.wire(ReportConfig(from_="corpus"), [UpstreamArtifact("corpus", frozenset({"corpus"}))])
    assert raised.value.problem.key == "from"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("steps.jsonl", '{"step": 1, "tokens": 1}\n{"step":\n', r"steps\.jsonl:2: this is not JSON"),
        ("steps.jsonl", "[" * 100_000, r"steps\.jsonl:1: this is not JSON: recursion limit"),
        ("steps.jsonl", "7\n", r"steps\.jsonl:1: not of the form"),
        ("steps.jsonl", '{"tokens": 1}\n', r"steps\.jsonl:1: not of the form that cpt writes: step"),
        ("summary.json", "{", r"summary\.json: this is not JSON"),
        ("summary.json", "[]", r"summary\.json: not of the form"),
        ("summary.json", '{"stability": [1]}', r"summary\.json: not of the form that cpt writes: stability"),
        ("summary.json", "\0\x81", r"summary\.json: this is not JSON"),
        ("summary.json", None, r"summary\.json: the file is missing"),
        ("ledger.json", '{"domain": [1]}', r"ledger\.json: not of the form"),
        ("ledger.json", '{"domain": {"tokens": "many"}}', "do not have the form"),
    ],
)
def test_a_damaged_artifact_is_named(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    training = pretrain(tmp_path)
    file = training.path("training") / name
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(DataError, match=message):
        report(tmp_path, [training])
    assert not (tmp_path / "output" / "report").exists()


def test_training_without_probes_is_reported(tmp_path: Path) -> None:
    training = pretrain(tmp_path)
    (training.path("training") / "probes.jsonl").unlink()
    (training.path("training") / "summary.json").write_text('{"steps": 2, "tokens": 128}')
    data, page = report(tmp_path, [training])
    assert data["probes"] == {}
    assert "a stability gap could not be seen" in page


def test_what_was_watched_is_read_where_it_was_written(tmp_path: Path) -> None:
    training = pretrain(tmp_path)
    data, _ = report(tmp_path, [training])
    assert (data["watched"]["actions"], data["watched"]["samples"]) == ([], [])

    folder, second = training.path("training"), tmp_path / "second"
    second.mkdir()
    action = {"step": 1, "tokens": 64, "limit": "general <= +0.02", "probe": "general", "value": 0.018}
    action |= {"error": 0.003, "action": "raise-replay", "from": 0.1, "to": 0.2, "why": "general rose"}
    (folder / "actions.jsonl").write_text(json.dumps(action) + "\n")
    sample = {"source": "domain", "prompt": "The heart", "before": " is", "after": " beats"}
    (folder / "samples.json").write_text(json.dumps([sample]))
    data, page = report(second, [training])
    (found,) = data["watched"]["actions"]
    assert (found["before"], found["after"], found["why"]) == (0.1, 0.2, "general rose")
    assert data["watched"]["samples"] == [sample]
    assert "… beats" in page


def test_a_diverged_loss_still_gives_valid_json(tmp_path: Path) -> None:
    training = pretrain(tmp_path)
    steps = '{"step": 1, "tokens": 64, "loss_nats": NaN, "lr": 0.1}\n'
    (training.path("training") / "steps.jsonl").write_text(steps)
    data, _ = report(tmp_path, [training])
    assert data["training"]["points"][0]["loss_nats"] is None


def test_limits_of_an_earlier_training_are_read(tmp_path: Path) -> None:
    first, last = pretrain(tmp_path / "1"), pretrain(tmp_path / "2")
    first = first.model_copy(update={"name": "first"})
    gate = {"limit": "general <= +0.02", "probe": "general", "action": "warn", "verdict": "broken"}
    file = first.path("training") / "summary.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "gates": [gate]}))
    action = {"step": 1, "tokens": 64, "limit": gate["limit"], "probe": "general", "action": "warn"}
    (first.path("training") / "actions.jsonl").write_text(json.dumps(action) + "\n")
    data, page = report(tmp_path, [first, last])
    assert [(each["stage"], each["verdict"]) for each in data["watched"]["gates"]] == [("first", "broken")]
    assert [each["stage"] for each in data["watched"]["actions"]] == ["first"]
    assert data["training"]["stage"] == "pretrain"
    assert "1 of 1 limit broken" in page
