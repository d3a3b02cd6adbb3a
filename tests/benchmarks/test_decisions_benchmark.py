"""The benchmark of decisions: its plans fit batches and the stated time, and it records levels over seeds."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from decision_studies import beside_texts, module, options_of
from safetensors.torch import load_file
from tiny import write_jsonl, write_tiny_model

from cpt.corpus.mixture import replay_rows
from cpt.recipe.load import load
from cpt.sweep.factors import parse_factors, parse_seeds
from cpt.training.schedules import Infinite, Wsd

SOURCES = ["--replay", "r.jsonl", "--general", "g.jsonl"]
LAW = ["--domain", "law=law.jsonl"]
THREE = ["--domain", "medical=m.jsonl", "--domain", "legal=l.jsonl", "--domain", "finance=f.jsonl"]
STUDIES = {
    **dict.fromkeys(("replay", "rewarming", "kinds", "batch", "optimizers", "optimizers-memory", "law"), LAW),
    **dict.fromkeys(("schedules", "optimizer-state", "skills"), THREE),
}


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    beside_texts(monkeypatch, tmp_path_factory.mktemp("texts"))


def test_each_share_of_replay_is_another_number_of_sequences() -> None:
    rates, law = module("rates"), module("law")
    plans = [
        (plan["replay"].levels[rates.REPLAY].split(","), plan["replay"].batch)
        for plan in rates.PLANS.values()
    ]
    plans += [((*plan.shares, *law.USUAL), plan.batch) for plan in law.PLANS.values()]
    for words, batch in plans:
        shares = sorted(set(map(float, words)))
        rows = [replay_rows(share, batch) for share in shares]
        assert rows == pytest.approx([share * batch for share in shares])
        assert len(set(rows)) == len(rows)
    assert rates.PLANS["full"]["replay"].levels[rates.REPLAY] == "0,0.01,0.05,0.1,0.25,0.5"
    assert all(law.USUAL[0] not in plan.shares and law.USUAL[1] in plan.shares for plan in law.PLANS.values())


def told(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, float]:
    """Return the number of runs and the hours that a dry run tells."""
    module("command").main("", [*words, *SOURCES, "--dry-run"])
    said = capsys.readouterr().err.split()
    return int(said[0]), float(said[3])


@pytest.mark.parametrize("study", STUDIES)
def test_a_short_plan_takes_less_than_an_hour(study: str, capsys: pytest.CaptureFixture[str]) -> None:
    runs, hours = told(capsys, study, *STUDIES[study])
    more, longer = told(capsys, study, *STUDIES[study], "--plan", "full")
    assert hours <= 1.0
    assert longer > 1.0
    assert more >= runs


def test_a_dry_run_says_how_long_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, "replay", *LAW, "--plan", "full", "--rate", "250") == (18, 3.5)
    assert told(capsys, "replay", *LAW, "--domain", "it=it.jsonl", "--rate", "600", "--seeds", "17,18") == (
        20,
        0.5,
    )


def test_shares_of_replay_can_be_chosen_for_schedules(capsys: pytest.CaptureFixture[str]) -> None:
    (half, hours), (runs, twice) = (
        told(capsys, "schedules", *STUDIES["schedules"], "--shares", shares) for shares in ("0", "0,0.5")
    )
    assert (runs, twice) == (2 * half, pytest.approx(2 * hours, abs=0.1))
    for study, shares in (("schedules", "0,0"), ("schedules", "all"), ("schedules", "1"), ("law", "0")):
        with pytest.raises(SystemExit):
            told(capsys, study, *STUDIES[study], "--shares", shares)
        assert "--shares" in capsys.readouterr().err


def test_sweeps_are_asked_for_with_all_levels_and_seeds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of re-warming also a model with random weights, in a sweep of its own."""
    asked: list[list[str]] = []
    recorded: dict[str, Any] = {}
    rates, command = module("rates"), module("command")
    monkeypatch.setattr(rates, "sweep", lambda words, _runs: asked.append(words) or {"number": len(asked)})
    monkeypatch.setattr(rates, "random_base", lambda _base, folder: folder)
    monkeypatch.setattr(rates, "base_of", lambda _options: "base")
    monkeypatch.setattr(command.record, "write", lambda name, facts: recorded.setdefault(name, facts))
    command.main(
        "", ["rewarming", *LAW, *SOURCES, "--runs", str(tmp_path), "--override", "seed=1", "--name", "x"]
    )
    assert recorded == {"decision_x": {"law": {"number": 1}, "law, from scratch": {"number": 2}}}
    warm, scratch = asked
    factors = parse_factors([word for at, word in enumerate(warm) if warm[at - 1] == "--vary"], "grid")
    assert {factor.key for factor in factors} == {rates.PEAK, rates.WARMUP}
    assert parse_seeds(warm[warm.index("--seeds") + 1], 0) == [17, 18, 19]
    assert warm[warm.index("--name") + 1] != scratch[scratch.index("--name") + 1]
    assert f"base={tmp_path / 'random-base'}" in scratch
    assert "seed=1" in warm


@pytest.mark.parametrize("study", ["replay", "rewarming", "kinds", "batch"])
def test_what_a_sweep_varies_is_not_set_beside(study: str, tmp_path: Path) -> None:
    rates = module("rates")
    words = rates.request(options_of(tmp_path, study, jobs=1), study, "x", tmp_path / "law.jsonl")
    varied = {words[place + 1].partition("=")[0] for place, word in enumerate(words) if word == "--vary"}
    keys = [word.partition("=")[0] for word in words]
    assert {keys.count(key) for key in varied} == {1}


def test_levels_are_means_over_seeds_with_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = {"a": 1.0, "b": 1.2, "c": 1.1}
    monkeypatch.setattr("cpt.recipe.journal.find_run", lambda _root, name: name)
    monkeypatch.setattr(
        "cpt.recipe.reported_runs.run_facts",
        lambda run: SimpleNamespace(probes={"domain": SimpleNamespace(after=losses[run])}),
    )
    found = module("sweeps").levels_after(list(losses), Path())["domain"]
    assert found["value"] == pytest.approx(1.1)
    assert found["high"] - found["value"] == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=1e-3)
    assert found["seeds"] == (1.0, 1.2, 1.1)


def test_a_random_base_has_the_shape_and_the_tokenizer(tmp_path: Path) -> None:
    base, random_base = write_tiny_model(tmp_path / "model", seed=3), module("rates").random_base
    made = random_base(str(base), tmp_path / "random")
    own, other = (load_file(folder / "model.safetensors") for folder in (base, made))
    assert {key: value.shape for key, value in own.items()} == {k: v.shape for k, v in other.items()}
    assert not any(torch.equal(own[key], other[key]) for key in own if own[key].ndim > 1)
    assert (made / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    before = (made / "model.safetensors").stat()
    assert random_base(str(base), made).joinpath("model.safetensors").stat() == before


def figures(after: float, seconds: float = 1.0) -> Any:
    return module("arms").Figures({"domain": 1.0}, {"domain": after}, seconds, 100)


def test_arms_are_compared_on_the_same_seeds() -> None:
    """Seeds differ by far more than the arms do; a run that failed leaves its seed out."""
    found = {
        "a": {17: figures(0.9), 18: figures(0.7), 19: figures(0.5)},
        "b": {17: figures(0.91), 18: figures(0.71)},
        "c": {},
    }
    rows = module("arms").compared(found, "a")
    assert rows["a"]["changes"]["domain"]["value"] == pytest.approx(-0.3)
    assert rows["a"]["against"] == {}
    ahead = rows["b"]["against"]["domain"]
    assert [ahead["value"], ahead["low"], ahead["high"]] == pytest.approx([0.01, 0.01, 0.01])
    assert (rows["b"]["seeds"], rows["c"]) == ([17, 18], {"seeds": []})


def test_a_failed_run_leaves_the_other_arms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    arms, started = module("arms"), []

    def run(_options: Any, _recipe: Path, words: list[str], name: str) -> Any:
        started.append((name, words))
        if "bad" in words:
            raise arms.Failed(name)
        return arms.Ran(tmp_path / name, 0)

    monkeypatch.setattr(arms, "run", run)
    monkeypatch.setattr(arms, "figures", lambda folder: folder.name)
    found = arms.measured(options_of(tmp_path), Path(), {"a b": ["x"], "c": ["bad"]}, "law", ["all"])
    assert found == {"a b": {seed: f"law-a-b-s{seed}" for seed in (17, 18, 19)}, "c": {}}
    assert started[0] == ("law-a-b-s17", ["all", "x", "seed=17"])
    assert [name for name, _ in started[:3]] == ["law-a-b-s17", "law-c-s17", "law-a-b-s18"]


def test_every_method_of_training_is_a_recipe(tmp_path: Path) -> None:
    optimizers = module("optimizers")
    options = options_of(tmp_path, "optimizers", plan="full")
    kinds = set()
    for method in optimizers.METHODS:
        for peak in range(2):
            words = optimizers.settings(options, options.domain[0][1], method, peak)
            config = load(optimizers.RECIPE, words).steps[1].config
            kinds.add(
                (config.optimizer.kind, config.trainable.kind, getattr(config.trainable, "variant", ""))
            )
            assert config.schedule.peak == float(optimizers.METHODS[method].peaks[peak])
    assert len(kinds) == len(optimizers.METHODS) == 8


class Costs:
    """Costs that fall with the micro batch."""

    def __init__(self, *_: Any) -> None:
        self.base = {"adamw": 400, "muon": 300, "lora": 100}

    def of(self, method: str, micro: int) -> Any:
        cost = module("optimizers").Cost
        return cost(
            self.base.get(method, 200) + 50 * micro, first=2.0, step=1.0 if method == "adamw" else 0.5
        )


def test_equal_memory_is_a_micro_batch_and_equal_time_its_tokens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    optimizers = module("optimizers")
    monkeypatch.setattr(optimizers, "Costs", Costs)
    asked = {}
    monkeypatch.setattr(optimizers, "measured", lambda _o, _r, arms, _label: asked.update(arms) or {})
    monkeypatch.setattr(optimizers, "compared", lambda _found, reference: {"reference": reference})
    found = optimizers.equal_memory(options_of(tmp_path, "optimizers-memory"), "law", Path("l.jsonl"))
    plan, micro = optimizers.PLANS["short"], {m: row["micro_batch"] for m, row in found["methods"].items()}
    assert found["ceiling"] == 100 + 50 * plan.batch == 500
    assert (micro["adamw"], micro["muon"], micro["lora"], micro["galore"]) == (2, 4, 8, 4)
    steps = plan.tokens // (plan.batch * optimizers.LENGTH)
    assert found["seconds"] == 2.0 + (steps - 1)
    assert found["methods"]["adamw"]["tokens"] == plan.tokens
    assert found["methods"]["lora"]["tokens"] == (1 + 2 * (steps - 1)) * plan.batch * optimizers.LENGTH
    assert "pretrain.micro_batch_sequences=4" in asked["muon"]


def test_a_method_that_does_not_fit_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    optimizers, costs = module("optimizers"), Costs()
    costs.base["adamw"] = 1_000
    assert optimizers.afforded(costs, "adamw", 8, 500) is None
    assert optimizers.afforded(costs, "lora", 8, 500) == 8


def test_costs_are_measured_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    optimizers, made = module("optimizers"), []
    monkeypatch.setattr(
        optimizers,
        "run",
        lambda _o, _r, words, name: made.append(words) or SimpleNamespace(folder=name, peak=7),
    )
    monkeypatch.setattr(optimizers, "step_seconds", lambda _folder: [3.0, 1.0, 2.0, 3.0])
    options = options_of(tmp_path, "optimizers")
    for _ in range(2):
        cost = optimizers.Costs(options, Path("l.jsonl"), "x").of("muon", 4)
        assert cost == optimizers.Cost(7, 3.0, 2.0)
    assert len(made) == 2  # the corpus, and the training
    assert (cost.seconds(3), cost.steps(7.0), cost.steps(0.5)) == (7.0, 3, 1)


def three_texts(folder: Path) -> argparse.Namespace:
    """Return the options of a study of three texts."""
    files = [
        (name, write_jsonl(folder / f"{name}.jsonl", [f"{name} {n}. " * 90 for n in range(40)]))
        for name in "abc"
    ]
    return options_of(folder, domain=files, general=files[0][1], replay=files[1][1])


@pytest.mark.parametrize("kind", ["infinite", "cosine", "wsd", "constant"])
def test_schedules_are_recipes_of_three_trainings(kind: str, tmp_path: Path) -> None:
    schedules, options = module("schedules"), three_texts(tmp_path)
    texts = schedules.held_out(options, 17)
    assert texts == schedules.held_out(options, 17)
    settings = schedules.settings("schedules", schedules.PLANS["full"], kind, "0.25")
    words = [*schedules.places(options, texts), *settings]
    steps = load(schedules.RECIPE, words).steps
    trainings = [step.config for step in steps[1::2]]
    assert len(trainings) == 3
    continued = [config.start is not None for config in trainings]
    assert continued == [False, *[kind in ("infinite", "wsd")] * 2]
    for config in trainings:
        assert config.schedule.warmup == schedules.WARMUP
        assert config.replay * config.batch_sequences == 2
        if isinstance(config.schedule, Infinite | Wsd):
            assert config.schedule.anneal_begins(24) is not None
    replayed = [[part.name for part in step.config.replay.mixture or ()] for step in steps[::2]]
    assert replayed == [[], ["general", "a"], ["general", "a", "b"]]
    for uses in texts.values():
        read, kept = (
            {json.loads(line)["text"] for line in uses[use].read_text().splitlines()}
            for use in ("train", "heldout")
        )
        assert not {text[:800] for text in read} & kept


def test_an_optimizer_is_carried_on_with_all_else_the_same(tmp_path: Path) -> None:
    schedules, options = module("schedules"), three_texts(tmp_path)
    places, found = schedules.places(options, schedules.held_out(options, 17)), {}
    for arm in schedules.arms("optimizer-state", 0):
        words = schedules.settings("optimizer-state", schedules.PLANS["short"], arm, "0.25")
        steps = load(schedules.RECIPE, [*places, *words]).steps
        found[arm] = [step.config for step in steps[1::2]]
        assert all(config.checkpoint.keep_optimizer for config in found[arm])
    assert list(found) == ["fresh", "carried"]
    first, *later = zip(*found.values(), strict=True)
    assert first[0] == first[1]
    for fresh, carried in later:
        assert [each.start.optimizer for each in (fresh, carried)] == [False, True]
        assert carried.model_copy(update={"start": fresh.start}) == fresh


def test_runs_of_a_sweep_run_together(tmp_path: Path) -> None:
    words = module("sweeps").command(options_of(tmp_path, jobs=2), tmp_path / "r.yaml", [], "some")
    assert words[words.index("--jobs") + 1] == "2"
