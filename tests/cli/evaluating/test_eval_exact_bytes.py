"""`cpt eval text --exact-bytes` on tiny models."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from eval_words import Run
from tiny import write_jsonl, write_tiny_model

sys.path.insert(0, str(Path(__file__).parents[2] / "tokenizer_tools"))

from piece_models import write_unigram


@pytest.fixture(scope="module")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("coarse") / "model", seed=2, vocabulary=340)


def test_figures_of_models_with_different_tokenizers(
    facts: Any, models: tuple[Path, Path], coarse: Path
) -> None:
    found = facts("text", models[0], coarse, "--text", "text.jsonl", "--exact-bytes", 5000, "--ensemble")
    by_windows = found["texts"]
    first, second, both = found["exact_bytes"]
    for each, whole in zip((first, second), by_windows, strict=True):
        assert each["model"] == whole["model"]
        assert each["by_tokens"] == pytest.approx(whole["bits_per_byte"], rel=1e-4)  # all bytes are taken
        assert each["bytes"] == whole["bytes"]
        assert each["minus_by_tokens"] == pytest.approx(each["bits_per_byte"] - each["by_tokens"])
        assert each["minus_by_tokens"] < 0 < each["left_out_tokens"]
        assert each["seconds_per_1000_bytes"] > 0
    assert second["difference"] == pytest.approx(second["bits_per_byte"] - first["bits_per_byte"])
    assert second["interval"][0] <= second["difference"] <= second["interval"][1]
    assert "difference" not in first
    assert (both["model"], both["models"]) == ("ensemble", [first["model"], second["model"]])
    assert (
        both["bits_per_byte"] < (first["bits_per_byte"] + second["bits_per_byte"]) / 2
    )  # a mean's logarithm
    assert both["difference"] == pytest.approx(both["bits_per_byte"] - first["bits_per_byte"])


def test_most_bytes(facts: Any, run: Run, models: tuple[Path, Path]) -> None:
    [few] = facts("text", models[0], "--text", "text.jsonl", "--exact-bytes", 60)["exact_bytes"]
    assert 30 < few["bytes"] <= 60
    assert "exact_bytes" not in facts("text", models[0], "--text", "text.jsonl")
    code, out, _ = run("text", models[0], "--text", "law=text.jsonl", "--exact-bytes", 60)
    assert code == 0
    assert ("exact - by tokens" in out, f"{few['bits_per_byte']:.4f}" in out) == (True, True)


def test_start_token_changes_the_figures(facts: Any, run: Run, models: tuple[Path, Path]) -> None:
    words = ("text", models[0], "--text", "text.jsonl", "--exact-bytes", 40)
    [one] = facts(*words)["exact_bytes"]
    [other] = facts(*words, "--start-token", "</s>")["exact_bytes"]
    assert one["bits_per_byte"] != other["bits_per_byte"]
    code, _, err = run(*words, "--start-token", "none")
    assert (code, "need a token before every text" in err) == (2, True)


def test_what_cannot_be_done_is_told(
    run: Run, models: tuple[Path, Path], place: Path, tmp_path: Path
) -> None:
    text = ("--text", "text.jsonl")
    for words in (("--ensemble",), ("--ensemble", "--exact-bytes", 50)):
        code, _, err = run("text", models[0], *text, *words)
        assert (code, "averages the bytes' probabilities of several models" in err) == (2, True)
    code, _, err = run("text", *models, *text, "--exact-bytes", 50, "--window", 12)
    assert (code, "text.jsonl: windows of 12 tokens have no room for bytes" in err) == (1, True)
    piecewise = Path(shutil.copytree(models[0], tmp_path / "pieces"))
    write_unigram(piecewise)
    code, _, err = run("text", models[0], piecewise, *text, "--exact-bytes", 50)
    assert (code, "exact probabilities of bytes cannot be had" in err, "Unigram" in err) == (1, True, True)


def test_documents_that_cannot_be_spelt_are_counted(
    facts: Any, run: Run, models: tuple[Path, Path], tmp_path: Path
) -> None:
    """An added token that is not special is found in a text before any merge."""
    adding = Path(shutil.copytree(models[0], tmp_path / "adding"))
    data = json.loads((adding / "tokenizer.json").read_text())
    token = {**data["added_tokens"][0], "content": "kidneys", "id": 2, "special": False}
    data["added_tokens"].append(token)
    data["model"]["vocab"]["kidneys"] = 2
    (adding / "tokenizer.json").write_text(json.dumps(data))
    write_jsonl(tmp_path / "kidneys.jsonl", ["A fever.", "Two kidneys are too many.", "The night."])
    words = ("text", models[0], adding, "--text", tmp_path / "kidneys.jsonl", "--exact-bytes", 500)
    for each in facts(*words)["exact_bytes"]:
        reason = "the tokenizer reads some words of the text as added tokens"
        assert (each["documents"], each["documents_left_out"]) == (2, {reason: 1})
    assert "1 documents left out: the tokenizer reads some words" in run(*words)[1]
