"""The benchmark of a limit on forgetting: what it runs, and what it makes of a training's files."""

import argparse
import json
import sys
from pathlib import Path

import pytest

from cpt.stages.corpus.config import CorpusConfig
from cpt.stages.pretrain.config import PretrainConfig

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    """The script, as a module."""
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS), *sys.path])
    import forgetting_limit

    return forgetting_limit


@pytest.mark.parametrize("replay", [None, Path("r.jsonl")])
def test_both_recipes_are_one_but_for_the_gate(benchmark, replay: Path | None) -> None:
    options = argparse.Namespace(
        domain=Path("d.jsonl"), general=Path("g.jsonl"), replay=replay, model="m", start_token="auto",
        tokens=40_000, length=128, rows=20, micro_rows=10, peak=4e-4, probe_share="10%", every=1,
        probe_tokens=1_500, heldout=0.05, seed=17,
    )  # fmt: skip
    plain, gated = (benchmark.recipe(options, gates) for gates in ([], [benchmark.GATE]))
    corpus, pretrain = (stage for stage in gated["stages"])
    found = CorpusConfig.model_validate(corpus["corpus"]).replay
    assert found is not None
    assert ("r.jsonl" in str(found)) == (replay is not None)
    config = PretrainConfig.model_validate(pretrain["pretrain"])
    assert config.monitor.probe_share == pytest.approx(0.1)
    assert config.gates[0].limit.allowed == benchmark.LIMIT
    pretrain["pretrain"]["gates"] = []
    assert plain == gated


def lines(*records: dict) -> str:
    return "".join(json.dumps(each) + "\n" for each in records)


def test_what_probes_took_is_seen_from_outside(benchmark, tmp_path: Path) -> None:
    first = lines({"step": 0, "seconds": 1.5}, {"step": 0, "seconds": 0.5})
    rest = lines({"step": 5, "seconds": 2.0})
    (tmp_path / "probes.jsonl").write_text(first + rest)
    growth = benchmark.Growth(
        [0, len(first) - 3, len(first), len(first) + len(rest)], [0.0, 9.0, 10.0, 120.0]
    )
    # 110 s between the first readings and the last: 100 s of steps, 4 s of checkpoints, 6 s of probes
    assert benchmark.probing(tmp_path, {"seconds": 100.0, "checkpoint_seconds": 4.0}, growth) == 8.0


def test_a_file_is_watched_until_its_folder_is_gone(benchmark, tmp_path: Path) -> None:
    growth = benchmark.Growth()
    growth.look(tmp_path, "probes.jsonl")
    folder = tmp_path / "learn-0123.partial"
    folder.mkdir()
    (folder / "probes.jsonl").write_text("12345")
    growth.look(tmp_path, "probes.jsonl")
    growth.look(tmp_path, "probes.jsonl")
    assert growth.sizes == [0, 5]
    assert growth.when(5) == growth.times[1] > 0


def run(rise: float, gain: float, outside: float, verdict: str = "held") -> dict:
    probes = {
        "probe_share": 0.1,
        "work": 0.09,
        "share": 0.08,
        "share_outside": outside,
        "off": outside / 0.08 - 1,
    }
    action = {"step": 3, "action": "raise-replay", "from": 0.0, "to": 0.05, "why": "general rose"}
    found = {"rise": rise, "rise_error": None, "gain": gain, "actions": [action], "probes": probes}
    return found | {"verdicts": {"general <= +0.01": verdict}}


def test_claims_and_table(benchmark) -> None:
    without, gated = run(0.02, 0.1, 0.081), run(0.009, 0.085, 0.081)
    claims = benchmark.compared(without, gated)
    assert claims.pop("gain_kept") == pytest.approx(0.85)
    assert all(claims.values())
    assert not benchmark.compared(without, run(0.009, 0.08, 0.09, "not shown"))["held_with"]
    assert not benchmark.compared(without, run(0.011, 0.08, 0.09))["within_3_percent"]
    text = benchmark.table({"without": without, "with": gated}, benchmark.compared(without, gated))
    assert "step 3: raise-replay 0.00 → 0.05: general rose" in text
    assert "85% of the gain is kept" in text
