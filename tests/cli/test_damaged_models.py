"""Every command that takes a model refuses a damaged one with one message, and writes nothing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tiny import clinical_texts, write_jsonl

RECIPE = """\
name: damaged
base: model
stages:
  - corpus:
      domain: [{path: text.jsonl}]
      sequence_length: 48
  - pretrain: {tokens: 500, batch_sequences: 4}
"""
COMMANDS = {
    "run": ("run", "recipe.yaml"),
    "eval text": ("eval", "text", "model", "--text", "text.jsonl"),
    "extend": ("tokenizer", "extend", "model", "--text", "text.jsonl", "--tokens", "5", "--out", "out"),
    "prune": ("tokenizer", "prune", "model", "--text", "text.jsonl", "--tokens", "5", "--out", "out"),
    "compare": ("tokenizer", "compare", "model", "--text", "text.jsonl", "--tokens", "5", "--out", "out"),
    "merge": ("merge", "--method", "linear", "--add", "model:0.5", "--add", "sound:0.5", "--out", "out"),
}
HANGS = "{% for a in range(9999) %}" * 5 + "{% endfor %}" * 5


def rename_a_layer(model: Path) -> None:
    tensors = load_file(model / "model.safetensors")
    renamed = {name.replace("layers.0.", "layers.77."): tensor for name, tensor in tensors.items()}
    save_file(renamed, model / "model.safetensors", metadata={"format": "pt"})


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "renamed layer": (rename_a_layer, "missing from the files: model.layers.0."),
    "more layers": (
        lambda model: change(model / "config.json", num_hidden_layers=5),
        "missing from the files",
    ),
    "fewer layers": (lambda model: change(model / "config.json", num_hidden_layers=1), "not in the model"),
    "no heads": (lambda model: change(model / "config.json", num_attention_heads=0), "config.json"),
    "empty config": (lambda model: (model / "config.json").write_text(""), "config.json is not valid JSON"),
    "broken generation": (
        lambda model: (model / "generation_config.json").write_text("{"),
        "generation_config.json is not valid JSON",
    ),
    "token that is a number": (
        lambda model: change(model / "tokenizer_config.json", bos_token=5),
        "tokenizer_config.json: bos_token: 5",
    ),
}


@pytest.fixture
def run(called: Any, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Call the command in a folder with a recipe, a text, and two models."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CPT_CACHE", str(tmp_path / "cache"))
    write_jsonl(tmp_path / "text.jsonl", clinical_texts()[:60])
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    shutil.copytree(tiny_model, tmp_path / "model")
    shutil.copytree(tiny_model, tmp_path / "sound")
    return called


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_refused_by_every_command(run: Any, damage: str, tmp_path: Path) -> None:
    spoil, said = DAMAGES[damage]
    spoil(tmp_path / "model")
    for name, words in COMMANDS.items():
        code, _, err = run(*words)
        text = " ".join(err.split())
        assert (name, code) == (name, 2), err
        assert said in text, f"{name}: {text}"
        assert "Traceback" not in err
        assert "unexpected" not in err
        left = {path.name for path in tmp_path.iterdir()} - {"runs", "cache"}
        assert left == {"text.jsonl", "recipe.yaml", "model", "sound"}, name


@pytest.mark.parametrize("damage", ["no heads", "empty config"])
def test_an_estimate_names_the_configuration(run: Any, damage: str, tmp_path: Path) -> None:
    spoil, said = DAMAGES[damage]
    spoil(tmp_path / "model")
    code, _, err = run("estimate", "recipe.yaml")
    assert code == 2
    assert said in " ".join(err.split())


def test_extend_ends_at_a_chat_template_that_does_not(run: Any, tmp_path: Path) -> None:
    (tmp_path / "model" / "chat_template.jinja").write_text(HANGS)
    code, _, err = run(*COMMANDS["extend"])
    assert code == 2
    assert f"the chat template in {tmp_path}/model takes too long" in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_extend_says_that_a_tokenizer_needs_code(run: Any, tmp_path: Path) -> None:
    change(
        tmp_path / "model" / "tokenizer_config.json",
        auto_map={"AutoTokenizer": ["own.Own", None]},
        tokenizer_class="Own",
    )
    code, _, err = run(*COMMANDS["extend"])
    assert code == 2
    assert "model/tokenizer_config.json: auto_map: the tokenizer needs code" in err


def test_padding_to_an_absurd_multiple_is_refused(run: Any) -> None:
    code, _, err = run(*COMMANDS["extend"], "--pad", "999999999999")
    assert code == 2
    assert "65536" in err.replace(",", "")
    code, _, err = run("validate", "recipe.yaml", "vocabulary.pad_to_multiple_of=999999999999")
    assert code == 2
