"""The tiny variants of presets run to their end on a tiny random model, and make what they say."""

from __future__ import annotations

import json
import random
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from tiny import write_jsonl

from cpt.corpus.documents import read_documents
from cpt.recipe.authoring import template
from cpt.recipe.load import load


def documents(tag: str, number: int = 150) -> list[str]:
    """Documents of random words in sentences on a line each, all different."""
    chosen = random.Random(tag)
    words = ["the", "of", "and", "to", *("".join(chosen.choices("abdegiklmnoprstu", k=5)) for _ in range(60))]
    return [
        f"{tag.capitalize()} {at}.\n"
        + "\n".join(" ".join(chosen.choices(words, k=9)).capitalize() + "." for _ in range(8))
        for at in range(number)
    ]


def tiny_variant(name: str) -> list[str]:
    """The overrides of the header's tiny variant."""
    header = re.sub(r"\\\n#", " ", template(name).partition("\nname:")[0])
    (line,) = (line for line in header.splitlines() if f"name={name}-tiny" in line)
    return [word for word in shlex.split(line.partition("cpt run FILE")[2]) if "=" in word]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_model: Path, another_model: Any) -> Path:
    """A folder with a model and its sibling."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CPT_RUNS", raising=False)
    another_model("sibling", seed=1)
    (tmp_path / "model").symlink_to(tiny_model)
    return tmp_path


def run(called: Any, name: str, *overrides: str) -> set[str]:
    """Run a preset's tiny variant with text for each of its files; return the stages that finished."""
    Path(f"{name}.yaml").write_text(template(name))
    Path("data").mkdir()
    for file in {*re.findall(r"path: data/([\w.]+)", template(name)), "general.jsonl"}:
        write_jsonl(Path("data") / file, documents(file.partition(".")[0]))
    tiny = [word for word in tiny_variant(name) if "-Instruct.Q4_1.gguf" not in word]
    corpora = [step.name for step in load(Path(f"{name}.yaml")).steps if step.stage.kind == "corpus"]
    smaller = [
        word
        for corpus in corpora
        for word in (
            f"{corpus}.replay.self_generated.tokens=2000",
            f"{corpus}.replay.self_generated.length=60",
            f"{corpus}.general=[{{path: data/general.jsonl}}]",
            f"{corpus}.sequence_length=64",
        )
    ]
    fewer = [re.sub(r"^([\w-]+\.tokens=)\d+", r"\g<1>6000", word) for word in tiny]
    last = [
        "merge.search.points=3",
        "merge.search.window=64",
        "evaluate.window=64",
        "evaluate.tasks.0.items=4",
    ]
    done = called("run", f"{name}.yaml", *fewer, "base=./model", *smaller, *last, *overrides)
    assert done.code in (0, 3, 4), done.err  # 3, 4: the limit on so little text cannot be shown to be held
    folder = Path("runs") / f"{name}-tiny"
    assert (folder / "model").exists()
    return {path.parent.name[: -len("-0123456789ab")] for path in folder.glob("*/artifact.json")}


def result(name: str, stage: str) -> Path:
    (found,) = Path("runs", f"{name}-tiny").glob(f"{stage}-{'[0-9a-f]' * 12}/artifact.json")
    return found.parent


ONE_CORPUS = ("corpus", "pretrain", "merge", "evaluate", "report")


def test_code_qa(here: Path, called: Any) -> None:
    assert run(called, "code-qa") >= set(ONE_CORPUS)


def test_budget_reads_what_the_classifier_chose(here: Path, called: Any) -> None:
    assert run(called, "budget", "corpus.select.tokens=4000") >= set(ONE_CORPUS)
    index = json.loads((result("budget", "corpus") / "artifact.json").read_text())["metrics"]["selection"]
    assert index["tokens"] >= 4000


def test_small_clinical(here: Path, called: Any) -> None:
    stages = run(called, "small-clinical", "vocabulary.extend.tokens=16")
    assert stages >= {*ONE_CORPUS, "vocabulary"}


def test_two_stages_of_a_language(here: Path, called: Any) -> None:
    header = re.sub(r"\\\n#", " ", template("language").partition("\nname:")[0])
    (line,) = (line for line in header.splitlines() if "name=two-stage" in line)
    words = [word for word in shlex.split(line.partition("cpt run FILE")[2]) if not word.startswith("name=")]
    run(called, "language", *words, "vocabulary.extend.tokens=16")
    ledger = json.loads((result("language", "pretrain") / "training/summary.json").read_text())["mixture"]
    first, second = (phase["sources"] for phase in ledger)
    assert first["domain.broad"]["tokens"] > 0
    assert first["domain.best"]["tokens"] == 0
    assert second["domain.best"]["tokens"] > second["domain.broad"]["tokens"]


def test_instruct_is_the_sibling_and_the_weighted_change_of_the_base(here: Path, called: Any) -> None:
    sibling = ("instructed.models.1.model=./sibling", "merge.base.model=./sibling")
    run(called, "instruct", *sibling, "evaluate.against=[base, ./sibling]")
    metrics = json.loads((result("instruct", "merge") / "artifact.json").read_text())["metrics"]
    (weight,) = metrics["weights"].values()
    base, instruct = (load_file(Path(each) / "model.safetensors") for each in ("model", "sibling"))
    trained, made = (
        load_file(result("instruct", stage) / "model/model.safetensors") for stage in ("pretrain", "merge")
    )
    for name, value in made.items():
        expected = instruct[name] + weight * (trained[name] - base[name])
        assert float((value - expected).abs().max()) < 1e-6


def test_infinite_never_trains_what_an_earlier_corpus_held_out(here: Path, called: Any) -> None:
    domains = ("medical", "legal", "finance")
    run(called, "infinite")
    held: set[str] = set()
    for name in domains:
        corpus = result("infinite", f"{name}-text") / "corpus"
        train, heldout = (
            {each.text for each in read_documents(corpus, "domain", side)} for side in ("train", "heldout")
        )
        assert not held & train
        assert held < heldout
        held = heldout
    steps = [json.loads(line) for line in (result("infinite", "legal") / "training/steps.jsonl").open()]
    assert max(step["lr"] for step in steps) == pytest.approx(1.65e-4)  # the constant rate: no new peak
    report = json.loads((result("infinite", "report") / "report/report.json").read_text())
    told = [(gate["stage"], gate["probe"]) for gate in report["watched"]["gates"]]
    assert told == [
        ("medical", "general"),
        ("legal", "domain.medical"),
        ("legal", "general"),
        ("finance", "domain.medical"),
        ("finance", "domain.legal"),
        ("finance", "general"),
        ("merge", "general"),
    ]
