"""`cpt eval contamination`, `text` and `suites` on tiny models."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from eval_words import Run
from general_files import write_lines
from stage_runs import artifact, run_stage
from tiny import varied_texts, write_jsonl
from toy_suite import arc

from cpt.cli import progress_bar
from cpt.models import shared_windows
from cpt.recipe.events import EtaEstimator
from cpt.stages.corpus.stage import STAGE


def test_contamination_finds_the_items_of_a_text(
    run: Run, facts: Any, models: tuple[Path, Path], evaluated: list[str], place: Path
) -> None:
    results = evaluated[0]
    seen = arc(24)[:12]
    write_jsonl(place / "seen.jsonl", [f"As they say: {each['query']}" for each in seen])
    words = ("contamination", results, "--text", "seen.jsonl", "--data", "data", "--suite", "toy.yaml")
    found = facts(*words)
    [task] = found["tasks"]
    assert found["text"] == {"seen.jsonl": 12}
    assert task["dirty"]["n"] + task["clean"]["n"] == 8
    assert 0 < task["dirty"]["n"] < 8
    assert len(task["items"]) == task["dirty"]["n"]
    code, out, _ = run(*words)
    assert code == 0
    assert "seen.jsonl" in out
    clean = facts("compare", *models, "--clean", Path(results) / "contamination.json")
    [silent] = (each for each in clean["no_signal"] if each["task"] == "arc_easy")
    assert silent["n"] == task["clean"]["n"]
    assert (silent["a"], silent["b"]) == (0, 0)
    assert facts(*words, "--ngram", 40)["tasks"][0]["short"]["n"] == 8


def test_contamination_asks_no_level_of_a_suite(facts: Any, evaluated: list[str], place: Path) -> None:
    write_jsonl(place / "one.jsonl", ["something"])
    (place / "whole.yaml").write_text(
        'name: toy\nabout: Toys.\ntasks: [{task: arc_easy, source: "arc:easy", metric: acc_norm}]\n'
    )
    words = ("contamination", evaluated[0], "--text", "one.jsonl", "--data", "data")
    assert facts(*words, "--suite", "whole.yaml")["tasks"][0]["clean"]["n"] == 8


def test_contamination_of_a_corpus_artifact(
    facts: Any, run: Run, models: tuple[Path, Path], evaluated: list[str], tmp_path: Path
) -> None:
    documents = write_jsonl(tmp_path / "seen.jsonl", [each["query"] for each in arc(24)])
    (tmp_path / "base").mkdir()
    (tmp_path / "base/model").symlink_to(models[0])
    least = {"documents": 1, "bytes": 1}
    corpus = {"domain": [{"path": str(documents)}], "heldout": 0.2, "sequence_length": 64}
    config = corpus | {"heldout_min": least}
    base = artifact("base", tmp_path / "base", "model")
    run_stage(STAGE, config, {"model": base}, tmp_path / "run")
    words = ("contamination", evaluated[0], "--data", "data", "--suite", "toy.yaml")
    found = facts(*words, "--corpus", tmp_path / "run/output")
    assert found["text"].keys() == {"domain"}
    assert 0 < found["text"]["domain"] < 24
    assert found["tasks"][0]["dirty"]["n"] > 0
    code, _, err = run(*words, "--corpus", tmp_path)
    assert (code, "holds no corpus" in err) == (2, True)
    code, _, err = run(*words)
    assert (code, "no text to look in" in err) == (2, True)


def test_contamination_of_other_data_is_refused_task_by_task(
    facts: Any, evaluated: list[str], tmp_path: Path
) -> None:
    write_lines(tmp_path / "arc_easy.jsonl", arc(3))
    write_jsonl(tmp_path / "seen.jsonl", ["something"])
    found = facts(
        "contamination",
        evaluated[0],
        *("--text", tmp_path / "seen.jsonl", "--data", tmp_path, "--suite", "toy.yaml"),
    )
    assert found["tasks"] == []
    assert "other data" in found["not_searched"]["arc_easy"]


def test_text_compares_models_on_the_same_bytes(
    run: Run, facts: Any, models: tuple[Path, Path], tmp_path: Path
) -> None:
    documents = tmp_path / "documents.jsonl"
    found = facts("text", *models, "--text", "text.jsonl", "--documents", documents)
    first, second = found["texts"]
    assert first["bytes"] == second["bytes"]
    assert first["documents"] == 13
    assert "difference" not in first
    assert second["difference"] == pytest.approx(second["bits_per_byte"] - first["bits_per_byte"])
    assert second["interval"][0] < second["difference"] < second["interval"][1]
    lines = [json.loads(line) for line in documents.read_text().splitlines()]
    assert len(lines) == 26
    of_first = [line for line in lines if line["model"] == str(models[0])]
    assert sum(line["bytes"] for line in of_first) == first["bytes"]
    code, out, _ = run("text", *models, "--text", "text.jsonl")
    assert code == 0
    assert f"{first['bits_per_byte']:.4f}" in out


def test_a_text_without_documents_is_named(run: Run, models: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    code, _, err = run("text", models[0], "--text", "text.jsonl", "--text", f"law={tmp_path}/empty.jsonl")
    assert (code, "law: there is no text to score" in err) == (1, True)


def test_models_with_different_tokenizers_read_the_same_windows(
    facts: Any, models: tuple[Path, Path], place: Path, another_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In windows of as many tokens the coarser tokenizer would read with more context."""
    coarse = another_model("coarse", vocabulary=420)
    write_jsonl(place / "long.jsonl", [" ".join(varied_texts(30, tag)) for tag in "ab"])
    encoded: list[int] = []
    encode = shared_windows.encoded

    def counting(readers: Any, texts: Any) -> Any:
        encoded.append(len({id(reader.tokenizer) for reader in readers}))
        return encode(readers, texts)

    monkeypatch.setattr("evals.text_scores.encoded", counting)
    words = ("--text", "law=long.jsonl", "--window", 32, "--overlap", 8)
    found = facts("text", *models, coarse, *words)["texts"]
    assert encoded == [2]
    assert [each["text"] for each in found] == ["law"] * 3
    assert len({each["bytes"] for each in found}) == 1
    assert found[0]["windows"] == found[2]["windows"]
    assert found[0]["windows"]["least_context_bytes"] > 0
    alone = [facts("text", each, *words)["texts"][0]["windows"] for each in (models[0], coarse)]
    assert alone[1]["mean_context_bytes"] > 1.05 * alone[0]["mean_context_bytes"]
    assert found[0]["tokens"] > found[2]["tokens"]


def test_precision_is_bfloat16_where_the_hardware_has_it(
    facts: Any, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    for fast, expected in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr("cpt.models.packed_model.has_fast_bfloat16", lambda fast=fast: fast)
        [found] = facts("text", models[0], "--text", "text.jsonl")["texts"]
        assert found["precision"] == expected


def test_progress_of_text_tells_total_and_time_left(
    run: Run, models: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_bar, "SECONDS_OF_SILENCE", 0.0)
    clock = iter(range(10**6))
    monkeypatch.setattr(progress_bar, "EtaEstimator", lambda: EtaEstimator(lambda: float(next(clock))))
    words = ("--text", "text.jsonl", "--text", "again=text.jsonl", "--batch-tokens", 30)
    code, _, err = run("text", *models, *words)
    assert code == 0, err
    lines = re.findall(r"([\d,]+)/([\d,]+) tokens(, [\d.:]+(?: s)? left)?", err)
    assert len({total for _, total, _ in lines}) == 1
    assert lines[-1][0] == lines[-1][1]
    assert sum(bool(left) for _, _, left in lines) > 10


def test_a_text_that_is_not_there_is_told_before_work(run: Run, models: tuple[Path, Path]) -> None:
    code, _, err = run("text", models[0], "--text", "text.jsonl", "--text", "nowhere.jsonl", "--window", 4096)
    assert code == 2
    assert "nowhere.jsonl" in err
    assert "--window" not in err


def test_settings_of_text(facts: Any, run: Run, models: tuple[Path, Path], place: Path) -> None:
    write_jsonl(place / "long.jsonl", [" ".join(varied_texts(30)), "x"])

    def measured(*words: object) -> Any:
        return facts("text", models[0], "--text", "long.jsonl", *words)["texts"][0]

    plain = measured("--window", 64, "--overlap", 16, "--precision", "fp32")
    assert measured("--window", 64, "--overlap", 16, "--precision", "fp32", "--batch-tokens", 1)[
        "bits_per_byte"
    ] == pytest.approx(plain["bits_per_byte"], rel=1e-5)
    for words in (
        ("--window", 48, "--overlap", 16),
        ("--window", 64, "--overlap", 32),
        ("--window", 64, "--overlap", 16, "--precision", "bf16"),
        ("--window", 64, "--overlap", 16, "--start-token", "none"),
    ):
        assert measured("--precision", "fp32", *words)["bits_per_byte"] != plain["bits_per_byte"]
    bare = measured("--start-token", "none", "--overlap", 16)
    assert bare["documents_scored"] == 1
    assert bare["bytes_not_scored"] == 2
    assert bare["window"] == 128
    code, _, err = run("text", models[0], "--text", "long.jsonl", "--window", 16, "--overlap", 15)
    assert (code, "no room" in err) == (1, True)


def test_suites_are_listed_and_say_what_can_run(run: Run, facts: Any) -> None:
    code, out, _ = run("suites")
    assert code == 0
    for name in ("general", "medical", "legal", "finance"):
        assert name in out
    [toy] = facts("suites", "toy.yaml", "--data", "data", "--offline")
    assert toy["levels"]["smoke"] == {"tasks": 2, "items": 8}
    tasks = {task["task"]: task for task in toy["tasks"]}
    assert tasks["arc_easy"]["runs"]
    assert tasks["arc_easy"]["licence"] == "CC BY-SA 4.0"
    [(file, checksum)] = tasks["arc_easy"]["files"].items()
    assert file.endswith("arc_easy.jsonl")
    assert len(checksum) == 64
    assert not tasks["winogrande"]["runs"]
    assert "winogrande.jsonl" in tasks["winogrande"]["why_not"]
    code, out, _ = run("suites", "toy.yaml", "--data", "data", "--offline")
    assert code == 0
    assert "left out" in out
