"""`cpt report RUN RUN` and `cpt diff A B`: what they print and write, and what they refuse."""
# ruff: noqa: RUF001 - figures have true minus signs

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

ROOT = Path(__file__).parents[1] / "report"
sys.path[:0] = [str(ROOT), str(ROOT / "comparison")]

import fake_stages  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from made_runs import a_run  # noqa: E402

from cpt.report.schema import Facts, Interval, PairedFigure, Task  # noqa: E402

FINGERPRINT = "ab" * 32

INDEX = {
    "sequence_length": 8,
    "start_token": None,
    "end_token": None,
    "tokenizer": "",
    "sources": {"domain": {}, "general": {}},
}
"""The least that a corpus's index can say."""


def made(name: str, domain: float, general: float, *, heldout: str = "held out", **changed: Any) -> Path:
    """A finished run on the disk: a corpus with held-out text, and a report."""
    folder = Path("runs") / name
    facts = a_run(name, domain, general, **changed).facts
    for stage, kind in (("corpus", "corpus"), ("report", "report")):
        artifact = folder / f"{stage}-{FINGERPRINT[:12]}"
        (artifact / kind).mkdir(parents=True)
        record = {"name": stage, "stage": kind, "kinds": [kind], "fingerprint": FINGERPRINT}
        record["config"] = {"heldout": abs(general)} if kind == "corpus" else {}
        write(artifact / "artifact.json", record)
    write_report(folder, facts)
    documents = folder / f"corpus-{FINGERPRINT[:12]}" / "corpus" / "documents"
    documents.mkdir()
    for source in ("domain", "general"):
        table = pa.table({"id": ["0"], "text": [heldout]})
        pq.write_table(table, documents / f"{source}.heldout.parquet")
    stages = {
        stage: {"kind": stage, "fingerprint": FINGERPRINT, "state": "finished"}
        for stage in ("corpus", "report")
    }
    recipe = {
        "name": name,
        "base": "fake:model",
        "stages": [{"corpus": {"domain": [{"path": "notes.txt"}], "heldout": abs(general)}}, "report"],
    }
    write(folder / "run.json", {"name": name, "state": "finished", "recipe": recipe, "stages": stages})
    return folder


def write(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data), encoding="utf-8")


def write_report(folder: Path, facts: BaseModel) -> None:
    report = folder / f"report-{FINGERPRINT[:12]}" / "report"
    (report / "report.html").write_text("<html></html>")
    (report / "report.json").write_text(facts.model_dump_json(), encoding="utf-8")


@pytest.fixture
def three(cpt: Any) -> Any:
    """The command, beside three runs."""
    made("replay-0", -0.31, 0.09)
    made("replay-25", -0.26, 0.01)
    made("slow", -0.18, 0.05)
    return cpt


def test_several_runs_make_a_page(three: Any) -> None:
    shown = three("report", "replay-0", "replay-25", "slow")
    assert shown.code == 0, shown.err
    assert "replay-0 gains most on domain text (−0.310, general +0.090)" in shown.out
    assert "beaten" in shown.out
    assert shown.out.strip().endswith("Comparison: runs/comparison.html")
    page = Path("runs/comparison.html").read_text(encoding="utf-8")
    assert "<h1>" in page
    assert 'href="replay-0/report-abababababab/report/report.html"' in page
    assert "corpus.heldout" in page


def test_the_page_goes_where_it_is_asked_to(three: Any) -> None:
    Path("pages").mkdir()
    shown = three("report", "runs/replay-0", "slow", "--out", "pages/two.html")
    assert "Comparison: pages/two.html" in shown.out
    page = Path("pages/two.html").read_text(encoding="utf-8")
    assert 'href="../runs/slow/report-abababababab/report/report.html"' in page
    assert not Path("runs/comparison.html").exists()


def test_json_has_all_figures_and_writes_a_page_only_if_asked(three: Any) -> None:
    found = three("report", "replay-0", "replay-25", "--json").json
    assert found["front"] == ["replay-0", "replay-25"]
    assert found["settings"] == [{"key": "corpus.heldout", "values": {"replay-0": 0.09, "replay-25": 0.01}}]
    assert found["runs"][0]["probes"]["domain"]["change"]["value"] == -0.31
    assert not Path("runs/comparison.html").exists()
    three("report", "replay-0", "replay-25", "--json", "--out", "page.html")
    assert Path("page.html").exists()


def test_one_run_stays_as_it_is(three: Any) -> None:
    assert three("report", "slow", "--json").json["name"] == "slow"
    assert "Report: runs/slow/report-abababababab" in three("report", "slow").out


def test_runs_on_other_text_are_not_compared(three: Any) -> None:
    made("stranger", -0.9, 0.0, heldout="something else")
    found = three("report", "replay-0", "slow", "stranger", "--json").json
    assert found["runs"][2]["on_front"] is None
    assert sum("its held-out text is another" in note for note in found["notes"]) == 1


def recall(after: float, items: int = 200) -> dict[str, Task]:
    def level(value: float) -> Interval:
        return Interval(value=value, low=value - 0.03, high=value + 0.03)

    change = {"before": level(0.25), "after": level(after), "difference": level(after - 0.25)}
    return {"untrained": Task(metric="acc_norm", items=items, **change, p_gold=PairedFigure(**change))}


def evaluated(run: Path, marks: dict[str, str]) -> None:
    """Give a run on the disk an evaluate stage with fingerprints of items."""
    artifact = run / f"evaluate-{FINGERPRINT[:12]}"
    (artifact / "scores").mkdir(parents=True)
    record = {"name": "evaluate", "stage": "evaluate", "kinds": ["scores"], "fingerprint": FINGERPRINT}
    write(artifact / "artifact.json", record | {"config": {}})
    write(artifact / "scores" / "items.json", marks)
    data = json.loads((run / "run.json").read_text())
    data["stages"]["evaluate"] = {"kind": "evaluate", "fingerprint": FINGERPRINT, "state": "finished"}
    write(run / "run.json", data)


def test_recall_of_several_runs_is_side_by_side(three: Any) -> None:
    """The items of `older` are known by their number alone: its evaluate kept fingerprints of tasks."""
    for name, after, marks in (
        ("documents", 0.3, {"recall:untrained": "x"}),
        ("study", 0.45, {"recall:untrained": "x"}),
        ("other", 0.9, {"recall:untrained": "y"}),
        ("older", 0.5, {"quiz": "x"}),
    ):
        evaluated(made(name, -0.3, 0.0, recall=recall(after)), marks)
    note = "other was asked about other untrained facts (recall probe): these are not compared."
    shown = three("report", "documents", "study", "other", "replay-0")
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["recall", "of", "facts", "untrained"] in lines
    assert ["study", "right", "45.0%"] in lines
    assert ["study", "p_gold", "0.450"] in lines
    assert not any(line[:2] == ["replay-0", "right"] for line in lines)
    assert note in shown.out
    page = Path("runs/comparison.html").read_text(encoding="utf-8")
    assert 'id="recall"' in page
    found = three("report", "documents", "study", "other", "--json").json
    assert found["runs"][2]["other_items"] == ["recall:untrained"]
    assert found["best"]["recall.untrained"]["runs"] == ["study"]
    found = three("report", "documents", "study", "older", "--json").json
    assert not any(run["other_items"] for run in found["runs"])
    assert "recall of facts" not in three("report", "replay-0", "slow").out


def test_all_mistakes_at_once(three: Any) -> None:
    shown = three("report", "replay-0", "replay-26", "nothing", "runs/replay-0")
    assert shown.code == 2
    assert "3 problems" in shown.err
    assert "there is no run `replay-26` in runs" in shown.err
    assert "Did you mean `replay-25`?" in shown.err
    assert "the run `runs/replay-0` is named twice" in shown.err
    assert not Path("runs/comparison.html").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["report", "replay-0", "slow", "--out", "gone/page.html"], "there is no folder gone"),
        (["report", "replay-0", "slow", "--out", "runs"], "runs is a folder"),
        (["report", "slow", "--out", "page.html"], "--out is for comparisons"),
        (["diff", "replay-0"], "Missing argument"),
        (["diff", "replay-0", "gone.yaml"], "there is no such file"),
        (["diff", "replay-O", "gone"], "2 problems"),
    ],
)
def test_mistakes(three: Any, words: list[str], message: str) -> None:
    shown = three(*words)
    assert shown.code == 2
    assert message in shown.err


def test_runs_with_nothing_to_compare_are_refused_together(cpt: Any) -> None:
    made("whole", -0.3, 0.0)
    cpt("run", "recipe.yaml", "--until", "corpus")
    cpt("run", "recipe.yaml", "name=waiting", "--until", "corpus")
    for name in ("medical", "waiting"):  # what the fake corpus holds is no corpus
        (index,) = Path("runs", name).glob("corpus-*/corpus")
        write(index / "corpus.json", INDEX)
    shown = cpt("report", "whole", "medical", "waiting")
    assert shown.code == 2
    assert "2 problems" in shown.err
    assert shown.err.count("nothing to compare yet: only corpus finished") == 2


def test_a_run_whose_report_is_of_another_form_is_gathered_anew(three: Any) -> None:
    report = Path("runs/slow/report-abababababab/report/report.json")
    report.write_text('{"name": "slow"}')
    write(Path("runs/slow/corpus-abababababab/corpus/corpus.json"), INDEX)
    shown = three("report", "replay-0", "slow")
    assert shown.code == 2
    assert "slow: nothing to compare yet: only corpus, report finished" in shown.err


def test_runs_of_the_same_name_are_told_apart_by_their_folders(three: Any) -> None:
    Path("runs").rename("elsewhere")
    made("slow", -0.2, 0.0)
    found = three("report", "slow", "elsewhere/slow", "--json").json
    assert [run["name"] for run in found["runs"]] == ["runs/slow", "elsewhere/slow"]


def test_diff_of_two_runs(three: Any) -> None:
    shown = three("diff", "replay-0", "replay-25")
    assert shown.code == 0
    assert ["corpus.heldout", "0.09", "0.01"] in [line.split() for line in shown.out.splitlines()]
    assert "domain text" in shown.out
    assert "worse" in shown.out
    assert "better" in shown.out
    found = three("diff", "replay-0", "replay-25", "--json").json
    assert found["a"] == {"name": "replay-0", "what": "run"}
    assert {"key": "corpus.heldout", "change": "changed", "a": 0.09, "b": 0.01} in found["settings"]
    domain = found["figures"]["bits_per_byte"]["domain"]
    assert domain["difference"]["value"] == pytest.approx(0.05)
    assert domain["difference"]["low"] == pytest.approx(0.05 - 0.01 * 2**0.5)
    assert found["figures"]["tokens"] == {"a": 122_880, "b": 122_880}


def test_diff_does_not_compare_figures_on_other_text(three: Any) -> None:
    made("stranger", -0.9, 0.0, heldout="something else")
    shown = three("diff", "slow", "stranger")
    assert "not compared" in shown.out
    assert "its held-out text is another" in shown.out
    assert (
        three("diff", "slow", "stranger", "--json").json["figures"]["bits_per_byte"]["domain"]["difference"]
        is None
    )


def test_diff_of_recipes_and_of_a_run_and_a_recipe(cpt: Any, recipe_file: Path) -> None:
    Path("other.yaml").write_text(recipe_file.read_text().replace("peak: 3e-4", "peak: 1e-4"))
    shown = cpt("diff", "recipe.yaml", "other.yaml")
    assert shown.code == 0
    assert "pretrain is the first stage that differs: schedule.peak 0.0003 → 0.0001." in shown.out
    assert "What follows from it differs too: merge, evaluate, report." in shown.out
    cpt("run", "recipe.yaml")
    found = cpt("diff", "medical", "other.yaml", "--json").json
    assert [stage["state"] for stage in found["stages"]] == ["same"] * 2 + ["differs"] * 4
    assert found["stages"][3]["follows"] == ["pretrain"]
    assert found["figures"] is None
    assert cpt("diff", "medical", "recipe.yaml").out.splitlines()[2] == "Nothing differs."
    Path("notes.txt").write_text("another text\n")
    found = cpt("diff", "medical", "recipe.yaml", "--json").json
    assert found["verdict"].startswith(
        "corpus is the first stage that differs: the content of notes.txt changed."
    )
    assert [source["reference"] for source in found["sources"]] == ["notes.txt"]


def test_diff_tells_the_mistakes_of_both_recipes(cpt: Any, recipe_file: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        Path(name).write_text(recipe_file.read_text().replace("steps: 5", "stps: 5"))
    shown = cpt("diff", "a.yaml", "b.yaml")
    assert shown.code == 2
    assert "2 problems" in shown.err


def test_diff_of_unfinished_runs_has_no_figures_and_says_so(cpt: Any) -> None:
    cpt("run", "recipe.yaml", "--until", "corpus")
    cpt("run", "recipe.yaml", "name=second", "seed=3", "--until", "corpus")
    shown = cpt("diff", "medical", "second")
    assert shown.code == 0
    assert "seed" in shown.out
    assert "figures are not compared" in shown.out


def test_facts_of_the_made_runs_are_a_reports() -> None:
    assert isinstance(a_run("a", 0.0, 0.0).facts, Facts)
    assert fake_stages.REGISTRY.keys() >= {"corpus", "report"}
