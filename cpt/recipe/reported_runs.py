"""Read runs to compare: from their reports, or from the records of their finished stages."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pydantic import ValidationError

from cpt.errors import CptError, DamagedFile, Problem, RecipeError
from cpt.json_file import read_json, read_plain

if TYPE_CHECKING:
    from cpt.recipe.journal import Run
    from cpt.recipe.store import Record
    from cpt.report.comparison.facts import ReportedRun
    from cpt.report.comparison.pareto_front import Documents
    from cpt.report.schema import Facts


def reported(runs: Sequence[Run], beside: Path) -> list[ReportedRun]:
    """Return the facts of each run.

    Args:
        runs: Runs to compare.
        beside: Folder of the page that links to the runs' own pages.

    Raises:
        RecipeError: Some runs have nothing to compare; lists all of them.
    """
    names, known, problems = labels(runs), [], []
    for run in runs:
        try:
            known.append(_reported(run, names[run.folder], beside))
        except CptError as error:
            problems.append(Problem(error.message, key=names[run.folder], hint=error.hint))
    if problems:
        raise RecipeError(problems)
    return known


def labels(runs: Sequence[Run]) -> dict[Path, str]:
    """Return a name for each run: its own, or its folder if two runs share a name."""
    counts = Counter(run.name for run in runs)
    return {run.folder: run.name if counts[run.name] == 1 else str(run.folder) for run in runs}


def run_facts(run: Run) -> Facts:
    """Return the facts of a run: its report's, or those that a report made now would state.

    Raises:
        CptError: Its figures have another form than this version reads.
    """
    records = run.finished()
    page = _page(records)
    return (_read_report(page) if page else None) or _gathered(run, records)


def _page(records: Mapping[str, Record]) -> Path | None:
    """Return the page of a run's report, if it has one."""
    return next((r.path("report") / "report.html" for r in records.values() if "report" in r.kinds), None)


def _reported(run: Run, name: str, beside: Path) -> ReportedRun:
    from cpt.report.comparison.facts import ReportedRun

    records = run.finished()
    page, facts = _page(records), run_facts(run)
    scored = facts.tasks or facts.recall or facts.suites is not None
    if not facts.probes and facts.training is None and not scored:
        done = f"only {', '.join(records)} finished" if records else "no stage has finished"
        raise CptError(
            f"nothing to compare yet: {done}", hint="`cpt status` shows how far it is; finish it first."
        )
    return ReportedRun(
        name=name,
        facts=facts,
        state=run.state,
        folder=str(run.folder),
        page=quote(os.path.relpath(page, beside)) if page else None,
        missing=[stage for stage in run.stages if stage not in records],
        texts=_texts(records),
        documents=_documents(records),
        items=_items(records),
    )


def _read_report(page: Path) -> Facts | None:
    """Return the facts beside a report's page; None if they are damaged or have another version's form."""
    from cpt.report.schema import Facts

    try:
        return Facts.model_validate(read_plain(page.with_name("report.json"), dict[str, Any]))
    except (ValidationError, DamagedFile):
        return None


def _gathered(run: Run, records: Mapping[str, Record]) -> Facts:
    """Return the facts that a report made now would state."""
    from cpt.report.facts import gather
    from cpt.stages.report import ReportConfig, read_run

    recipe: dict[str, Any] = run.data.get("recipe") or {"name": run.name}
    stages = [record for record in records.values() if "report" not in record.kinds]
    try:
        return gather(read_run(ReportConfig(), stages, recipe))
    except (ValidationError, LookupError, TypeError, ValueError, AttributeError) as error:
        raise CptError(f"its figures do not have the form that this version of cpt reads: {error}") from error


def _texts(records: Mapping[str, Record]) -> dict[str, str]:
    """Return the fingerprint of the held-out documents of each source of the newest corpus."""
    from cpt.corpus import read_documents

    corpora = [record.path("corpus") for record in records.values() if "corpus" in record.kinds]
    found = {}
    for path in sorted(corpora[-1].glob("documents/*.heldout.parquet")) if corpora else ():
        source = path.name.removesuffix(".heldout.parquet")
        digest = hashlib.sha256()
        for document in read_documents(corpora[-1], source, "heldout"):
            digest.update(hashlib.sha256(document.text.encode()).digest())
        found[source] = digest.hexdigest()
    return found


def _documents(records: Mapping[str, Record]) -> dict[str, Documents]:
    """Return the losses by document of the newest evaluate stage; empty for older versions."""
    import numpy as np

    from cpt.report.comparison.pareto_front import Documents
    from cpt.report.facts.records import DocumentScores
    from cpt.stages.evaluate.stage import DOCUMENTS

    scores = [record.path("scores") for record in records.values() if "scores" in record.kinds]
    file = scores[-1] / DOCUMENTS if scores else None
    kept = read_json(file, dict[str, DocumentScores]) if file and file.exists() else {}
    return {
        probe: Documents(tuple(found.texts), np.asarray(found.nats), np.asarray(found.bytes))
        for probe, found in kept.items()
    }


def _items(records: Mapping[str, Record]) -> dict[str, str]:
    """Return the fingerprints of the newest evaluate stage's items, by task and recall group.

    Older versions wrote none, or none of the recall groups.
    """
    from cpt.stages.evaluate.stage import ITEMS

    scores = [record.path("scores") for record in records.values() if "scores" in record.kinds]
    file = scores[-1] / ITEMS if scores else None
    return dict(read_json(file, dict[str, str])) if file and file.exists() else {}
