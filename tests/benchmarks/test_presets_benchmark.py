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


def test_a_file_in_a_header_is_replaced_too(benchmark: Any, tmp_path: Path) -> None:
    text = {"data/medical.jsonl": tmp_path / "own.jsonl"}
    options = argparse.Namespace(model="other/model", start_token="<s>", override=[], text=text)
    found = benchmark.overrides(options, "medical-study", 17)
    assert f"corpus.domain=[{{path: {tmp_path / 'own.jsonl'}, limit: 60}}]" in found


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("medical={}", "none of these presets reads it"),
        ("data/legal.jsonl={}", "none of these presets reads it"),
        ("data/medical.jsonl=missing", "no such file"),
    ],
)
def test_a_text_that_no_preset_reads_is_refused(
    word: str, why: str, benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (tmp_path / "own.jsonl").touch()
    words = ["presets.py", "medical", "--text", word.format(tmp_path / "own.jsonl"), "--collect"]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit):
        benchmark.main()
    assert f"--text {word.partition('=')[0]}: {why}" in capsys.readouterr().err


def test_suites_are_those_of_the_run_s_model_and_of_all_tasks(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Planted answers: on one task no model is above guessing, and it counts all the same."""
    from evals.models import request_cache
    from evals.result_folders import save_results

    monkeypatch.setattr(sys, "path", [str(BENCHMARKS.parent / "tests" / "evals"), *sys.path])
    from results_made import made_results, with_task

    monkeypatch.setattr(request_cache, "model_fingerprint", lambda folder: folder.name * 2)
    folder = tmp_path / "legal-tiny-s17"
    assert benchmark.suites_of(folder, tmp_path / "after") is None
    for role, right in {"base": 50, "after": 60}.items():
        answers = {
            "legal/a/telling": [number < right for number in range(100)],
            "legal/b/silent": [number % 4 == 0 for number in range(100)],
        }
        results = with_task(made_results(role, answers), "silent", chance=0.25)
        save_results(results, benchmark.answers_of(folder)[role])
    found = benchmark.suites_of(folder, tmp_path / "after")
    assert found["score"]["legal"] == {
        "before": pytest.approx(0.375),
        "after": pytest.approx(0.425),
        "change": pytest.approx(0.05),
        "tasks": 2,
    }
    assert benchmark.suites_of(folder, tmp_path / "trained-again") is None


def test_means_are_over_seeds_of_the_chosen_model(benchmark: Any) -> None:
    def run(change: float, weight: float, seconds: float) -> dict[str, Any]:
        texts = {"before": {"value": 1.0}, "after": {"value": 1.0 + change}}
        points = [{"weight": 1.0, "chosen": False}, {"weight": weight, "chosen": True}]
        return {
            "bits_per_byte": {"domain": texts, "general": texts},
            "merge": {"points": points},
            "seconds": {"corpus": 1.0, "pretrain": seconds - 1.0},
            "suites": {
                name: {
                    "legal": {"before": 0.5, "after": 0.5 + change / 10, "change": change / 10, "tasks": 3}
                }
                for name in ("score", "p_gold")
            },
        }

    runs = {17: run(-0.1, 0.5, 10.0), 18: run(-0.2, 0.7, 20.0), 19: run(-0.3, 0.6, 30.0)}
    found = benchmark.over_seeds(runs)
    assert found["texts"]["domain"]["change"]["value"] == pytest.approx(-0.2)
    half = 4.302653 * 0.1 / 3**0.5  # Student's t of two degrees of freedom
    assert found["texts"]["domain"]["change"]["low"] == pytest.approx(-0.2 - half, rel=1e-5)
    assert (found["weight"]["value"], found["seconds"]["value"]) == pytest.approx((0.6, 20.0))
    assert found["suites"]["p_gold"]["legal"]["change"]["value"] == pytest.approx(-0.02)
    assert found["suites"]["score"]["legal"]["tasks"] == 3
    del runs[18]["suites"]
    assert benchmark.over_seeds(runs)["suites"] == {}  # a mean is over all seeds
    (shown,) = benchmark.shown({"legal": found | {"runs": runs}}, 1, "A processor").values()
    gave = Gave(**shown)
    assert (gave.seconds, gave.machine, gave.seeds, gave.tiny) == (20.0, "1 core, A processor", 3, True)
