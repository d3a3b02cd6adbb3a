"""`cpt tokenizer`, on a tiny model."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from tiny import clinical_texts, varied_texts, write_jsonl
from transformers import AutoModelForCausalLM, AutoTokenizer

from cpt.cli.tokenizer.options import texts_of
from cpt.errors import DataError


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


def test_heldout_text_that_is_learnt_from_is_left_out_and_counted(
    run: Any, tiny_model: Path, tmp_path: Path
) -> None:
    """Documents that differ in white space alone are the same; with none left nothing is measured."""
    seen = [f"  {text} \n" for text in clinical_texts()[:7]]
    write_jsonl(tmp_path / "mixed.jsonl", [*seen, *varied_texts(20, "general ")])
    words = ("report", tiny_model, "--text", "text.jsonl", "--curve", 10, "--json", "--heldout")
    code, out, err = run("tokenizer", *words, "mixed.jsonl")
    assert code == 0, err
    assert "held-out text: 7 of 27 documents are in --text too: left out" in " ".join(err.split())
    other = run("tokenizer", *words, "general.jsonl")
    assert "left out" not in other[2]
    assert json.loads(out)["curve"] == json.loads(other[1])["curve"]
    write_jsonl(tmp_path / "seen.jsonl", seen)
    code, _, err = run("tokenizer", *words, "seen.jsonl")
    assert code == 2
    assert "seen.jsonl: all 7 documents are in --text too" in " ".join(err.split())
    extend = ("extend", tiny_model, "--text", "text.jsonl", "--tokens", 10, "--out", "out", "--heldout")
    code, _, err = run("tokenizer", *extend, "seen.jsonl")
    assert code == 2
    assert not (tmp_path / "out").exists()


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


def test_the_flags_of_extend(run: Any, tiny_model: Path) -> None:
    def facts(*more: object) -> dict[str, Any]:
        text = (
            "--text",
            "text.jsonl",
            "--tokens",
            60,
            "--out",
            f"out{len(list(Path().iterdir()))}",
            "--json",
        )
        code, out, err = run("tokenizer", "extend", tiny_model, *text, *more)
        assert code == 0, err
        found: dict[str, Any] = json.loads(out)
        return found

    plain = facts()
    assert plain["measured_on"] == "the text that was learnt from"
    assert facts("--ngrams", 2)["longest_tokens"] != plain["longest_tokens"]
    assert facts("--pad", 1)["rows"] == 360 < plain["rows"] == 384
    pruned = facts("--prune", 10)
    assert (pruned["removed"], pruned["after"]) == (10, plain["after"] - 10)
    heldout = facts("--heldout", "general.jsonl")
    assert heldout["measured_on"] == "held-out text"
    assert heldout["bytes_per_token_before"] != plain["bytes_per_token_before"]
    rows = [facts("--method", "random", "--seed", seed)["folder"] for seed in (1, 2, 1)]
    made = [
        AutoModelForCausalLM.from_pretrained(folder).get_input_embeddings().weight[300:] for folder in rows
    ]
    assert made[0].equal(made[2])
    assert not made[0].equal(made[1])
    arguments = ("tokenizer", "extend", tiny_model, "--text", "text.jsonl", "--tokens", 60, "--out", "rare")
    code, _, err = run(*arguments, "--min-frequency", 10_000)
    assert code == 1
    assert "min_frequency" in err


def test_a_helper_is_a_model_of_the_other_tokenizer(run: Any, tiny_model: Path) -> None:
    arguments = ("tokenizer", "helper", tiny_model, "--text", "text.jsonl", "--width", 32, "--layers", 1)
    code, out, err = run(*arguments, "--tokens", 2000, "--out", "helper", "--json")
    assert code == 0, err
    facts = json.loads(out)
    assert 0 < facts["tokens_seen"] <= facts["tokens"] == 300
    helper = AutoModelForCausalLM.from_pretrained("helper")
    assert (helper.config.hidden_size, helper.config.num_hidden_layers) == (32, 1)
    extended = ("tokenizer", "replace", tiny_model, tiny_model, "donor=helper", "--method", "omp")
    code, _, err = run(*extended, "--text", "text.jsonl", "--out", "same")
    assert code == 0, err


def test_transliterate(run: Any, tiny_model: Path) -> None:
    arguments = ("tokenizer", "transliterate", tiny_model, "--json")
    code, out, err = run(*arguments, "--out", "all", "--merge", "average", "--language", "rus")
    assert code == 0, err
    assert json.loads(out)["added"] == 0  # a vocabulary of Latin letters has its spellings
    code, _, err = run(*arguments, "--out", "wrong", "--merge", "most")
    assert code == 2
    assert "merge" in err


def test_what_fails_leaves_nothing(run: Any, tiny_model: Path) -> None:
    arguments = ("tokenizer", "extend", tiny_model, "--text", "text.jsonl", "--tokens", 99_999)
    assert run(*arguments, "--out", "a/b/c")[0] == 1
    assert sorted(path.name for path in Path().iterdir()) == ["general.jsonl", "text.jsonl"]


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
            (
                "compare",
                "BASE",
                "--text",
                "text.jsonl",
                "--tokens",
                "9",
                "--steps",
                "0",
                "--seeds",
                "2",
                "--out",
                "x",
            ),
            "trains nothing",
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


@pytest.mark.parametrize("words", [("tokenizer", "report"), ("tokenizer", "extend"), ("eval", "text")])
def test_a_pipe_or_a_device_is_refused_before_it_is_opened(
    run: Any, tiny_model: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    more = ("--tokens", 5, "--out", "out") if "extend" in words else ()
    for name, kind in (("pipe.jsonl", "a named pipe"), ("zero.jsonl", "a device")):
        code, _, err = run(*words, tiny_model, "--text", name, *more)
        assert code == 2
        assert f"{name} is {kind}, not a file or folder" in err
    assert not (tmp_path / "out").exists()


def test_text_that_changes_between_two_passes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "text.jsonl", clinical_texts())
    texts = texts_of(["text.jsonl"])
    assert list(texts()) == list(texts()) == clinical_texts()
    write_jsonl(tmp_path / "text.jsonl", varied_texts(5))
    with pytest.raises(DataError, match=r"text\.jsonl changed while it was read"):
        list(texts())
