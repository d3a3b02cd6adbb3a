"""How long the page of a long run takes: read, gathered, drawn, and opened in a browser; and how large it is.

The example run of the tests with its training stretched to as many logged steps, read from the files that a
training stage leaves. Opening counts from the request to the end of the first paint in headless Chromium.

    python benchmarks/report_page.py --points 200000
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import record

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "report")]

from browsing import Visit, chromium  # noqa: E402
from long_run import long_training  # noqa: E402

from cpt.report.facts import gather  # noqa: E402
from cpt.report.page import render  # noqa: E402
from cpt.stages.base import Artifact  # noqa: E402
from cpt.stages.report import ReportConfig, read_run  # noqa: E402

PAINTED = """() => new Promise((resolve) => requestAnimationFrame(() => setTimeout(
    () => resolve(performance.now() / 1000))))"""


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--points", type=int, default=200_000, help="logged steps")
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def write_training(folder: Path, points: int) -> Artifact:
    """The files of a training stage with as many logged steps."""
    training = long_training(points)
    (folder / "training").mkdir(parents=True)
    for name in ("steps", "probes", "actions"):
        rows = "".join(json.dumps(row) + "\n" for row in getattr(training, name))
        (folder / "training" / f"{name}.jsonl").write_text(rows)
    for name in ("summary", "ledger", "samples"):
        (folder / "training" / f"{name}.json").write_text(json.dumps(getattr(training, name)))
    return Artifact(
        name="pretrain", stage="pretrain", kinds=("training",), fingerprint="0" * 64, folder=folder
    )


def make(artifact: Artifact, page: Path) -> dict[str, float]:
    """Seconds of each part of making the page."""
    began = time.perf_counter()
    run = read_run(ReportConfig(), [artifact], {"name": "long", "stages": []})
    read = time.perf_counter()
    facts = gather(run)
    gathered = time.perf_counter()
    page.write_text(render(facts), encoding="utf-8")
    drawn = time.perf_counter()
    return {"read": read - began, "gathered": gathered - read, "drawn": drawn - gathered}


def main() -> None:
    asked = parse()
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        page, artifact = Path(folder) / "report.html", write_training(Path(folder), asked.points)
        make(artifact, page)  # imports and font caches are not the page's
        runs: list[dict[str, float]] = []
        for _ in range(asked.repeats):
            times = make(artifact, page)
            context = browser.new_context()
            visited = Visit(context.new_page()).go(page)
            runs.append(times | {"opened": visited.ask(PAINTED)})
            elements = visited.ask("() => document.querySelectorAll('*').length")
            context.close()
        figures: dict[str, Any] = {
            "points": asked.points,
            "repeats": asked.repeats,
            "log_megabytes": sum(f.stat().st_size for f in artifact.path("training").iterdir()) / 1e6,
            "page_megabytes": page.stat().st_size / 1e6,
            "elements": elements,
            "seconds": {part: statistics.median(run[part] for run in runs) for part in runs[0]},
            "seconds_in_all": statistics.median(sum(run.values()) for run in runs),
        }
    print(json.dumps(figures, indent=2))
    print(record.write("report_page", figures))


if __name__ == "__main__":
    main()
