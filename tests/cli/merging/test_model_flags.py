"""`[NAME=]MODEL[:WEIGHT]`, and sizes."""

from pathlib import Path

import pytest

from cpt.cli.merging.job import ModelSpec, parse_model
from merging.request import name_of, shard_bytes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("domain", ModelSpec("domain")),
        ("domain:0.8", ModelSpec("domain", None, 0.8)),
        ("law=models/law:1", ModelSpec("models/law", "law", 1.0)),
        ("law=models/law", ModelSpec("models/law", "law")),
        ("org/name@main:-.5", ModelSpec("org/name@main", None, -0.5)),
        ("org/name:1e-3", ModelSpec("org/name", None, 0.001)),
        ("C:\\models\\law", ModelSpec("C:\\models\\law")),
        ("C:\\models\\law:0.5", ModelSpec("C:\\models\\law", None, 0.5)),
        ("hub:models/org/name/a.gguf", ModelSpec("hub:models/org/name/a.gguf")),
        ("hub:models/org/name/a.gguf:2", ModelSpec("hub:models/org/name/a.gguf", None, 2.0)),
        ("wheel:llm==0.1.2/llm/a.gguf:0.3", ModelSpec("wheel:llm==0.1.2/llm/a.gguf", None, 0.3)),
        ("it=wheel:llm==0.1.2/llm/a.gguf", ModelSpec("wheel:llm==0.1.2/llm/a.gguf", "it")),
        ("a.gguf#sha256=" + "0" * 64, ModelSpec("a.gguf#sha256=" + "0" * 64)),
        ("a.gguf#sha256=" + "0" * 64 + ":1", ModelSpec("a.gguf#sha256=" + "0" * 64, None, 1.0)),
        ("a/b=c:1", ModelSpec("a/b=c", None, 1.0)),
        ("name:tag", ModelSpec("name:tag")),
        (":0.5", ModelSpec(":0.5")),
    ],
)
def test_models(text: str, expected: ModelSpec) -> None:
    assert parse_model(text) == expected


def test_what_exists_is_a_path(tmp_path: Path) -> None:
    for name in ("law:1", "a=b"):
        (tmp_path / name).mkdir()
        assert parse_model(f"{tmp_path}/{name}") == ModelSpec(f"{tmp_path}/{name}")
    assert parse_model(f"{tmp_path}/law:1:0.5") == ModelSpec(f"{tmp_path}/law:1", None, 0.5)
    assert parse_model(f"x={tmp_path}/law:1") == ModelSpec(f"{tmp_path}/law:1", "x")


def test_a_base_has_no_weight() -> None:
    assert parse_model("b=base:0.5", weighted=False) == ModelSpec("base:0.5", "b")


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("models/law/", "law"),
        ("org/SmolLM2-1.7B@main", "SmolLM2-1.7B"),
        ("wheel:llm==0.1.2/llm/a b.gguf#sha256=00", "a-b"),
        ("C:\\models\\law", "law"),
        ("/", "model"),
        ("taken", "taken-3"),
    ],
)
def test_names(reference: str, name: str) -> None:
    assert name_of(reference, {"taken", "taken-2"}) == name


@pytest.mark.parametrize(
    ("text", "expected"),
    [("500MB", 500_000_000), ("5GB", 5 * 10**9), ("5g", 5 * 10**9), ("12_000", 12_000), ("1.5 kB", 1500)],
)
def test_sizes(text: str, expected: int) -> None:
    assert shard_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "five", "0", "-1MB", "5 apples"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        shard_bytes(text)
