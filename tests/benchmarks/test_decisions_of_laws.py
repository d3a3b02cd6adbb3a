"""The studies of laws and of online mixing: asked at trained tokens, scored on what they have not seen."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from decision_studies import beside_texts, module, options_of
from law_runs import write_run
from tiny import write_jsonl

from cpt.laws.rows import Row
from cpt.recipe.load import load
from cpt.sweep.factors import parse_factors


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    beside_texts(monkeypatch, tmp_path_factory.mktemp("texts"))


def test_a_law_is_scored_on_what_it_has_not_seen(tmp_path: Path) -> None:
    """A planted law predicts planted readings; kinds are told apart by share and tokens."""
    study = module("law")
    from cpt import laws

    def loss(tokens: int, share: float) -> float:
        return 0.5 + 3 * max(share, 1e-9) ** 0.3 / tokens**0.4 + 0.1 / (share + 0.2) ** 0.5

    def rows(name: str, replay: float, tokens: list[int]) -> list[Row]:
        share = 1 - replay
        return [
            Row(
                run=name,
                parameters=1_000,
                tokens=at,
                share=share,
                domain_loss=loss(at, share) if at else 1.2,
                general_loss=loss(at, replay) if at else 1.2,
            )
            for at in [0, *tokens]
        ]

    fitted, ends, short = {}, {}, [1_000, 2_000, 4_000]
    for replay in (0.0, 0.1, 0.25, 0.5):
        fitted[f"f{replay}"] = rows(f"f{replay}", replay, short)
    for replay in (0.05, 0.25):
        ends[f"e{replay}"] = rows(f"e{replay}", replay, [*short, 8_000])
    for name, own in (fitted | ends).items():
        write_run(tmp_path, name, own)
    law = laws.fit([row for own in fitted.values() for row in own], draws=20)
    found = study.predicted(
        options_of(tmp_path),
        law,
        study.PLANS["short"],
        {"configurations": [{"runs": list(fitted)}]},
        {"configurations": [{"runs": list(ends)}]},
    )
    readings = {kind: texts["domain"]["readings"] for kind, texts in found.items()}
    assert readings == {"tokens": 1, "mixture": 3, "both": 1}
    assert all(texts["domain"]["mean_error"] < 0.01 for texts in found.values())


@pytest.mark.parametrize(("replay", "arms"), [(0.33, 3), (0.2401, 2), (0.96, 2)])
def test_a_law_is_asked_at_the_tokens_that_runs_trained_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, replay: float, arms: int
) -> None:
    """0.33 is 7 of 20 sequences, a share of its own; 0.2401 is 5, as of 25%; 0.96 leaves the domain none."""
    study, asked, answered = module("law"), [], []

    def sweep(words: list[str], _runs: Path) -> dict[str, Any]:
        levels = words[words.index("--vary") + 1].partition("=")[2].split(",")
        asked.append(levels)
        rows = [
            {"values": {"pretrain.replay": float(level)}, "runs": [f"{level}-s{seed}" for seed in (17, 18)]}
            for level in levels
        ]
        return {"configurations": rows}

    def figures(folder: Path) -> Any:
        tokens = 28_100 if folder.name.endswith("17") else 28_000
        return module("arms").Figures(
            {"domain": 1.0, "general": 1.0}, {"domain": 0.9, "general": 1.0}, 1, tokens
        )

    monkeypatch.setattr(study, "sweep", sweep)
    monkeypatch.setattr(study, "figures", figures)
    monkeypatch.setattr(study, "said_by", lambda _words: "{}")
    monkeypatch.setattr(study, "predicted", lambda *_: {})
    monkeypatch.setattr("cpt.laws.read_law", lambda _file: None)
    monkeypatch.setattr(
        study, "advised", lambda _law, tokens: answered.append(tokens) or {"replay": {"value": replay}}
    )
    found = study._studied(options_of(tmp_path, seeds="17,18", jobs=1), "law", Path("law.jsonl"))
    assert answered == [28_050]  # 25,600 were asked for
    assert asked[1] == ["0.05", "0.25"]
    assert asked[2:] == ([["0.05", "0.25", "0.35"]] if arms == 3 else [])
    assert list(found["compared"]) == ["replay 0.05", "replay 0.25", *(["advised"] if replay < 0.9 else [])]


def test_the_best_mixture_is_that_of_the_least_mean_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    skills = module("skills")
    assert len(list(skills.divisions(["a", "b", "c"], 20))) == 231
    weights = {"a": 3.0, "b": 1.0, "c": 1.0}

    class Setting:
        def __init__(self, name: str) -> None:
            self.name = name

        @classmethod
        def of(cls, law: str) -> Any:
            return cls(law)

        def size(self, _: None) -> float:
            return 1.0

        def losses(self, _text: str, _size: float, _tokens: int, share: float) -> float:
            return -weights[self.name] * (share + 1e-3) ** 0.5

    monkeypatch.setattr(import_module("cpt.laws.predict"), "Setting", Setting)
    best = skills.best_mixture({name: name for name in weights}, 1_000)
    assert sum(best.values()) == skills.FINE
    assert best["a"] == pytest.approx(20 * 9 / 11, abs=1)  # shares as the squares of the weights


def test_parts_and_mixtures_of_skills_are_recipes(tmp_path: Path) -> None:
    skills = module("skills")
    files = [(name, write_jsonl(tmp_path / f"{name}.jsonl", [name])) for name in "abc"]
    options = options_of(tmp_path, "skills", domain=files)
    for weights in skills.mixed(list("abc")):
        words = [*skills.shared(options, 7_168), f"pretrain.mixture={skills.mixture(weights)}"]
        recipe = load(skills.RECIPE, words)
        assert recipe.steps[0].config.parts == ["a", "b", "c"]
        assert recipe.steps[1].config.mixture[0].weights == weights
    factors = parse_factors(
        [f"pretrain.mixture={','.join(map(skills.mixture, skills.mixed(list('abc'))))}"], "grid"
    )
    assert len(factors[0].levels) == 4
