"""`cpt law`: fit on runs and files, predict, advise; what it prints, writes and refuses."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "laws"))

from law_runs import PARAMETERS, write_run
from planted import DOMAIN, run_rows, runs_of
from planted import SHARES as PLANTED

from cpt.cli import main
from cpt.laws import read_law
from cpt.sweep.factors import Factor
from cpt.sweep.state import SweepRequest, SweepState

SHARES = (0.2, 0.4, 0.6, 0.8, 0.9, 1.0)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs of planted losses, and a law of them."""
    folder = tmp_path_factory.mktemp("law")
    for share in SHARES:
        write_run(folder / "runs", f"s{share}", run_rows("x", share, size=PARAMETERS, noise=2e-4))
    words = ["law", "fit", *names(), "--runs", str(folder / "runs"), "--draws", "20"]
    assert main([*words, "--out", str(folder / "law.json"), "--page", str(folder / "law.svg")]) == 0
    return folder


def names() -> list[str]:
    return [f"s{share}" for share in SHARES]


def test_a_law_of_runs_is_fitted_printed_and_drawn(runs: Path, called: Any, tmp_path: Path) -> None:
    law = tmp_path / "law.json"
    found = called("law", "fit", *names(), "--runs", runs / "runs", "--draws", 20, "--out", law)
    assert found.code == 0
    assert law.read_bytes() == (runs / "law.json").read_bytes()
    assert "Law of 6 runs" in found.out
    assert "one size of model" in found.out
    ET.parse(runs / "law.svg")
    drawn = called("law", "fit", *names()[:3], "--runs", runs / "runs", "--draws", 20, "--out", law, "--json")
    assert drawn.json["file"] == str(law)
    assert (
        drawn.json["texts"]["domain"]["coefficients"].keys()
        == json.loads(law.read_text())["texts"]["domain"]["coefficients"].keys()
    )
    assert "draws" not in drawn.json["texts"]["domain"]


def test_predictions_and_advice_agree(runs: Path, called: Any) -> None:
    law = runs / "law.json"
    asked = ("law", "advise", law, "--tokens", "1e7", "--limit", "general <= +0.02")
    advised = called(*asked, "--json").json
    replay = advised["replay"]["value"]
    predicted = called("law", "predict", law, "--tokens", "1e7", "--replay", replay, "--json").json
    assert predicted["losses"]["general"] == pytest.approx(advised["prediction"]["losses"]["general"])
    assert predicted["rises"]["general"]["value"] == pytest.approx(0.02, abs=1e-9)
    shown = called(*asked)
    assert f"replay: {replay:.4f} (95%: " in shown.out
    assert "within general <= +0.02" in shown.out
    assert "The limit is kept by" in shown.out
    assert (
        f"{predicted['losses']['domain']['value']:.4f}"
        in called("law", "predict", law, "--tokens", "1e7", "--replay", replay).out
    )


def test_rows_of_a_file_are_fitted(called: Any, tmp_path: Path) -> None:
    file, law = tmp_path / "rows.jsonl", tmp_path / "law.json"
    file.write_text("".join(row.model_dump_json() + "\n" for row in runs_of((0.2, 0.5, 0.8, 1.0))))
    found = called("law", "fit", "--rows", file, "--holdout", "share-0.5", "--out", law, "--draws", 20)
    assert (found.code, "Law of 3 runs" in found.out) == (0, True)
    assert json.loads(law.read_text())["texts"]["domain"]["heldout"]["runs"] == ["share-0.5"]


@pytest.mark.parametrize(
    ("signs", "words"),
    [
        ("-++--++-", ["domain: between the fitted shares the predicted loss at 20M tokens differs by"]),
        ("-+-++-+-", ["epsilon of domain stands at the upper bound of its search range, 2:", "at its upper"]),
    ],
)
def test_a_law_tells_what_it_does_not_know(called: Any, tmp_path: Path, signs: str, words: list[str]) -> None:
    """Runs that are 2% above or below a law whose loss hardly depends on the share."""
    file, law = tmp_path / "rows.jsonl", tmp_path / "law.json"
    rows, flat = [], {**DOMAIN, "B": 0.1, "C": 0.02, "gamma": 0.1}
    for share, sign in zip(PLANTED, signs, strict=True):
        for row in run_rows(f"{share:g}", share, domain=flat, tokens=(1e6, 2e7)):
            off = float(f"{sign}0.02") if row.tokens else 0.0
            rows.append(row.model_copy(update={"domain_loss": row.domain_loss * (1 + off)}))
    file.write_text("".join(row.model_dump_json(exclude={"general_loss"}) + "\n" for row in rows))
    found = called("law", "fit", "--rows", file, "--out", law, "--draws", 20)
    assert found.code == 0
    assert [each for each in words if each not in " ".join(found.out.split())] == []
    asked = " ".join(called("law", "advise", law, "--tokens", "1e7").out.split())
    assert words[0] in asked


def test_a_new_domain_is_predicted_from_a_probe(called: Any, tmp_path: Path) -> None:
    words = []
    for domain, start in (("law", 1.5), ("medical", 1.9), ("new", 1.7)):
        for share in (0.5, 0.8, 1.0):
            rows = run_rows("x", share, size=PARAMETERS)
            shifted = [row.model_copy(update={"domain_loss": row.domain_loss * start / 1.9}) for row in rows]
            write_run(tmp_path / "runs", f"{domain}-{share}", shifted)
            words.append(f"{domain}={domain}-{share}")
    law, root = tmp_path / "law.json", ("--runs", tmp_path / "runs")
    assert called("law", "fit", *words[:6], *root, "--out", law, "--draws", 20).code == 0
    asked = ("law", "predict", law, "--tokens", "1e7", "--replay", 0.2)
    assert called(*asked).code == 2
    old = called(*asked, "--domain", "law", "--json").json["losses"]["domain"]["value"]
    new = called(*asked, "--probe", "new-1.0", *root, "--json").json["losses"]["domain"]["value"]
    assert old < new < called(*asked, "--domain", "medical", "--json").json["losses"]["domain"]["value"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("fit",), "there is nothing to fit"),
        (("fit", "s0.2", "none", "s0.2"), "2 problems"),
        (("fit", "LAW=s0.2"), "`LAW` is no name of a domain"),
        (("fit", "s0.2"), "Vary `pretrain.replay`"),
        (("fit", "s0.2", "--out", "none/law.json"), "there is no folder none"),
        (("fit", "--rows", "none.csv"), "cannot be read"),
        (("predict", "none.json", "--tokens", "1", "--replay", "0"), "the file is missing"),
        (("predict", "law.json", "--tokens", "1e7", "--replay", "1"), "no share of replay"),
        (("predict", "law.json", "--tokens", "1e7", "--replay", "0", "--probe", "s0.2"), "several domains"),
        (("advise", "law.json"), "give one of tokens"),
        (("advise", "law.json", "--tokens", "1e7", "--limit", "general"), "states no limit"),
        (("advise", "law.json", "--tokens", "1e7", "--limit", "general <= +1%"), "states no limit"),
    ],
)
def test_mistakes_are_explained(
    runs: Path, called: Any, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], message: str
) -> None:
    monkeypatch.chdir(runs)
    before = sorted(runs.iterdir())
    found = called("law", *words)
    assert found.code == 2
    assert message in found.err
    assert sorted(runs.iterdir()) == before


def test_a_law_of_a_sweep_is_that_of_its_finished_runs(
    runs: Path, called: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six runs are done; one failed, one never began, one is gone: they are named and left out."""
    root = tmp_path / "runs"
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: x\n")
    replay = (*(round(1 - share, 2) for share in SHARES), 0.3, 0.35, 0.55)
    factor = Factor(key="pretrain.replay", levels=replay)
    asked = SweepRequest(name="mixed", recipe=str(recipe), factors=(factor,), seeds=(17,))
    (root / "mixed").mkdir(parents=True)
    state = SweepState(root / "mixed", asked)
    trials = [trial for value in replay for trial in state.add({"pretrain.replay": value})]
    for share, trial in zip(SHARES, trials[:6], strict=True):
        write_run(root, trial.run, run_rows("x", share, size=PARAMETERS, noise=2e-4))
        state.update(trial, state="done")
    write_run(root, trials[6].run, run_rows("x", 0.7, size=PARAMETERS, noise=0.5))
    state.update(trials[6], state="failed", message="out of luck")
    state.update(trials[8], state="done")
    monkeypatch.chdir(tmp_path)

    found = called("law", "fit", "mixed", "--draws", 20, "--out", "law.json")
    assert found.code == 0
    assert "mixed-p07-s17 is left out: it failed: out of luck" in found.err
    assert "mixed-p08-s17 is left out: it has not begun" in found.err
    assert "mixed-p09-s17 is left out: there is no run `mixed-p09-s17`" in found.err
    assert "noise to the law" not in found.err
    law, by_name = read_law(tmp_path / "law.json"), read_law(runs / "law.json")
    assert law.runs == [trial.run for trial in trials[:6]]
    assert law.texts["domain"].coefficients == by_name.texts["domain"].coefficients
    assert called("law", "fit", root / "mixed", "--draws", 20, "--json").json["runs"] == law.runs
    assert called("law", "fit", "mixed", trials[0].run).code == 2  # a run of the sweep, named again


def test_a_sweep_of_other_settings_is_named_and_one_without_results_is_refused(
    called: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: x\n")
    factors = tuple(Factor(key=key, levels=(0, 1)) for key in ("pretrain.schedule.peak", "pretrain.replay"))
    (tmp_path / "runs" / "mixed").mkdir(parents=True)
    asked = SweepRequest(name="mixed", recipe=str(recipe), factors=factors, seeds=(17,))
    state = SweepState(tmp_path / "runs" / "mixed", asked)
    (trial,) = state.add({"pretrain.schedule.peak": 0, "pretrain.replay": 0})
    monkeypatch.chdir(tmp_path)
    refused = called("law", "fit", "mixed")
    assert (refused.code, "no run of the last command of the sweep `mixed` has finished" in refused.err) == (
        2,
        True,
    )
    config = {"schedule": {"peak": 0}, "replay": 0, "tokens": 10}
    write_run(tmp_path / "runs", trial.run, run_rows("x", 0.5, size=PARAMETERS), config=config)
    state.update(trial, state="done")
    assert "noise to the law" not in called("law", "fit", "mixed").err
    (other,) = state.add({"pretrain.schedule.peak": 1, "pretrain.replay": 1})
    config = {"schedule": {"peak": 1}, "replay": 1, "tokens": 20}
    write_run(tmp_path / "runs", other.run, run_rows("x", 0.9, size=PARAMETERS), config=config)
    state.update(other, state="done")
    said = called("law", "fit", "mixed", "--draws", 20).err
    assert "the runs differ in pretrain.schedule.peak too, which is noise to the law" in said


def test_runs_of_an_earlier_command_that_varied_other_settings_are_left_out(
    called: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep over peaks and shares, then over shares alone, at the recipe's peak: the law is of these."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("name: x\n")
    (tmp_path / "runs" / "mixed").mkdir(parents=True)
    shares = Factor(key="pretrain.replay", levels=(0.0, 0.2, 0.6))
    peaks = Factor(key="pretrain.schedule.peak", levels=(1e-4, 3e-4))

    def command(factors: tuple[Factor, ...], values: list[dict[str, float]]) -> None:
        asked = SweepRequest(name="mixed", recipe=str(recipe), factors=factors, seeds=(17,))
        state = SweepState(tmp_path / "runs" / "mixed", asked)
        for each in values:
            (trial,) = state.add(each)
            rows = run_rows("x", 1 - each["pretrain.replay"], size=PARAMETERS)
            config = {"schedule": {"peak": each.get("pretrain.schedule.peak", 2e-4)}}
            write_run(tmp_path / "runs", trial.run, rows, config=config)
            state.update(state.trials[-1], state="done", changes={"domain": 0.0})

    command((peaks, shares), [{"pretrain.schedule.peak": 1e-4, "pretrain.replay": 0.4}])
    command((shares,), [{"pretrain.replay": level} for level in (0.0, 0.2, 0.6)])
    monkeypatch.chdir(tmp_path)
    found = called("law", "fit", "mixed", "--draws", 20)
    assert found.code == 0
    reason = "it is of an earlier command, which varied `pretrain.schedule.peak` and `pretrain.replay`"
    assert f"mixed-p01-s17 is left out: {reason}" in found.err
    assert "noise to the law" not in found.err
    assert read_law(Path("law.json")).runs == [f"mixed-p0{number}-s17" for number in (2, 3, 4)]
    named = called(
        "law", "fit", "mixed", "mixed-p01-s17", "--draws", 20
    )  # by name it is taken, with a warning
    assert "the runs differ in pretrain.schedule.peak too" in named.err
    assert "Law of 4 runs" in named.out


def test_a_run_that_was_made_again_with_other_settings_is_told(called: Any, tmp_path: Path) -> None:
    """Whatever a sweep says of its runs, the settings that they ran with are compared."""
    for share in (0.5, 0.9):
        more = {"mixture": [{"replay": share}], "schedule": {"peak": 1.0}, "lr_groups": {"a": share}}
        write_run(
            tmp_path, f"s{share}", run_rows("x", share, size=PARAMETERS), config=more | {"replay": share}
        )
    found = called("law", "fit", "s0.5", "s0.9", "--runs", tmp_path, "--out", tmp_path / "law.json")
    assert "the runs differ in pretrain.lr_groups.a too, which is noise to the law" in found.err
    domains = called("law", "fit", "a=s0.5", "b=s0.9", "--runs", tmp_path, "--out", tmp_path / "law.json")
    assert "noise to the law" not in domains.err
