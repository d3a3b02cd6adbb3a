"""The forgetting benchmark: recipes of equal tokens, held-out text apart, its table, what it need not run."""

import argparse
import json
import sys
from pathlib import Path

import pytest
from tiny import varied_texts, write_jsonl

from cpt.corpus.mixture import replay_rows
from cpt.stages.corpus.config import CorpusConfig

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def forgetting(monkeypatch):
    """The script, as a module."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import forgetting

    return forgetting


@pytest.fixture
def options(tmp_path: Path) -> argparse.Namespace:
    texts = {
        kind: write_jsonl(tmp_path / f"{kind}.jsonl", varied_texts(100, kind))
        for kind in ("medical", "legal", "general")
    }
    return argparse.Namespace(
        **texts, runs=tmp_path / "runs", model="models/tiny", start_token="auto", tokens=40_000, length=256,
        rows=20, micro_rows=10, every=5, probe_tokens=2_000, heldout=0.2, seed=17, tasks=[], data=None,
    )  # fmt: skip


def test_held_out_text_is_no_ones_training_text(forgetting, options) -> None:
    material = forgetting.prepare(options)
    for kind in ("medical", "general"):
        train, heldout = (
            set(files[kind].read_text().splitlines()) for files in (material.texts, material.heldout)
        )
        assert train
        assert heldout
        assert not train & heldout
        assert train | heldout == set(getattr(options, kind).read_text().splitlines())
    again = forgetting.prepare(options)
    assert again.texts == material.texts


def test_every_configuration_trains_on_equal_tokens_and_has_the_replay_that_it_needs(
    forgetting, options
) -> None:
    material = forgetting.prepare(options)
    made = {
        name: forgetting.recipe(each, material)["stages"] for name, each in forgetting.CONFIGURATIONS.items()
    }
    for stages in made.values():
        corpora = [CorpusConfig.model_validate(stage["corpus"]) for stage in stages if "corpus" in stage]
        trainings = [stage["pretrain"] for stage in stages if "pretrain" in stage]
        assert [training["tokens"] for training in trainings] == [40_000, 40_000]
        for corpus, training in zip(corpora, trainings, strict=True):
            replay = training.get("replay", 0.0)
            assert (corpus.replay is not None) == (replay > 0)
            assert replay_rows(replay, training["batch_sequences"]) == replay * 20
            if corpus.select:
                assert corpus.select.tokens * 4 == 40_000 * (1 - replay)
        assert set(trainings[1]["monitor"]["texts"]) == {"medical"}
    settings = [json.dumps(stages) for stages in made.values()]
    assert len(set(settings)) == len(settings)


def gap(rise: float) -> dict[str, float]:
    return {"depth": 2 * rise, "mean_rise": rise, "permanent": rise}


def row(name: str) -> dict:
    medical = {"gain": 0.2, "probes": {"domain": gap(-0.2), "general": gap(0.01)}}
    legal = {"gain": 0.1, "probes": {"domain": gap(-0.1), "general": gap(0.02), "medical": gap(0.03)}}
    return {"configuration": name, "medical": medical, "legal": legal}


def test_the_table_tells_what_is_not_watched(forgetting) -> None:
    lines = forgetting.table([row("no replay"), {**row("bare"), "legal": row("x")["medical"]}]).splitlines()
    assert lines[1].split()[:4] == ["no", "replay", "0.2000", "0.1000"]
    assert "+0.0600 / +0.0300 / +0.0300" in lines[1]
    assert lines[2].endswith("not watched")


def test_a_finished_configuration_is_not_run_again_unless_the_setting_is_another(
    forgetting, options, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(forgetting.record, "RESULTS", tmp_path / "results")
    assert forgetting.finished(forgetting.setting(options)) == []
    rows = [row("no replay")]
    forgetting.record.write("forgetting", {"setting": forgetting.setting(options), "rows": rows})
    assert forgetting.finished(forgetting.setting(options)) == rows
    options.tokens = 50_000
    assert forgetting.finished(forgetting.setting(options)) == []
