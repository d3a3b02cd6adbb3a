"""`cpt eval text --dynamic` on tiny models."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from eval_words import Run
from made_hypernetworks import hub_snapshot, write_hypernetwork
from tiny import write_tiny_model

WINDOWS = ("--window", 24, "--overlap", 10)


@pytest.fixture(scope="module")
def hypernetwork(models: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hypernetwork") / "network"
    write_hypernetwork(folder, models[0])
    return folder


def test_figures_beside_the_usual_ones(facts: Any, models: tuple[Path, Path], hypernetwork: Path) -> None:
    words = ("text", models[0], "--text", "text.jsonl", *WINDOWS, "--hypernet", hypernetwork, "--dynamic")
    off, on = (facts(*words, share) for share in (0, 0.3))
    [usual], [none], [some] = off["texts"], off["dynamic"], on["dynamic"]
    assert on["texts"] == off["texts"]
    assert none["merged"]["bits_per_byte"] == pytest.approx(usual["bits_per_byte"], rel=1e-5)
    assert none["prefill"]["difference"] == pytest.approx(0, abs=1e-5)
    for way in ("merged", "prefill"):
        assert some[way]["as_usual"] == pytest.approx(none[way]["as_usual"], rel=1e-6)
        assert none[way]["removed"] == 0 < some[way]["removed"]
        assert some[way]["tokens"] < some[way]["tokens_before"] == none[way]["tokens"]
        assert some[way]["bytes_per_token"] > some[way]["bytes_per_token_before"]
        difference = some[way]["bits_per_byte"] - some[way]["as_usual"]
        assert some[way]["difference"] == pytest.approx(difference)
        assert some[way]["interval"][0] <= difference <= some[way]["interval"][1]
        assert difference != 0
    assert some["merged"]["bytes"] == usual["bytes"] > some["prefill"]["bytes"]
    assert some["merged"]["tokens_before"] == usual["tokens"]
    assert some["merged"]["merged_tokens"] > 0
    assert on["settings"]["dynamic"] == 0.3
    assert "dynamic" not in facts("text", models[0], "--text", "text.jsonl")


def test_the_hypernetwork_may_be_on_the_hub(
    facts: Any,
    models: tuple[Path, Path],
    hypernetwork: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(hypernetwork, hub_snapshot(tmp_path / "hub", monkeypatch))
    words = ("text", models[0], "--text", "text.jsonl", "--dynamic", 0.3, "--hypernet")
    local, remote = facts(*words, hypernetwork), facts(*words, "org/zett")
    assert remote["dynamic"] == local["dynamic"]
    assert remote["settings"]["hypernet"] == "org/zett"


def test_the_table(run: Run, models: tuple[Path, Path], hypernetwork: Path) -> None:
    words = ("text", models[0], "--text", "law=text.jsonl", "--hypernet", hypernetwork, "--dynamic")
    code, out, _ = run(*words, 0.9, *WINDOWS)
    assert code == 0
    assert ("merged" in out, "prefill" in out, "not 90.0%" in out) == (True, True, True)
    code, out, _ = run(*words, 0.1)
    assert (code, "law: no document is longer than a window" in out) == (0, True)


def test_a_fine_tuned_variant_reads_the_rows_of_its_source(
    facts: Any, run: Run, models: tuple[Path, Path], hypernetwork: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    variant = Path(shutil.copytree(models[0], tmp_path / "variant"))
    changed = AutoModelForCausalLM.from_pretrained(variant)
    with torch.no_grad():
        changed.get_input_embeddings().weight.mul_(1.01)
    changed.save_pretrained(variant)
    words = ("--text", "text.jsonl", "--hypernet", hypernetwork, "--dynamic", 0.3, *WINDOWS)
    one, other = facts("text", models[0], variant, *words)["dynamic"]
    assert one["merged"]["bits_per_byte"] != other["merged"]["bits_per_byte"]
    assert one["merged"]["tokens"] == other["merged"]["tokens"]
    code, _, err = run("text", models[1], *words)
    assert (code, "is no fine-tuned variant of" in err) == (1, True)


def test_what_cannot_be_done_is_told(
    run: Run, models: tuple[Path, Path], hypernetwork: Path, tmp_path: Path
) -> None:
    text = ("text", models[0], "--text", "text.jsonl")
    for words in (("--dynamic", 0.2), ("--hypernet", hypernetwork)):
        code, _, err = run(*text, *words)
        assert (code, "go together" in err) == (2, True)
    for share in (-0.1, 1.5, "nan"):
        code, _, err = run(*text, "--hypernet", hypernetwork, f"--dynamic={share}")
        assert (code, "that is no share of tokens" in err) == (2, True)
    code, _, err = run(*text, "--dynamic", 0.2, "--hypernet", tmp_path)
    assert (code, "is no hypernetwork" in err) == (2, True)
    other = write_tiny_model(tmp_path / "other", vocabulary=340)
    code, _, err = run(
        "text", models[0], other, "--text", "text.jsonl", "--dynamic", 0.2, "--hypernet", hypernetwork
    )
    assert (code, "models with the same tokenizer" in err) == (2, True)
