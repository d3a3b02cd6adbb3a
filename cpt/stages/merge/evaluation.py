"""Measure merges that are made in memory: on texts, on tasks, and by what a search maximises."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.halves import Half
from cpt.monitor.reading import Items
from cpt.progress import Progress
from cpt.stages.merge.config import MergeSearch
from cpt.stages.merge.objective import OBJECTIVE, Objective, make_objective, objective_tasks

if TYPE_CHECKING:
    from cpt.corpus.heldout_texts import HeldOutTexts
    from cpt.models.bits_per_byte import TokenisedText
    from cpt.models.shared_windows import WindowBytes
    from cpt.monitor.probes.base import Probe
    from merging.plan import Plan


@dataclass(frozen=True)
class Material:
    """Texts that merges are measured on.

    Attributes:
        texts: Documents by name; `domain` is to improve, `general` must not become worse.
        start_token: Returns the token before every document for the tokenizer of a folder.
        seed: Seed of the samples.
    """

    texts: Mapping[str, Sequence[str] | HeldOutTexts]
    start_token: Callable[[Path], str | None]
    seed: int


class MergeEvaluation:
    """An evaluation of the base and of merges in memory: bits per byte of texts, accuracy, the objective."""

    def __init__(
        self, plan: Plan, settings: MergeSearch, material: Material, work: Path, progress: Progress
    ) -> None:
        """Prepare the texts.

        Args:
            plan: Any of the merges; the others have the same vocabulary.
            settings: Settings of the search.
            material: Texts to measure on.
            work: Scratch folder.
            progress: Listener for messages.
        """
        from cpt.corpus.texts import passages

        assert plan.request.base is not None
        self._base, self._settings, self._material = plan.request.base.folder, settings, material
        self._progress = progress
        self._shape = _without_weights(plan, work / "shape")
        folders = (self._base, self._shape)
        self._texts = {
            name: passages(texts, folders, settings.tokens, material.seed)
            for name, texts in material.texts.items()
        }
        self._starts = {folder: material.start_token(folder) for folder in folders}
        self._tokenised, self._windows = self._in_shared_windows(folders)
        self._model: Any = None
        self._probes: list[Probe] = []
        self._objective: Objective | None = None

    @property
    def key(self) -> Mapping[str, Any]:
        """Identity of the texts, tasks and settings of the measurement."""
        objective = self._settings.objective
        named = {} if objective is None else {"objective": objective.model_dump(mode="json")}
        return named | {
            "texts": {
                name: sha256("\0".join(texts).encode()).hexdigest() for name, texts in self._texts.items()
            },
            "tasks": {name: task.items for name, task in self._settings.tasks.items()},
            "window": self._settings.window,
            "windows": {name: held.as_json() for name, held in self._windows.items()},
            "precision": self._settings.precision,
            "start_tokens": list(self._starts.values()),
        }

    def base(self) -> dict[str, Items]:
        """Measure the base."""
        from cpt.models.packed_model import load_model, resolve_precision

        self._progress.message("measuring the base")
        model = load_model(self._base, resolve_precision(self._settings.precision))
        readings = self._read(model, self._probes_of(self._base), self._objective_of(self._base))
        del model
        gc.collect()
        return readings

    def merged(self, plan: Plan) -> dict[str, Items]:
        """Measure a merge."""
        from cpt.models.packed_model import empty_model, resolve_precision
        from merging.run import merge_into

        if self._model is None:
            self._model = empty_model(self._shape, resolve_precision(self._settings.precision))
            self._probes = self._probes_of(self._shape)
            self._objective = self._objective_of(self._shape)
        merge_into(self._model, plan)
        return self._read(self._model, self._probes, self._objective)

    def restore(self, data: Mapping[str, Any]) -> Items:
        """Return a measurement from the log."""
        return Items.from_json(data)

    def _in_shared_windows(
        self, folders: Sequence[Path]
    ) -> tuple[dict[Path, dict[str, TokenisedText]], dict[str, WindowBytes]]:
        """Cut the texts into windows that hold the same bytes for the base and for merges."""
        from cpt.models.shared_windows import Reader, tokenise_shared
        from cpt.models.tokenizer import load_tokenizer
        from cpt.stages.corpus.checks import window_for

        longest = self._settings.window
        readers = [
            Reader.of(load_tokenizer(folder), window_for(folder, longest), start)
            for folder, start in self._starts.items()
        ]
        shared = {name: tokenise_shared(readers, texts) for name, texts in self._texts.items()}
        tokenised = {
            folder: {name: each.texts[which] for name, each in shared.items()}
            for which, folder in enumerate(folders)
        }
        return tokenised, {name: each.bytes for name, each in shared.items()}

    def _probes_of(self, folder: Path) -> list[Probe]:
        """Return the probes in one tokenizer."""
        from cpt.monitor.probes.text import TextProbe
        from cpt.monitor.schedule import Regular
        from evals.scorer import make_scorer

        settings, start, once = self._settings, self._starts[folder], Regular(1)
        probes: list[Probe] = [TextProbe(name, text, once) for name, text in self._tokenised[folder].items()]
        for name, task in settings.tasks.items():
            half = self._half_of(name)
            scorer = make_scorer(name, task.items, settings.data, folder, start, self._material.seed, half)
            probes.append(scorer.probe(once))
        return probes

    def _half_of(self, task: str) -> Half | None:
        """Return the half of a task's items that its limit is read on: not that which is reported."""
        objective = self._settings.objective
        chosen = [] if objective is None else [entry.task for entry, _ in objective_tasks(objective)]
        return "search" if task in chosen else None

    def _objective_of(self, folder: Path) -> Objective | None:
        """Return what is maximised, in one tokenizer."""
        return make_objective(self._settings, folder, self._starts[folder], self._material.seed)

    def _read(self, model: Any, probes: Sequence[Probe], objective: Objective | None) -> dict[str, Items]:
        """Read bits of text, wrong answers, and what the objective lacks to 1; less is better."""
        from cpt.models.packed_model import PackedLanguageModel, best_device
        from cpt.monitor.probes.base import ModelView

        model.to(best_device())
        subject = ModelView(PackedLanguageModel(model), {})
        readings = {}
        for probe in probes:
            items = probe.read(subject, 1.0)
            wrong = Items(items.denominators - items.numerators, items.denominators)
            readings[probe.name] = wrong if probe.kind == "task" else items
        if objective is not None:
            readings[OBJECTIVE] = objective.read(subject)
        return readings


def _without_weights(plan: Plan, folder: Path) -> Path:
    """Write configuration and tokenizer of a merge's result, without weights."""
    from merging.writer import write_settings

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    write_settings(plan, folder)
    return folder
