"""Run a plan. Every stage's result is complete or absent, and the same command continues after any stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cpt import references
from cpt.errors import GateFailed, GateNotShown, Interrupted, Problem, RecipeError, StageFailed, Terminated
from cpt.recipe.events import (
    Event,
    Listener,
    Outcome,
    PlannedStage,
    RunEnded,
    RunStarted,
    StageEnded,
    StageMessage,
    StageProgress,
    StageStarted,
    null_listener,
)
from cpt.recipe.failures import Termination, explain_failure, stoppable
from cpt.recipe.fingerprint import config_data, unfingerprinted_data
from cpt.recipe.journal import Journal, now, versions
from cpt.recipe.load import corpus_of, heldout_problems, joined, placed_problems, stage_problems
from cpt.recipe.plan import Entry, Plan, Selection, damage_problem, make_plan
from cpt.recipe.schema import Recipe
from cpt.recipe.sharing import adopt, adopt_all, find_beside, making
from cpt.recipe.store import MODEL, Record, Store
from cpt.recipe.workers import BaseModelArtifact, run_distributed
from cpt.stages.base import BASE, Artifact, Context


@dataclass
class Summary:
    """The outcome of a run.

    Attributes:
        gates: Stage -> message of its limits that are not held.
        verdicts: Stage -> worst verdict of these, `broken` or `not shown`.
        unchecked: Stages whose kept results had no checksums before.
    """

    name: str
    folder: Path
    plan: Plan
    artifacts: dict[str, Record] = field(default_factory=dict)
    gates: dict[str, str] = field(default_factory=dict)
    verdicts: dict[str, str] = field(default_factory=dict)
    unchecked: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def report(self) -> Path | None:
        """The newest report page among the run's results."""
        made = [artifact for artifact in self.artifacts.values() if "report" in artifact.kinds]
        return made[-1].path("report") / "report.html" if made else None

    @property
    def model(self) -> Path | None:
        """The link to the newest model among the run's results."""
        made = any("model" in artifact.kinds for artifact in self.artifacts.values())
        return self.folder / MODEL if made and (self.folder / MODEL).exists() else None

    @property
    def exit_code(self) -> int:
        """0, or 3 if a limit is broken, else 4 if one is not shown to be held."""
        if GateFailed.verdict in self.verdicts.values():
            return GateFailed.exit_code
        return GateNotShown.exit_code if self.verdicts else 0

    def as_json(self) -> dict[str, Any]:
        """Return the summary as plain data for `--json`."""
        return {
            "run": self.name,
            "folder": str(self.folder),
            "seconds": round(self.seconds, 3),
            "report": str(self.report) if self.report else None,
            "model": str(self.model) if self.model else None,
            "gates": self.gates,
            "verdicts": self.verdicts,
            "stages": [self._stage(entry) for entry in self.plan.entries],
        }

    def _stage(self, entry: Entry) -> dict[str, Any]:
        artifact = self.artifacts.get(entry.step.name)
        return {
            "stage": entry.step.name,
            "kind": entry.step.kind,
            "action": entry.action,
            "fingerprint": entry.fingerprint,
            "seconds": artifact.seconds if artifact else None,
            "folder": str(artifact.folder) if artifact else None,
        }


def run(
    recipe: Recipe, root: Path, selection: Selection | None = None, listener: Listener = null_listener
) -> Summary:
    """Bring every selected stage of a recipe up to date.

    A gate that is broken or not shown to be held does not stop the run: the stage's result is kept, the later
    stages run so that the report shows what happened, and the summary names the gate.

    Args:
        root: Folder of all runs; this one's is `root/<name>`.

    Raises:
        RecipeError: A stage found a problem before it ran.
        UsageError: Another process holds the run, or the selection is wrong.
        Interrupted: Ctrl-C.
        Terminated: SIGTERM.
        CptError: A stage could not finish (`StageFailed` and others).
    """
    store = Store(root.absolute() / recipe.name)
    if not store.folder.exists():
        make_plan(recipe, store, selection)  # so that a wrong selection leaves no empty run behind
    store.prepare()
    with store.lock():
        store.clean()
        plan = adopt_all(make_plan(recipe, store, selection), store)
        if plan is None:
            plan = make_plan(recipe, store, selection, shared=False)
        return _Runner(plan, store, listener).run()


_NOTE_EVERY = 2.0
"""Seconds between notes of the time spent on a stage."""


class _Runner:
    def __init__(self, plan: Plan, store: Store, listener: Listener) -> None:
        self._plan = plan
        self._store = store
        self._journal = Journal(store.folder, plan.recipe, plan.states)
        self._listener = listener
        self._versions = versions()
        self._available: dict[str, Artifact] = {}
        self._checked: dict[str, set[str]] = {}
        self._supplied: set[str] = set()  # stages whose corpus is known to hold out what they need
        self._summary = Summary(plan.recipe.name, store.folder, plan)
        for entry in plan.entries:
            if entry.artifact is not None and not entry.to_run:
                self._keep(entry.artifact)
        self._supplied |= {
            entry.step.name
            for entry in plan.to_run
            if corpus_of(plan.recipe, entry.step, self._available) is not None
        }

    def run(self) -> Summary:
        begun = time.monotonic()
        outcome: Outcome = "failed"
        upcoming = [
            PlannedStage(entry.step.name, entry.action, entry.why, entry.forecast)
            for entry in self._plan.entries
        ]
        if self._plan.needs_base:
            upcoming.insert(0, PlannedStage(BASE, "run"))
        try:
            self._emit(RunStarted(self._plan.recipe.name, tuple(upcoming)))
            with stoppable():
                self._run_stages()
            models = [each for each in self._summary.artifacts.values() if "model" in each.kinds]
            if models:
                self._store.link_model(models[-1])
            outcome = "finished"
        except KeyboardInterrupt as stop:
            outcome = "interrupted"
            self._journal.fail(outcome)
            kind = Terminated if isinstance(stop, Termination) else Interrupted
            raise kind(outcome, hint="The same command continues where it stopped.") from None
        except Exception as error:
            explained = explain_failure(error, self._plan.recipe.name, self._store.folder)
            self._journal.fail(explained.message)
            raise explained from (None if explained is error else error)
        finally:
            self._summary.seconds = time.monotonic() - begun
            self._emit(RunEnded(outcome, self._summary.seconds))
        return self._summary

    def _run_stages(self) -> None:
        self._add_checksums()
        if self._plan.needs_base:
            self._fetch_base()
        self._fetch_references()
        self._check(self._plan.to_run)
        left = self._plan.to_run
        while left:
            entry, left = left[0], left[1:]
            self._keep(self._run_stage(entry))
            self._check(left)

    def _add_checksums(self) -> None:
        """Accept kept results of older versions as they are, once. From then on their files are checked."""
        for record in self._summary.artifacts.values():
            if not record.has_checksums:
                self._store.add_checksums(record)
                self._summary.unchecked.append(record.name)

    def _fetch_base(self) -> None:
        recipe = self._plan.recipe
        with self._timed(BASE, continues=False):
            folder = references.resolve_model(recipe.base, StageProgress(BASE, self._emit))
            self._available[BASE] = BaseModelArtifact(
                name=BASE,
                stage=BASE,
                kinds=("model",),
                fingerprint=self._plan.base_fingerprint,
                folder=folder,
                config={"reference": recipe.data["base"]},
            )

    def _fetch_references(self) -> None:
        """Fetch the models that stages refer to: a missing one is found before hours of training."""
        document = self._plan.recipe.document
        problems: list[Problem] = []
        for step in (entry.step for entry in self._plan.to_run):
            progress = StageProgress(step.name, self._emit)
            problems += placed_problems(document, step, partial(step.stage.fetch, step.located, progress))
        if problems:
            raise RecipeError(problems)

    def _check(self, entries: tuple[Entry, ...]) -> None:
        """Repeat the stages' checks with the inputs that have come to exist.

        What a corpus lacks for any later stage is found before the first of them runs.
        """
        recipe = self._plan.recipe
        problems = []
        for entry in entries:
            inputs = self._inputs(entry)
            if inputs.keys() != self._checked.get(entry.step.name, set()):
                self._checked[entry.step.name] = set(inputs)
                problems += stage_problems(recipe.document, entry.step, inputs)
        steps = [entry.step for entry in entries if entry.step.name not in self._supplied]
        with_corpus = [step for step in steps if corpus_of(recipe, step, self._available) is not None]
        self._supplied |= {step.name for step in with_corpus}
        problems = joined(problems, heldout_problems(recipe, with_corpus, self._available))
        if problems:
            raise RecipeError(problems)

    def _run_stage(self, entry: Entry) -> Record:
        """Make a stage's result, or take it over from a run that has made it meanwhile."""
        step, store = entry.step, self._store
        waiting = StageMessage(step.name, "waits for another run that makes the same result")
        with making(store, step.name, entry.fingerprint, lambda: self._emit(waiting)):
            if step.stage.shareable and not entry.again:
                own = unfingerprinted_data(step.config)
                taken = find_beside(store, step.name, entry.fingerprint, own)
                if taken is not None and (record := self._take(taken)) is not None:
                    return record
            return self._make(entry)

    def _take(self, taken: Record) -> Record | None:
        with self._timed(taken.name, continues=False) as timing:
            self._emit(StageMessage(taken.name, f"made by the run {taken.folder.parent.name}"))
            timing.gate, timing.verdict = taken.gate, taken.gate_verdict if taken.gate else ""
            return adopt(self._store, taken)

    def _make(self, entry: Entry) -> Record:
        step, store = entry.step, self._store
        self._require_whole_inputs(entry)
        if entry.resumes:
            store.resume(step.name, entry.resumes, entry.fingerprint)
        with (
            self._timed(step.name, entry.continues) as timing,
            store.writing(step.name, entry.fingerprint) as staging,
        ):
            timing.earlier = store.elapsed(step.name, entry.fingerprint)
            store.begin(self._record(entry, staging, {}, timing))
            context = Context(
                output=staging,
                work=store.work_folder(step.name, entry.fingerprint),
                seed=self._plan.recipe.seed,
                progress=StageProgress(step.name, self._noting(entry, timing)),
                recipe=self._plan.recipe.data,
                shared=store.shared_folder,
                contents={step.references[name]: found for name, found in entry.references.items()},
            )
            try:
                metrics = run_distributed(step, self._inputs(entry), context)
            except GateFailed as error:
                metrics, timing.gate, timing.verdict = error.metrics, str(error), error.verdict
            except Exception as error:
                _require_folders(context, error)
                raise
            kinds = step.stage.outputs(step.config)
            if missing := [kind for kind in kinds if not (staging / kind).is_dir()]:
                raise AssertionError(f"made no {', '.join(missing)}")
            return store.finish(self._record(entry, staging, metrics, timing))

    def _require_whole_inputs(self, entry: Entry) -> None:
        """Raise if a result that a stage reads has changed since it was written."""
        made = [artifact for artifact in self._inputs(entry).values() if artifact.name != BASE]
        found = [damage_problem(self._store, each.name, each.fingerprint) for each in made]
        if problems := [problem for problem in found if problem is not None]:
            raise RecipeError(problems)

    def _noting(self, entry: Entry, timing: _Timing) -> Listener:
        """Return a listener that passes events on and notes the time spent, against its loss in a kill."""
        noted = timing.seconds

        def note(event: Event) -> None:
            nonlocal noted
            if timing.seconds - noted > _NOTE_EVERY:
                noted = timing.seconds
                self._store.note_elapsed(entry.step.name, entry.fingerprint, noted)
            self._emit(event)

        return note

    def _record(self, entry: Entry, staging: Path, metrics: dict[str, Any], timing: _Timing) -> Record:
        step = entry.step
        return Record(
            name=step.name,
            stage=step.kind,
            kinds=step.stage.outputs(step.config),
            fingerprint=entry.fingerprint,
            folder=staging,
            config=config_data(step.config),
            unfingerprinted=unfingerprinted_data(step.config),
            parents=entry.inputs,
            versions=self._versions,
            created=now(),
            seconds=round(timing.seconds, 3),
            metrics=metrics,
            contract=step.stage.contract,
            seed=self._plan.recipe.seed,
            sources=step.inputs,
            references=entry.references,
            gate=timing.gate,
            gate_verdict=timing.verdict,
        )

    @contextmanager
    def _timed(self, stage: str, continues: bool) -> Iterator[_Timing]:
        """Announce a stage's start and end, and turn its exceptions into explained errors."""
        timing = _Timing(time.monotonic())
        outcome: Outcome = "failed"
        self._emit(StageStarted(stage, continues))
        try:
            yield timing
            outcome = "finished"
        except KeyboardInterrupt:
            outcome = "interrupted"
            raise
        except Exception as error:
            explained = explain_failure(error, stage, self._store.folder)
            raise explained from (None if explained is error else error)
        finally:
            self._emit(StageEnded(stage, outcome, timing.seconds, timing.gate, timing.verdict))

    def _keep(self, record: Record) -> None:
        self._available[record.name] = self._summary.artifacts[record.name] = record
        if record.gate:
            self._summary.gates[record.name] = record.gate
            self._summary.verdicts[record.name] = record.gate_verdict

    def _inputs(self, entry: Entry) -> dict[str, Artifact]:
        return {
            role: self._available[source]
            for role, source in entry.step.inputs.items()
            if source in self._available
        }

    def _emit(self, event: Event) -> None:
        self._journal(event)
        self._listener(event)


def _require_folders(context: Context, error: Exception) -> None:
    """Raise if a stage has failed after a folder that it writes to was removed."""
    for folder in (context.output, context.work):
        if not folder.is_dir():
            raise StageFailed(
                f"{folder} was removed while the stage ran", hint="The same command begins the stage again."
            ) from error


@dataclass
class _Timing:
    """Seconds of a stage: of this attempt, and those that killed attempts had noted."""

    begun: float
    earlier: float = 0.0
    gate: str = ""
    verdict: str = ""

    @property
    def seconds(self) -> float:
        return self.earlier + time.monotonic() - self.begun
