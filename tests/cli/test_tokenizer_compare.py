"""`cpt tokenizer compare`, on a tiny model."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpt.initialiser_trial import trial


def test_compare_writes_figures_and_a_picture(run: Any, tiny_model: Path) -> None:
    code, out, err = run(
        *("tokenizer", "compare", tiny_model, "--text", "text.jsonl", "--general", "general.jsonl"),
        *("--tokens", 20, "--method", "random", "--method", "subtoken-weighted:decay=0.9"),
        *("--steps", "0,2", "--sequence-length", 64, "--heldout-bytes", 1000, "--out", "table"),
    )
    assert code == 0, err
    assert "subtoken-weighted(decay=0.9)" in out
    facts = json.loads(Path("table/comparison.json").read_text())
    assert facts["rows"][0]["method"] == "unchanged"
    assert Path("table/comparison.svg").is_file()


def test_compare_runs_clp_by_the_rule_of_its_paper(run: Any, tiny_model: Path) -> None:
    helper = "helper_width=16,helper_layers=1,helper_tokens=2000"
    paper = f"clp:top_k=null,clip=false,{helper}"
    code, _, err = run(
        *("tokenizer", "compare", tiny_model, "--text", "text.jsonl", "--tokens", 20, "--steps", 0),
        *("--method", paper, "--method", f"clp:{helper}", "--sequence-length", 64, "--out", "table"),
    )
    assert code == 0, err
    _, by_paper, by_default = json.loads(Path("table/comparison.json").read_text())["rows"]
    assert by_paper["method"].startswith("clp(top_k=None, clip=False")
    assert by_paper["failure"] == by_default["failure"] == ""
    assert by_paper["domain"] != by_default["domain"]


def test_a_stopped_comparison_goes_on(run: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (
        *("tokenizer", "compare", tiny_model, "--text", "text.jsonl", "--tokens", 20, "--steps", "0,1"),
        *("--method", "mean", "--method", "random", "--sequence-length", 64, "--out", "table"),
    )
    measured = []

    def stop_at_random(embeddings: Any, *rest: Any, **named: Any) -> Any:
        measured.append(embeddings.method)
        if embeddings.method == "random" and len(measured) == 2:
            raise KeyboardInterrupt
        return measure(embeddings, *rest, **named)

    measure = trial._measure
    monkeypatch.setattr(trial, "_measure", stop_at_random)
    assert run(*arguments)[0] != 0
    assert not Path("table/comparison.json").exists()
    code, _, err = run(*arguments)
    assert code == 0, err
    assert measured == ["mean", "random", "random"]
    rows = json.loads(Path("table/comparison.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["unchanged", "mean", "random"]


def test_every_setting_of_a_comparison_counts(run: Any, tiny_model: Path) -> None:
    def last(folder: str, *more: str) -> float:
        arguments = {"--method": "mean", "--steps": "0,2", "--sequence-length": "64", "--rate": "1e-3"}
        arguments |= dict(zip(more[::2], more[1::2], strict=True))
        words = [word for pair in arguments.items() for word in pair]
        text = ("--text", "text.jsonl", "--tokens", "20", "--out", folder)
        code, _, err = run("tokenizer", "compare", tiny_model, *text, *words)
        assert code == 0, err
        rows = json.loads(Path(folder, "comparison.json").read_text())["rows"]
        figure: float = rows[1]["domain"]["2"]
        return figure

    settings = ("--rate=1e-2", "--batch=2", "--trained=embeddings", "--sequence-length=48")
    settings += ("--heldout=0.3", "--heldout-bytes=300", "--seed=3")
    by_defaults = last("defaults")
    for setting in settings:
        assert last(setting, *setting.split("=")) != by_defaults, setting


def test_a_method_given_twice_is_trained_once(run: Any, tiny_model: Path) -> None:
    code, _, err = run(
        *("tokenizer", "compare", tiny_model, "--text", "text.jsonl", "--tokens", 20, "--steps", "0,1"),
        *("--method", "mean", "--method", "mean", "--seeds", 2, "--sequence-length", 64, "--out", "table"),
    )
    assert code == 0, err
    rows = json.loads(Path("table/comparison.json").read_text())["rows"]
    assert [(row["method"], row["seed"]) for row in rows[2:]] == [("mean", 17), ("mean", 18)]


def test_compare_with_several_seeds_shows_intervals(run: Any, tiny_model: Path) -> None:
    compare = (
        *("tokenizer", "compare", tiny_model, "--text", "text.jsonl", "--tokens", 20, "--steps", "0,2"),
        *("--method", "mean", "--method", "random", "--sequence-length", 64, "--rate", "1e-2"),
    )
    code, out, err = run(*compare, "--out", "one")
    assert code == 0, err
    assert "±" not in out
    assert "--seeds 3" in out
    code, out, err = run(*compare, "--seeds", 2, "--out", "two")
    assert code == 0, err
    assert "behind the best" in out
    one, two = (json.loads(Path(name, "comparison.json").read_text()) for name in ("one", "two"))
    assert [row["seed"] for row in two["rows"]] == [17, 18] * 3
    assert [row["domain"] for row in two["rows"][::2]] == [row["domain"] for row in one["rows"]]
    ends = [row["domain"]["2"] for row in two["rows"][2:4]]
    mean = two["means"]["mean"]["domain"]["2"]
    assert mean["value"] == pytest.approx(sum(ends) / 2)
    assert f"± {mean['high'] - mean['value']:.4f}" in out


def test_compare_trains_a_method_by_alm_too(run: Any, tiny_model: Path) -> None:
    compare = (
        *("tokenizer", "compare", tiny_model, "--text", "text.jsonl", "--tokens", 20, "--method", "mean"),
        *("--alm", "random:std=0.5", "--steps", "0,2", "--sequence-length", 64),
    )
    code, out, err = run(*compare, "--alm-boundary", 0, "--out", "table")
    assert code == 0, err
    rows = json.loads(Path("table/comparison.json").read_text())["rows"]
    names = ["mean", "random(std=0.5)", "random(std=0.5), alm"]
    assert [row["method"] for row in rows[1:]] == names
    assert [row["failure"] for row in rows] == ["", "", "", ""]
    assert rows[2]["tokens"] == rows[3]["tokens"]
    assert rows[2]["domain"]["0"] == rows[3]["domain"]["0"]
    assert rows[2]["domain"]["2"] != rows[3]["domain"]["2"]
    assert names[2] in out
    code, out, err = run(*compare, "--method", "random:std=0.5", "--out", "by-words")
    assert code == 0, err
    assert "in no chunk that can be compared" in out  # a random model is never sure that a word ends


def test_compare_by_alm_names_the_way_out_where_no_word_ends(
    run: Any, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tokenizer_tools.alignment._boundaries", lambda _: np.zeros(0, dtype=np.int64))
    compare = (
        *("tokenizer", "compare", tiny_model, "--text", "text.jsonl", "--tokens", 20, "--method", "mean"),
        *("--alm", "mean", "--steps", "0,2", "--sequence-length", 64),
    )
    code, out, err = run(*compare, "--out", "table")
    assert code == 0, err
    assert "--alm-boundary 0" in " ".join(out.split())
    code, out, err = run(*compare, "--alm-boundary", 0, "--out", "within")
    assert code == 0, err
    assert "in no chunk" not in out + err


def test_compare_other_changes(run: Any, tiny_model: Path, another_model: Any) -> None:
    other = another_model("other", vocabulary=280)
    for change in (("--replace", other), ("--train", 310)):
        text = ("--text", "text.jsonl", "--method", "mean", "--steps", "0", "--sequence-length", 64)
        code, out, err = run("tokenizer", "compare", tiny_model, *text, *change, "--out", change[0])
        assert code == 0, err
        assert "mean" in out
