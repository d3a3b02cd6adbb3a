"""The Python calls: the examples of their docstrings, the commands' results, texts, wrong settings."""

from __future__ import annotations

import doctest
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tiny import clinical_texts, varied_texts, write_jsonl
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

import tokenizer_tools
from cpt.cli import app
from cpt.errors import DataError, MissingInput, StageFailed
from cpt.progress import MessageProgress
from tokenizer_tools import ChangedModel
from tokenizer_tools.texts import passes

CALLS = ["extend", "prune", "replace", "train", "transliterate", "report"]


@pytest.fixture
def texts() -> list[str]:
    return clinical_texts()


@pytest.mark.parametrize("name", CALLS)
def test_the_example_of_the_docstring(
    name: str,
    texts: list[str],
    tiny_model: Path,
    another_model: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the tiny model for the hub's, and numbers that its texts have enough of."""
    monkeypatch.chdir(tmp_path)
    for file in ("all.jsonl", "notes.jsonl"):
        write_jsonl(tmp_path / file, texts)
    (tmp_path / "korean.txt").write_text("\n".join(texts))
    instead = {
        '"org/model"': repr(str(tiny_model)),
        '"org/tokenizer"': "other",
        "tokens=2000": "tokens=20",
        "20_000": "10",
        "32_000": "280",
        'method="clp"': 'method="clp", parameters={"helper_width": 8, "helper_tokens": 500}',
    }
    scope: dict[str, Any] = {
        "tokenizer_tools": tokenizer_tools,
        "Path": Path,
        "texts": texts,
        "other": another_model("other", vocabulary=280),
    }
    examples = doctest.DocTestParser().get_examples(getattr(tokenizer_tools, name).__doc__)
    assert examples
    for example in examples:
        source = example.source.strip()
        for given, used in instead.items():
            source = source.replace(given, used)
        if example.want:
            assert eval(source, scope) is True
        else:
            exec(source, scope)
    for made in (value for value in scope.values() if isinstance(value, ChangedModel)):
        model = AutoModelForCausalLM.from_pretrained(made.folder)
        assert len(AutoTokenizer.from_pretrained(made.folder)) == made.tokens_after
        assert made.tokens_after <= model.config.vocab_size == made.facts["rows"]
        assert made.folder.parent == tmp_path


def test_a_call_writes_what_the_command_writes(texts: list[str], tiny_model: Path, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "texts.jsonl", texts)
    words = ["--text", str(file), "--tokens", "20", "--prune", "5", "--seed", "3", "--method", "random"]
    result = CliRunner().invoke(
        app,
        ["tokenizer", "extend", str(tiny_model), *words, "--out", str(tmp_path / "a"), "std=0.1", "--json"],
    )
    assert result.exit_code == 0, result.output
    made = tokenizer_tools.extend(
        tiny_model,
        [file],
        tmp_path / "b",
        tokens=20,
        prune=5,
        method="random",
        parameters={"std": 0.1},
        seed=3,
    )
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(
        path.name for path in made.folder.iterdir()
    )
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (made.folder / path.name).read_bytes(), path.name
    facts = json.loads(result.stdout)
    assert {key: facts[key] for key in made.facts} == json.loads(json.dumps(made.facts))


def test_texts_of_every_form_are_the_same(texts: list[str], tiny_model: Path, tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "half.jsonl", texts[10:])

    class Again:
        def __iter__(self) -> Iterator[str]:
            return iter(texts)

    forms: list[Any] = [texts, iter(texts), (text for text in texts), Again(), [*texts[:10], file]]
    made = [
        tokenizer_tools.extend(tiny_model, form, tmp_path / str(number), tokens=10)
        for number, form in enumerate(forms)
    ]
    rows = [load_file(each.folder / "model.safetensors")["model.embed_tokens.weight"] for each in made]
    assert all((each == rows[0]).all() for each in rows)
    assert len({each.bytes_per_token_after for each in made}) == 1


def test_a_single_file_and_a_folder_are_texts_too(texts: list[str], tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    file = write_jsonl(tmp_path / "folder" / "texts.jsonl", texts)
    for source in (file, [file], tmp_path / "folder"):
        start = passes(source)
        assert list(start()) == list(start()) == texts


def test_held_out_texts_are_measured_on(texts: list[str], tiny_model: Path, tmp_path: Path) -> None:
    told: list[str] = []
    made = tokenizer_tools.extend(
        str(tiny_model),
        texts,
        str(tmp_path / "out"),
        tokens=10,
        heldout=varied_texts(20, "general "),
        progress=MessageProgress(told.append),
    )
    found = tokenizer_tools.report(made.folder, {"general": varied_texts(20, "general ")})
    assert found.texts["general"].bytes_per_token == made.bytes_per_token_after
    assert any("making the rows of 10 tokens" in line for line in told)


def test_without_texts_nothing_is_measured(
    tiny_model: Path, another_model: Callable[..., Path], tmp_path: Path
) -> None:
    made = tokenizer_tools.replace(tiny_model, another_model("other", vocabulary=280), tmp_path / "out")
    assert made.bytes_per_token_before is made.bytes_per_token_after is None
    assert made.copied_rows + made.new_rows == made.tokens_after


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens": 0}, "extend.tokens: Input should be greater than 0"),
        ({"tokens": 5, "method": "hewitt"}, "embeddings.method: there is no method `hewitt`; choose"),
        ({"tokens": 5, "method": "subtoken"}, "did you mean subtoken-mean or "),
        ({"tokens": 5, "parameters": {"k": 3}}, "subtoken-mean has no parameter k"),
    ],
)
def test_wrong_settings_are_named(
    settings: dict[str, Any], message: str, texts: list[str], tiny_model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        tokenizer_tools.extend(tiny_model, texts, tmp_path / "out", **settings)
    assert list(tmp_path.iterdir()) == []


def test_wrong_texts_and_a_folder_in_use(texts: list[str], tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=r"write \[text\] or Path"):
        tokenizer_tools.extend(tiny_model, "one text", tmp_path / "out", tokens=5)
    with pytest.raises(MissingInput, match="no such file"):
        tokenizer_tools.extend(tiny_model, [tmp_path / "missing.jsonl"], tmp_path / "out", tokens=5)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(DataError, match="exists already"):
        tokenizer_tools.extend(tiny_model, texts, tmp_path / "out", tokens=5)


def test_a_failed_call_leaves_nothing(texts: list[str], tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(StageFailed, match="new tokens"):
        tokenizer_tools.extend(tiny_model, texts[:1], tmp_path / "deep" / "out", tokens=5000)
    assert list((tmp_path / "deep").iterdir()) == []


def test_all_names_exist_and_are_documented() -> None:
    for name in tokenizer_tools.__all__:
        assert getattr(tokenizer_tools, name).__doc__
    assert set(CALLS) <= set(tokenizer_tools.__all__)
