"""`cpt merge analyse`, on tiny models."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "merging"))

from merge_models import WORDS, weights, write_model

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("start", "law", "medicine"), start=1):
        write_model(made / name, seed=seed)
    write_model(made / "more", seed=4, words=(*WORDS, "tibia"))
    write_model(made / "wide", seed=5, hidden_size=32)
    return made


@pytest.fixture
def run(called: Run, monkeypatch: pytest.MonkeyPatch, folder: Path) -> Run:
    """Call the command where the models are: exit code, standard output, standard error."""
    monkeypatch.chdir(folder)
    return partial(called, "merge", "analyse")


def test_json_has_all_numbers(run: Run, folder: Path) -> None:
    code, out, _ = run("--base", "start", "--add", "law", "--add", "med=medicine", "--json")
    assert code == 0
    facts = json.loads(out)
    assert [vector["name"] for vector in facts["vectors"]] == ["law", "med"]
    start, law = weights(folder / "start"), weights(folder / "law")
    squared = sum(float((law[name].double() - start[name].double()).square().sum()) for name in start)
    assert facts["vectors"][0]["norm"] == pytest.approx(squared**0.5, rel=1e-9)
    assert facts["pairs"][0]["random"] == pytest.approx(torch.tensor(5296.0).rsqrt().item())
    assert facts["layers"]["names"] == ["0", "1", "outside"]
    assert len(facts["grid"]["relative"][0]) == len(facts["grid"]["kinds"])


def test_tables_say_what_the_vectors_are_like(run: Run) -> None:
    code, out, _ = run("--base", "start", "--add", "law", "--add", "more")
    assert code == 0
    assert "law and more pull the same way: cosine 0." in out
    lines = [line.split() for line in out.splitlines()]
    firsts = [words[0] for words in lines if words]
    for name in ("law", "more", "law,", "embeddings", "0", "1", "outside"):
        assert name in firsts
    assert "6 shared, 1 new" in out


def test_a_single_vector_has_no_pairs(run: Run) -> None:
    code, out, _ = run("--base", "start", "--add", "law")
    assert (code, "cosine" in out) == (0, False)


def test_the_page_is_written(run: Run, tmp_path: Path) -> None:
    page = tmp_path / "vectors.html"
    code, out, _ = run("--base", "start", "--add", "law", "--add", "medicine", "--out", page)
    assert code == 0
    assert str(page) in out.replace("\n", "")
    text = page.read_text(encoding="utf-8")
    assert "Cosines between task vectors" in text
    assert [path.name for path in tmp_path.iterdir()] == ["vectors.html"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--base", "start", "--add", "wide"), "different architectures"),
        (("--base", "start", "--add", "law", "--add", "law=medicine"), "two models are called law"),
        (("--base", "start", "--add", "base=law"), "two models are called base"),
        (("--base", "./nowhere", "--add", "./neither"), "2 problems"),
        (("--base", "start"), "Missing option"),
        (("--base", "start", "--add", "law", "--out", "."), "is a folder"),
        (("--base", "start", "--add", "law", "--out", "none/page.html"), "there is no folder none"),
    ],
)
def test_mistakes_are_explained(run: Run, words: tuple[str, ...], message: str) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert message in err
