"""The benchmark of presets runs what their headers say, and shows what was measured."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import pytest

from cpt.recipe.authoring import template
from cpt.recipe.load import load
from cpt.recipe.presets import Gave
from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.pretrain.config import PretrainConfig

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import presets

    return presets


@pytest.mark.parametrize("name", ["medical", "legal", "finance"])
def test_a_run_is_the_tiny_variant_with_another_base_and_text(
    name: str, benchmark: Any, tmp_path: Path
) -> None:
    text = tmp_path / "own.jsonl"
    text.write_text('{"text": "A fever is a fever."}\n')
    (tmp_path / "recipe.yaml").write_text(template(name))
    options = argparse.Namespace(
        model="other/model",
        start_token="<s>",
        override=["evaluate.window=512"],
        text={f"data/{name}.jsonl": text},
    )
    recipe = load(tmp_path / "recipe.yaml", benchmark.overrides(options, name, 18))
    assert (recipe.name, recipe.seed, recipe.base) == (f"{name}-tiny-s18", 18, "other/model")
    corpus, *_, evaluate, _ = (step.config for step in recipe.steps)
    assert corpus.domain[0].path == str(text)
    assert (corpus.start_token, corpus.end_token, evaluate.window) == ("<s>", "<s>", 512)
    (training,) = (step.config for step in recipe.steps if isinstance(step.config, PretrainConfig))
    assert f"pretrain.tokens={training.tokens}" in benchmark.tiny(name)


def test_every_file_of_a_preset_is_replaced(benchmark: Any, tmp_path: Path) -> None:
    texts = {f"data/{name}.jsonl": tmp_path / f"own-{name}.jsonl" for name in ("medical", "legal", "finance")}
    for file in texts.values():
        file.write_text('{"text": "A fever is a fever."}\n')
    (tmp_path / "recipe.yaml").write_text(template("infinite"))
    options = argparse.Namespace(model="other/model", start_token="<s>", override=[], text=texts)
    recipe = load(tmp_path / "recipe.yaml", benchmark.overrides(options, "infinite", 17))
    corpora = [step.config for step in recipe.steps if isinstance(step.config, CorpusConfig)]
    files = [[Path(source.path).name for source in corpus.domain] for corpus in corpora]
    medical, legal, finance = (file.name for file in texts.values())
    assert files == [[medical], [medical, legal], [medical, legal, finance]]
    assert {corpus.start_token for corpus in corpora} == {"<s>"}


def test_what_a_header_replaces_is_left_alone(benchmark: Any, tmp_path: Path) -> None:
    text = {"data/stability.jsonl": tmp_path / "own.jsonl"}
    options = argparse.Namespace(model="other/model", start_token="<s>", override=[], text=text)
    found = benchmark.overrides(options, "stability", 17)
    assert not any("own.jsonl" in word for word in found)
    assert benchmark.tiny("stability")[1:] == found[: len(benchmark.tiny("stability")) - 1]


def test_means_are_over_seeds_of_the_chosen_model(benchmark: Any) -> None:
    def run(change: float, weight: float, seconds: float) -> dict[str, Any]:
        texts = {"before": {"value": 1.0}, "after": {"value": 1.0 + change}}
        points = [{"weight": 1.0, "chosen": False}, {"weight": weight, "chosen": True}]
        return {
            "bits_per_byte": {"domain": texts, "general": texts},
            "merge": {"points": points},
            "seconds": {"corpus": 1.0, "pretrain": seconds - 1.0},
            "suites": {name: {"legal": {"difference": change / 10}} for name in ("accuracy", "p_gold")},
        }

    runs = {17: run(-0.1, 0.5, 10.0), 18: run(-0.2, 0.7, 20.0), 19: run(-0.3, 0.6, 30.0)}
    found = benchmark.over_seeds(runs)
    assert found["texts"]["domain"]["change"]["value"] == pytest.approx(-0.2)
    half = 4.302653 * 0.1 / 3**0.5  # Student's t of two degrees of freedom
    assert found["texts"]["domain"]["change"]["low"] == pytest.approx(-0.2 - half, rel=1e-5)
    assert (found["weight"]["value"], found["seconds"]["value"]) == pytest.approx((0.6, 20.0))
    assert found["suites"]["p_gold"]["legal"]["value"] == pytest.approx(-0.02)
    del runs[18]["suites"]
    assert benchmark.over_seeds(runs)["suites"] == {}  # a mean is over all seeds
    (shown,) = benchmark.shown({"legal": found | {"runs": runs}}, 1, "A processor").values()
    gave = Gave(**shown)
    assert (gave.seconds, gave.machine, gave.seeds, gave.tiny) == (20.0, "1 core, A processor", 3, True)
