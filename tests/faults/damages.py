"""Damaged model folders, text files, run files and recipes: each a name and what it does to a workspace.

A file is replaced, never written into, as workspaces share their files.
"""

from __future__ import annotations

import gzip
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

ESCAPES = "\x1b[31mred\x1b[0m \u009b31m \u202eback\u202c"
"""What would colour a terminal or turn text around, if it reached it."""

Damage = Callable[[Path], None]
"""Damages a workspace."""

DEEP = "[" * 100_000


def replaced(file: str, content: bytes | str) -> Damage:
    """Replace a file's content."""

    def damage(folder: Path) -> None:
        path = folder / file
        path.unlink(missing_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return damage


def edited(file: str, change: Callable[[Any], Any]) -> Damage:
    """Change what a JSON file holds."""

    def damage(folder: Path) -> None:
        data = json.loads((folder / file).read_text())
        replaced(file, json.dumps(change(data)))(folder)

    return damage


def with_keys(file: str, **keys: Any) -> Damage:
    """Set keys of a JSON file."""
    return edited(file, lambda data: data | keys)


def truncated(file: str, share: float) -> Damage:
    """Keep a share of a file's bytes."""
    return lambda folder: replaced(
        file, (folder / file).read_bytes()[: int((folder / file).stat().st_size * share)]
    )(folder)


BROKEN_JSON: Mapping[str, str | bytes] = {
    "empty": "",
    "binary": bytes(range(256)),
    "half": '{"a": [1, 2',
    "list": "[]",
    "number": "7",
    "null": "null",
    "strings": '{"stages": "no", "config": "no", "probes": 3, "model_type": 5}',
    "deep": DEEP,
    "escapes": json.dumps({"name": ESCAPES, "error": ESCAPES, "state": ESCAPES, "stages": {ESCAPES: {}}}),
}


def model_damages(model: str = "model") -> Iterator[tuple[str, Damage, bool]]:
    """Yield damages of a model folder: name, damage, and whether a command that reads weights must refuse."""
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        for name, content in BROKEN_JSON.items():
            certain = file in ("config.json", "tokenizer.json")
            yield f"{file} {name}", replaced(f"{model}/{file}", content), certain
    config = f"{model}/config.json"
    for name, keys in {
        "hidden size that the files do not have": {"hidden_size": 64},
        "negative hidden size": {"hidden_size": -64},
        "hidden size in words": {"hidden_size": "big"},
        "enormous hidden size": {"hidden_size": 2**40},
        "no heads": {"num_attention_heads": 0},
        "more layers than the files": {"num_hidden_layers": 5},
        "fewer layers than the files": {"num_hidden_layers": 1},
        "negative layers": {"num_hidden_layers": -2},
        "larger vocabulary": {"vocab_size": 5000},
        "smaller vocabulary": {"vocab_size": 7},
        "unknown architecture": {"model_type": "nothing", "architectures": ["Nothing"]},
        "untied": {"tie_word_embeddings": False},
    }.items():
        yield name, with_keys(config, **keys), True
    weights = f"{model}/model.safetensors"
    for share in (0.0, 0.001, 0.5, 0.999):
        yield f"weights cut to {share}", truncated(weights, share), True
    yield "weights binary", replaced(weights, bytes(range(256)) * 9), True
    yield "weights gone", lambda folder: (folder / weights).unlink(), True
    yield "layer missing", _tensors(model, _rename_layer), True
    yield (
        "tensor extra",
        _tensors(model, lambda t: t | {"model.layers.1.extra": t["model.norm.weight"].clone()}),
        True,
    )
    yield "not finite", _tensors(model, _not_finite), True
    yield "transposed", _tensors(model, _transposed), True
    for name, index in {
        "empty index": "",
        "index without a map": "{}",
        "index of a number": json.dumps({"metadata": {}, "weight_map": {"model.norm.weight": 5}}),
        "index of a file outside": json.dumps({"metadata": {}, "weight_map": {"x": "../../../etc/passwd"}}),
        "index of no file": json.dumps({"metadata": {}, "weight_map": {"x": "none.safetensors"}}),
    }.items():
        yield name, _index(model, index), True
    yield "pickle only", _pickle(model), True
    yield (
        "code of its own",
        with_keys(config, auto_map={"AutoModelForCausalLM": "evil.Evil"}, model_type="evil"),
        True,
    )
    yield "template that never ends", _template(model, _ENDLESS), False
    yield "template that fails", _template(model, "{{ messages[99].content.nothing.more }}"), False
    yield "beginning of text is a number", with_keys(f"{model}/tokenizer_config.json", bos_token=5), False


_ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{{ b }}{% endfor %}{% endfor %}"


def _tensors(model: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Damage:
    def damage(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        path = folder / model / "model.safetensors"
        tensors = {name: each.clone() for name, each in load_file(path).items()}
        path.unlink()
        save_file(change(tensors), path, metadata={"format": "pt"})

    return damage


def _rename_layer(tensors: dict[str, Any]) -> dict[str, Any]:
    return {name.replace("layers.0.", "layers.77."): each for name, each in tensors.items()}


def _not_finite(tensors: dict[str, Any]) -> dict[str, Any]:
    tensors["model.norm.weight"][3] = float("nan")
    return tensors


def _transposed(tensors: dict[str, Any]) -> dict[str, Any]:
    name = "model.layers.0.mlp.up_proj.weight"
    return tensors | {name: tensors[name].T.contiguous()}


def _index(model: str, content: str) -> Damage:
    def damage(folder: Path) -> None:
        shard = folder / model / "model-00001-of-00001.safetensors"
        (folder / model / "model.safetensors").rename(shard)
        replaced(f"{model}/model.safetensors.index.json", content)(folder)

    return damage


def _pickle(model: str) -> Damage:
    return lambda folder: (
        (folder / model / "model.safetensors").rename(folder / model / "pytorch_model.bin") and None
    )


def _template(model: str, template: str) -> Damage:
    return lambda folder: replaced(f"{model}/chat_template.jinja", template)(folder)


def text_damages() -> Iterator[tuple[str, str, Damage, bool]]:
    """Yield damaged texts: name, file, damage, and whether every command that reads it must refuse."""
    good = json.dumps({"text": "one document about a kidney"}) + "\n"
    files: dict[str, tuple[str, bytes | str, bool]] = {
        "empty": ("bad.jsonl", "", True),
        "white space": ("bad.jsonl", "\n\n   \n", True),
        "binary": ("bad.jsonl", bytes(range(256)) * 20, True),
        "no JSON": ("bad.jsonl", good * 3 + "not json\n", True),
        "half a line": ("bad.jsonl", good * 3 + '{"text": "ha', True),
        "no such field": ("bad.jsonl", json.dumps({"te\x1b[31mxt": "a"}) + "\n", True),
        "list": ("bad.jsonl", "[1, 2]\n", True),
        "field of numbers": ("bad.jsonl", '{"text": 5}\n', True),
        "null": ("bad.jsonl", '{"text": null}\n', True),
        "deep": ("bad.jsonl", '{"text": ' + DEEP + "\n", True),
        "huge number": ("bad.jsonl", '{"text": "a", "n": ' + "9" * 100_000 + "}\n", False),
        "lone surrogates": ("bad.jsonl", '{"text": "\\ud800 a word"}\n' * 9, False),
        "zero bytes": ("bad.jsonl", json.dumps({"text": "a\x00b"}) + "\n", False),
        "escapes": ("bad.jsonl", json.dumps({"text": ESCAPES}) + "\n", False),
        "latin-1": ("bad.jsonl", '{"text": "caf\xe9"}\n'.encode("latin-1"), True),
        "utf-16": ("bad.jsonl", good.encode("utf-16"), True),
        "byte-order mark": ("bad.jsonl", b"\xef\xbb\xbf" + good.encode(), False),
        "gzip cut": ("bad.jsonl.gz", gzip.compress(good.encode() * 99)[:40], True),
        "gzip in name only": ("bad.jsonl.gz", good, True),
        "zstandard in name only": ("bad.jsonl.zst", good, True),
        "parquet in name only": ("bad.parquet", good, True),
        "parquet cut": ("bad.parquet", b"PAR1" + bytes(99) + b"PAR1", True),
        "binary ontology": ("bad.obo", bytes(range(256)) * 20, True),
        "unknown kind": ("bad.exe", good, True),
        "binary text": ("bad.txt", bytes(range(128, 256)) * 20, True),
        "binary table": ("bad.csv", bytes(range(256)) * 20, True),
    }
    for name, (file, content, certain) in files.items():
        yield name, file, replaced(file, content), certain
    yield "pipe", "pipe.jsonl", lambda folder: os.mkfifo(folder / "pipe.jsonl"), True
    yield "device", "zero.jsonl", lambda folder: (folder / "zero.jsonl").symlink_to("/dev/zero"), True
    yield "socket", "s.jsonl", _socket, True
    yield "link to itself", "l.jsonl", lambda folder: (folder / "l.jsonl").symlink_to("l.jsonl"), True
    yield "loop of folders", "loop", _loop, True
    yield "empty folder", "none", lambda folder: (folder / "none").mkdir(), True
    yield "nothing", "nothing.jsonl", lambda folder: None, True
    yield "name with escapes", f"{ESCAPES}.jsonl", lambda folder: None, True


def _socket(folder: Path) -> None:
    here = Path.cwd()
    os.chdir(folder)  # a socket's path may have 107 bytes
    try:
        socket.socket(socket.AF_UNIX).bind("s.jsonl")
    finally:
        os.chdir(here)


def _loop(folder: Path) -> None:
    (folder / "loop").mkdir()
    (folder / "loop" / "again").symlink_to("..", target_is_directory=True)


def recipe_damages() -> Iterator[tuple[str, str]]:
    """Yield recipes that every command must refuse."""
    yield "empty", ""
    yield "list", "[1, 2]"
    yield "scalar", "just words"
    yield "null stages", "name: x\nbase: model\nstages: null\n"
    yield "stages of numbers", "name: x\nbase: model\nstages: [1, 2]\n"
    yield "no base", "name: x\nstages: [corpus: {domain: [{path: domain.jsonl}]}]\n"
    yield "tab", "name: x\n\tbase: model\n"
    yield "tag", "name: !!python/object/apply:os.system ['touch owned']\nbase: model\nstages: []\n"
    yield "unknown key", "name: x\nbase: model\nextra: 1\nstages: [report: {}]\n"
    yield "same key twice", "name: x\nname: y\nbase: model\nstages: [report: {}]\n"
    yield "bomb", _bomb()
    yield "endless alias", "a: &a [*a]\nname: x\n"
    yield "deep flow", "a: " + "[" * 5000
    yield "deep block", "".join("  " * n + "a:\n" for n in range(1500))
    yield "long", "name: x\nbase: model\nstages: [" + "corpus, " * 200_000 + "]"
    yield "escapes", f'name: "{ESCAPES.encode("unicode_escape").decode()}"\nbase: model\nstages: [no: 1]\n'
    yield "name of a path", "name: ../../outside\nbase: model\nstages: [report: {}]\n"
    yield "not a number", "name: x\nbase: model\nseed: .nan\nstages: [report: {}]\n"
    yield "huge seed", f"name: x\nbase: model\nseed: {10**400}\nstages: [report: {{}}]\n"
    yield "date", "name: 2026-01-01\nbase: 2026-01-01\nstages: [report: {}]\n"


def _bomb() -> str:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 10):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    return "\n".join([*lines, "name: x", "base: model", "stages: *a9"])


RUN_FILES = (
    "run.json",
    "corpus-*/artifact.json",
    "pretrain-*/artifact.json",
    "pretrain-*/training/summary.json",
    "pretrain-*/training/ledger.json",
    "pretrain-*/training/steps.jsonl",
    "pretrain-*/training/probes.jsonl",
    "evaluate-*/scores/scores.json",
    "evaluate-*/artifact.json",
    "merge-*/artifact.json",
    "report-*/report/report.json",
    "report-*/artifact.json",
)
"""Files of a finished run, that commands read again."""


def run_damages() -> Iterator[tuple[str, Damage]]:
    """Yield damages of a finished run's files."""
    for pattern in RUN_FILES:
        for name, content in BROKEN_JSON.items():
            yield f"{pattern} {name}", _in_run(pattern, content)
        yield f"{pattern} gone", _in_run(pattern, None)


def _in_run(pattern: str, content: bytes | str | None) -> Damage:
    def damage(folder: Path) -> None:
        (file,) = (folder / "runs" / "tiny").glob(pattern)
        file.unlink()
        if content is not None:
            file.write_bytes(content.encode() if isinstance(content, str) else content)

    return damage
