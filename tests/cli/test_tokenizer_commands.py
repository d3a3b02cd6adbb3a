"""`cpt tokenizer`, on a tiny model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import clinical_texts, varied_texts, write_jsonl
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt.cli import main


@pytest.fixture
def run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[..., Any]:
    """Call the command in an empty folder: exit code, standard output, standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cpt.cli.quiet_libraries", lambda: None)
    write_jsonl(tmp_path / "text.jsonl", clinical_texts())
    write_jsonl(tmp_path / "general.jsonl", varied_texts(20, "general "))

    def call(*words: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


def test_report_prints_the_three_figures(run: Any, tiny_model: Path) -> None:
    code, out, _ = run("tokenizer", "report", tiny_model, "--text", "text.jsonl", "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["bytes_per_token"] > 1
    assert isinstance(facts["unreachable"], int)
    assert isinstance(facts["unused"], int)


def test_report_of_several_with_terms_and_a_curve(run: Any, tiny_model: Path) -> None:
    words = ("report", tiny_model, tiny_model, "--text", "text.jsonl", "--text", "general.jsonl")
    code, out, err = run("tokenizer", *words, "--term", "carcinoma", "--curve", 10, "--curve", 30)
    assert (code, err) == (0, err)
    assert "carcinoma" in out
    assert "general.jsonl" in out
    heading = next(line for line in out.splitlines() if "rarest" in line)
    values = out.splitlines()[out.splitlines().index(heading) + 2]
    assert len(values.split()) == 5 + len(["of", "before"]) + 1
    code, out, _ = run("tokenizer", *words, "--json", "--curve", 10)
    assert code == 0
    assert len(json.loads(out)["reports"]) == 4


def test_extend_writes_a_model_that_transformers_loads(run: Any, tiny_model: Path) -> None:
    code, out, err = run(
        *("tokenizer", "extend", tiny_model, "--text", "text.jsonl", "--tokens", 30),
        *("--method", "subtoken-mean", "--out", "extended", "--json"),
    )
    assert code == 0, err
    facts = json.loads(out)
    assert facts["added"] == 30
    assert facts["bytes_per_token_after"] > facts["bytes_per_token_before"]
    model = AutoModelForCausalLM.from_pretrained("extended")
    tokenizer = AutoTokenizer.from_pretrained("extended")
    assert len(tokenizer) == facts["after"] <= model.config.vocab_size


def test_a_method_takes_its_parameters(run: Any, tiny_model: Path) -> None:
    arguments = (
        "tokenizer",
        "extend",
        tiny_model,
        "--text",
        "text.jsonl",
        "--tokens",
        30,
        "--method",
        "random",
    )
    assert run(*arguments, "--out", "a", "std=3.0")[0] == 0
    assert run(*arguments, "--out", "b", "std=0.01")[0] == 0
    rows = [
        AutoModelForCausalLM.from_pretrained(name).get_input_embeddings().weight[300:330].std()
        for name in ("a", "b")
    ]
    assert rows[0] > 100 * rows[1]


def test_prune_replace_and_train(run: Any, tiny_model: Path, another_model: Any) -> None:
    other = another_model("other", vocabulary=280)
    for words in (
        ("prune", tiny_model, "--text", "text.jsonl", "--tokens", 10),
        ("replace", tiny_model, other),
        ("train", tiny_model, "--text", "text.jsonl", "--tokens", 320),
    ):
        code, _, err = run("tokenizer", *words, "--out", words[0])
        assert code == 0, err
        AutoModelForCausalLM.from_pretrained(words[0])
    assert len(AutoTokenizer.from_pretrained("prune")) == 290
    assert (
        AutoTokenizer.from_pretrained("replace").get_vocab()
        == AutoTokenizer.from_pretrained(other).get_vocab()
    )
    assert len(AutoTokenizer.from_pretrained("train")) == 320


def test_a_tokenizer_alone(run: Any, tiny_model: Path) -> None:
    arguments = (
        "tokenizer",
        "extend",
        tiny_model,
        "--text",
        "text.jsonl",
        "--tokens",
        10,
        "--tokenizer-only",
    )
    code, _, err = run(*arguments, "--out", "only")
    assert code == 0, err
    assert len(AutoTokenizer.from_pretrained("only")) == 310
    assert not list(Path("only").glob("*.safetensors"))


def test_methods_are_listed_with_their_parameters(run: Any) -> None:
    code, out, _ = run("tokenizer", "methods", "--json")
    assert code == 0
    found = {entry["name"]: entry for entry in json.loads(out)}
    assert {"random", "mean", "subtoken-mean", "focus", "wechsel", "clp", "omp"} <= found.keys()
    assert found["omp"]["parameters"]["k"]["default"] == 64
    code, out, _ = run("tokenizer", "methods")
    assert "subtoken-mean" in out


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("extend", "BASE", "--text", "no.jsonl", "--tokens", "9", "--out", "x"), "no.jsonl"),
        (
            ("extend", "BASE", "--text", "text.jsonl", "--tokens", "9", "--method", "x", "--out", "x"),
            "choose one of",
        ),
        (("extend", "BASE", "k=1", "--text", "text.jsonl", "--tokens", "9", "--out", "x"), "no parameter k"),
        (("extend", "BASE", "k", "--text", "text.jsonl", "--tokens", "9", "--out", "x"), "key=value"),
        (("extend", "BASE", "--text", "text.jsonl", "--tokens", "9", "--out", "."), "exists already"),
        (("extend", "no-model", "--text", "text.jsonl", "--tokens", "9", "--out", "x"), "no-model"),
        (("compare", "BASE", "--text", "text.jsonl", "--out", "x"), "give one of"),
        (
            ("compare", "BASE", "--text", "text.jsonl", "--tokens", "9", "--steps", "a", "--out", "x"),
            "0,50,200",
        ),
        (
            ("compare", "BASE", "--text", "text.jsonl", "--tokens", "9", "--method", "y", "--out", "x"),
            "choose one of",
        ),
        (("report", "no-model", "--text", "text.jsonl"), "no-model"),
        (("report", "BASE", "--text", "text.jsonl", "--heldout", "general.jsonl"), "--curve"),
        (("replace", "BASE", "BASE", "--method", "focus", "--out", "x"), "learns from text"),
        (
            ("extend", "BASE", "method=mean", "--text", "text.jsonl", "--tokens", "9", "--out", "x"),
            "by --method",
        ),
        (
            ("compare", "BASE", "--text", "text.jsonl", "--tokens", "9", "--rate", "-1", "--out", "x"),
            "--rate",
        ),
    ],
)
def test_mistakes_are_explained_and_nothing_is_written(
    run: Any, tiny_model: Path, words: tuple[str, ...], message: str
) -> None:
    code, _, err = run("tokenizer", *(str(tiny_model) if word == "BASE" else word for word in words))
    assert code in (1, 2)
    assert message in err
    assert sorted(path.name for path in Path().iterdir()) == ["general.jsonl", "text.jsonl"]
