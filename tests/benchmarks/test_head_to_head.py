"""The comparison at equal time: it runs on a tiny model, keeps time, resumes, and judges planted figures."""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tiny import SENTENCES, write_jsonl

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RECIPE = """\
name: ours
base: base
seed: 17
stages:
  - corpus:
      domain: [{path: domain.jsonl}]
      replay: {self_generated: {tokens: 100, length: 24, batch: 4}}
      general: [{path: general.jsonl}]
      heldout: 0.2
  - pretrain:
      tokens: 1
      replay: 0.25
      epochs: 50
      schedule: {kind: rewarm-cosine, peak: 1, floor: 1}
      monitor: {every: 100, tokens: 200, probe_share: 50%, weights: null, samples: null}
  - merge: {name: weight-050, models: [{from: pretrain, weight: 0.5}]}
  - merge:
      name: no-rise
      models: [{from: pretrain, weight: auto}]
      search: {tokens: 200, points: 2, window: 64}
      gates: [{limit: general <= 0, action: warn}]
"""
STAND_IN = """\
#!{python}
'''Stands in for LLaMA-Factory's environment: writes the base as the model, or tells versions.'''
import json, shutil, sys
if sys.argv[1] == "-c":
    print(json.dumps({{"llamafactory": "0.0.0"}}))
else:
    job = json.load(open(sys.argv[2]))
    shutil.copytree(job["model"], job["output"])
    json.dump({{"seconds": [0.2] * job["steps"]}}, open(sys.argv[3], "w"))
"""


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts import each other from their folder."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    for name in ("head_to_head", "head_to_head.command"):  # the script's name is the package's
        monkeypatch.delitem(sys.modules, name, raising=False)


def module(name: str) -> Any:
    return import_module(f"head_to_head.{name}")


def words_of(folder: Path, model: Path, *more: str) -> list[str]:
    """Return a command line on small texts."""
    texts = {
        name: write_jsonl(
            folder / f"{name}.jsonl",
            [f"{name} {n}. " + f"{SENTENCES[n % 4]} {SENTENCES[n % 3]} " * 4 for n in range(count)],
        )
        for name, count in (("domain", 60), ("general", 40))
    }
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    files = ["--domain", f"it={texts['domain']}", "--general", str(texts["general"])]
    sizes = ["--length", "48", "--rows", "4", "--threads", "1", "--heldout", "0.3", "--probe-tokens", "300"]
    own = ["--model", str(model), "--start-token", "<s>", "--recipe", str(recipe), "--seeds", "17"]
    return [*files, *sizes, *own, "--runs", str(folder / "runs"), *more]


def options_of(folder: Path, model: Path, *more: str) -> argparse.Namespace:
    options: argparse.Namespace = module("command").parse("", words_of(folder, model, *more))
    options.bf16 = False
    return options


def stand_in(folder: Path) -> Path:
    script = folder / "python"
    script.write_text(STAND_IN.format(python=sys.executable))
    script.chmod(0o755)
    return script


def test_all_contenders_run_on_a_tiny_model_and_are_not_run_twice(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command, study = module("command"), module("study")
    recorded: dict[str, Any] = {}
    monkeypatch.setattr(command.record, "write", lambda name, facts: recorded.setdefault(name, facts))
    monkeypatch.setattr(study.Pace, "steps", lambda _pace, _seconds: 3)  # the machine decides the time
    monkeypatch.setattr(study, "ATTEMPTS", 1)
    peers = ["--rates", "1e-3", "--lora-rates", "", "--trainer-rates", "1e-2", "--peaks", "1e-2"]
    words = words_of(tmp_path, tiny_model, *peers, "--llama-factory-python", str(stand_in(tmp_path)))
    command.main("", words)
    found = recorded.pop("head_to_head")
    assert found["peer_versions"] == {"llamafactory": "0.0.0"}
    arms = found["domains"]["it"]["arms"]
    ours = ["cpt 0.01, pretrain", "cpt 0.01, weight-050", "cpt 0.01, no-rise"]
    assert list(arms) == ["LLaMA-Factory full 0.001", "Trainer full 0.01", *ours]
    changed = {label: arm["changes"]["domain"]["value"] for label, arm in arms.items()}
    assert changed["LLaMA-Factory full 0.001"] == 0.0
    assert changed["Trainer full 0.01"] < 0
    assert changed["cpt 0.01, pretrain"] < 0
    assert changed["cpt 0.01, pretrain"] != changed["cpt 0.01, weight-050"]
    assert found["domains"]["it"]["best_peer"] == "Trainer full 0.01"
    seconds = {label: arm["seconds"][0] for label, arm in arms.items()}
    assert seconds["cpt 0.01, pretrain"] < seconds["cpt 0.01, no-rise"]
    (attempt,) = arms["Trainer full 0.01"]["attempts"][0]
    assert attempt["steps"] == 3
    assert attempt["off"] < -study.TOLERANCE  # far from seven minutes, and said so

    monkeypatch.setattr(study, "run", None)
    command.main("", words)
    assert recorded["head_to_head"]["domains"] == found["domains"]
    assert "0 runs, about 0.0 hours" in capsys.readouterr().err


def test_a_dry_run_counts_runs_and_hours(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = words_of(tmp_path, tiny_model, "--minutes", "6", "--seeds", "1,2,3", "--dry-run")
    module("command").main("", words)
    # the Trainer and ours at two peaks, three seeds: 9 runs, 2 calibrations, 21 models to read
    assert capsys.readouterr().err == f"9 runs, about {0.9 + 2 / 30 + 21 / 90:.1f} hours\n"
    module("command").main("", [*words, "--llama-factory-python", "python", "--domain", f"b={words[1][3:]}"])
    # of each domain: 9 arms with the first seed, then one of each of 3 peers and our 2
    assert capsys.readouterr().err.startswith("38 runs")


def test_another_setting_has_other_runs(tmp_path: Path, tiny_model: Path) -> None:
    study = module("study")

    def folder(*more: str) -> Path:
        options = options_of(tmp_path, tiny_model, *more)
        return study.folder_of(options, *options.domain[0])

    changes = (["--minutes", "3"], ["--window", "64"], ["--override", "pretrain.replay=0"])
    assert len({folder(), *(folder(*each) for each in changes)}) == 4
    assert folder("--rates", "1e-3", "--seeds", "5") == folder()


def test_nobody_trains_on_what_is_measured(tmp_path: Path, tiny_model: Path) -> None:
    texts, options = module("texts"), options_of(tmp_path, tiny_model)
    domain = options.domain[0][1]
    parts = [texts.divide(domain, options.general, 0.3, seed, tmp_path / f"s{seed}") for seed in (17, 17, 18)]
    assert parts[0] == parts[1]
    for each in parts:
        train, choose, measured, general = (texts.read_texts(file) for file in each)
        assert sorted(train + measured) == sorted(texts.read_texts(domain))
        assert sorted(choose + general) == sorted(texts.read_texts(options.general))
        assert 0.1 < len(measured) / 60 < 0.5
    assert texts.read_texts(parts[0].domain) != texts.read_texts(parts[2].domain)


def test_ours_is_the_packaged_recipe_with_the_settings_of_the_run(tmp_path: Path, tiny_model: Path) -> None:
    contenders, texts = module("contenders"), module("texts")
    from cpt.recipe.load import load

    options = options_of(tmp_path, tiny_model, "--rows", "8", "--replay", str(tmp_path / "general.jsonl"))
    parts = texts.divide(options.domain[0][1], options.general, 0.3, 17, tmp_path / "texts")
    words = contenders.overrides(options, tiny_model, parts, 1e-4, 17, 5)
    corpus, pretrain, *merges = (step.config for step in load(contenders.RECIPE, words).steps)
    assert [source.path for source in corpus.replay.sources] == [str(options.replay)]
    assert pretrain.tokens == 5 * 8 * 48
    assert (pretrain.schedule.peak, pretrain.schedule.floor) == (1e-4, 1e-5)
    assert [merge.name for merge in merges] == ["weight-067", "weight-080"]
    assert pretrain.replay == 1 / 8
    assert [merge.models[0].weight for merge in merges] == [0.67, 0.8]
    assert 1 + len(merges) == module("study").POINTS  # the trained model is one


def test_steps_fill_the_time() -> None:
    pace = module("pace").Pace.of(20.0, [5.0, 2.0, 2.0, 2.0])
    assert pace == (12.0, 2.0)  # the first step's extra 3 s are fixed
    assert pace.steps(60.0) == 24
    with pytest.raises(module("pace").TooShort, match="2 steps end after 16 s"):
        pace.steps(14.0)


@pytest.mark.parametrize(("slower", "made"), [(1.0, [4, 40]), (1.05, [4, 40]), (2.0, [4, 40, 20])])
def test_a_run_that_misses_its_time_is_made_once_more(
    slower: float, made: list[int], tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps take `slower` times what the calibration found."""
    study, contenders = module("study"), module("contenders")
    asked: list[int] = []

    def run(_options: Any, _base: Any, _texts: Any, _arm: Any, _seed: int, steps: int, _folder: Any) -> Any:
        asked.append(steps)
        step = 2.0 if len(asked) == 1 else 2.0 * slower
        return contenders.Ran(20.0 + step * steps, [step] * steps, {})

    monkeypatch.setattr(study, "run", run)
    options, paces = options_of(tmp_path, tiny_model, "--minutes", f"{100 / 60}"), {}
    arm = contenders.Arm("Trainer full", 1e-4)
    _, attempts = study.timed(study.Entry(options, tmp_path, None, arm, 17, tmp_path), paces)
    assert asked == made
    assert attempts[-1]["off"] == pytest.approx(0.8 * (slower - 1) if slower < 2 else 0.0)
    study.timed(study.Entry(options, tmp_path, None, arm, 18, tmp_path), paces)
    assert len(asked) == len(made) + 1  # by the pace of the last run, without another calibration


def planted(label: str, domain: list[float], general: list[float], windows: str = "same") -> list[Any]:
    """Return the rows of one arm; ours has one point."""
    name = "pretrain" if label.startswith("cpt") else ""
    return [
        {
            "arm": label,
            "seed": seed,
            "attempts": [],
            "points": {
                name: {
                    "changes": {"domain": d, "general": g},
                    "windows": windows,
                    "seconds": 420.0,
                    "suites": {"medical": 0.01 * seed},
                }
            },
        }
        for seed, (d, g) in enumerate(zip(domain, general, strict=True))
    ]


def test_ours_is_compared_with_the_peer_that_learns_most() -> None:
    results = module("results")
    rows = [
        *planted("Trainer full 0.0001", [-0.10, -0.11, -0.12], [0.0, 0.0, 0.0]),
        *planted("LLaMA-Factory full 0.0001", [-0.20, -0.21, -0.22], [0.01, 0.02, 0.03]),
        *planted("cpt 1", [-0.26, -0.27, -0.28], [0.00, 0.01, 0.02]),
        *planted("cpt 2", [-0.21, -0.22, -0.23], [0.00, 0.01, 0.02]),
        *planted("cpt 3", [-0.30, -0.31, -0.32], [0.02, 0.03, 0.04]),
        *planted("cpt 4", [-0.20, -0.27, -0.34], [0.00, 0.01, 0.02]),
    ]
    found = results.compared(rows)
    assert found["best_peer"] == "LLaMA-Factory full 0.0001"
    verdicts = [found["arms"][f"cpt {n}, pretrain"]["verdict"] for n in (1, 2, 3, 4)]
    assert verdicts == [
        "dominates", "does not dominate", "does not dominate", "dominates in the mean, not shown",
    ]  # fmt: skip
    assert found["dominating"] == ["cpt 1, pretrain"]
    first = found["arms"]["cpt 1, pretrain"]
    assert first["against"]["domain"]["value"] == pytest.approx(-0.06)
    assert first["margins"]["domain"]["value"] == pytest.approx(-0.06 + 0.021)
    half = 4.3027 * 0.001 / 3**0.5  # the margins of the seeds are 0.001 apart
    assert first["margins"]["domain"]["high"] == pytest.approx(-0.039 + half, rel=1e-3)
    assert first["suites"]["medical"]["value"] == pytest.approx(0.01)
    assert "verdict" not in found["arms"]["Trainer full 0.0001"]
    text = results.table("medical", found)
    assert "-0.2700 (-0.295 -0.245)" in text
    assert "the peer's best" in text


def test_later_seeds_have_the_best_rate_of_each_peer_and_all_of_ours() -> None:
    study, arm = module("study"), module("contenders").Arm
    arms = [arm("Trainer full", 1e-4), arm("LLaMA-Factory full", 1e-5), arm("LLaMA-Factory full", 1e-4)]
    arms += [arm("cpt", 1e-4), arm("cpt", 3e-4)]
    rows = planted("LLaMA-Factory full 1e-05", [-0.1, -0.9], [0.0, 0.0])
    rows += planted("LLaMA-Factory full 0.0001", [-0.2], [0.0])
    assert study.chosen(arms, rows) == [arms[0], *arms[2:]]
    assert study.chosen(arms, []) == [*arms[:2], *arms[3:]]
    worse = planted("LLaMA-Factory full 0.0001", [0.05], [0.0])  # the other rate has failed
    assert study.chosen(arms, worse) == [arms[0], *arms[2:]]


def test_a_rate_that_was_tried_once_is_no_best_peer() -> None:
    rows = [*planted("Trainer full 0.0001", [-0.1, -0.1], [0, 0]), *planted("Trainer full 0.1", [-0.5], [0])]
    found = module("results").compared([*rows, *planted("cpt 1", [-0.3, -0.3], [0, 0])])
    assert found["best_peer"] == "Trainer full 0.0001"


def test_a_peer_whose_run_failed_is_still_the_one_to_beat() -> None:
    peers = planted("LLaMA-Factory full 1", [-0.3, -0.3], [0, 0]) + planted(
        "Trainer full 1", [-0.1] * 3, [0] * 3
    )
    found = module("results").compared([*peers, *planted("cpt 1", [-0.2] * 3, [0] * 3)])
    assert found["best_peer"] == "LLaMA-Factory full 1"
    assert found["dominating"] == []
    assert f"{'LLaMA-Factory full 1':<34}{2:>6}" in module("results").table("law", found)


def test_one_seed_shows_nothing_and_a_missing_seed_is_left_out() -> None:
    results = module("results")
    peer = planted("Trainer full 0.0001", [-0.1, -0.2], [0.0, 0.0])
    found = results.compared([*peer, *planted("cpt 1", [-0.5], [-0.1])])
    assert found["arms"]["cpt 1, pretrain"]["against"]["domain"]["seeds"] == (pytest.approx(-0.4),)
    assert found["arms"]["cpt 1, pretrain"]["verdict"] == "dominates in the mean, not shown"


def test_other_windows_are_not_compared() -> None:
    rows = planted("Trainer full 0.0001", [-0.1], [0.0]) + planted("cpt 1", [-0.1], [0.0], windows="other")
    with pytest.raises(SystemExit, match="did not read the same text"):
        module("results").compared(rows)


def test_an_adapter_is_read_as_a_whole_model(tmp_path: Path, tiny_model: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(tiny_model)
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    reading = module("reading")
    whole = reading.whole_model(tmp_path / "adapter", tiny_model, tmp_path / "whole")
    expected = adapted.merge_and_unload().state_dict()
    own = AutoModelForCausalLM.from_pretrained(whole).state_dict()
    assert all(torch.allclose(own[name], value, atol=1e-6) for name, value in expected.items())
    assert reading.whole_model(tiny_model, tiny_model, tmp_path / "none") == tiny_model


def test_sequences_of_the_trainer_are_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS / "contenders"), *sys.path])
    rows = import_module("trainer_pretrain").sequences([[1, 2, 3], [4], [5, 6, 7, 8]], 3)
    assert [row["input_ids"] for row in rows] == [[1, 2, 3], [4, 5, 6]]


def test_llama_factory_is_asked_for_its_documented_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A stand-in takes the place of its function that trains."""
    from types import ModuleType

    asked: list[dict[str, Any]] = []
    tuner = ModuleType("llamafactory.train.tuner")
    tuner.run_exp = lambda settings, callbacks: asked.append(settings)  # type: ignore[attr-defined]
    for name in ("llamafactory", "llamafactory.train"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "llamafactory.train.tuner", tuner)
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS / "contenders"), *sys.path])
    job = {
        "model": "m", "text": "t.jsonl", "output": str(tmp_path / "model"), "steps": 40, "length": 512,
        "rows": 8, "at_once": 2, "rate": 3e-4, "seed": 5, "bf16": True, "processes": 2, "trainable": "lora",
    }  # fmt: skip
    (tmp_path / "job.json").write_text(json.dumps(job))
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path / "job.json"), str(tmp_path / "result.json")])
    import_module("llama_factory_pretrain").main()
    (settings,) = asked
    expected = {
        "stage": "pt", "finetuning_type": "lora", "lora_rank": 8, "lora_target": "all", "packing": True,
        "cutoff_len": 512, "max_steps": 40, "warmup_steps": 4, "lr_scheduler_type": "cosine",
        "learning_rate": 3e-4, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4, "seed": 5,
    }  # fmt: skip
    assert expected.items() <= settings.items()
    info = json.loads((Path(settings["dataset_dir"]) / "dataset_info.json").read_text())
    assert info["texts"]["file_name"] == "t.jsonl"


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--domain", f"law={tmp_path / 'no.jsonl'}", "--general", str(tmp_path / "none.jsonl")]
    with pytest.raises(SystemExit) as ended:
        module("command").parse("about", words)
    assert ended.value.code == 2
    assert "argument --domain: " in (said := capsys.readouterr().err)
    assert "no.jsonl: there is no such file" in said
