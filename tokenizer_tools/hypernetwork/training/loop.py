"""Train a hypernetwork: two stages, checkpoints, a log, and probes of real tokenizers.

The data of a step is a pure function of the step, so a checkpoint holds the network, the optimizer's state
and the counts of the run; the model's own weights too if they train, and the first weights of the network if
its rows are kept near those that it predicted at the start. A run that is killed at any moment continues
from its newest checkpoint, and ends with the same bits as one that was not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cpt.errors import StageFailed
from cpt.models.packed_model import resolve_precision
from cpt.progress import Progress
from cpt.training.checkpoint.snapshot import Snapshot, require_space
from cpt.training.checkpoint.stateful import FixedSettings, OptimizerState, Stateful, WeightState
from cpt.training.checkpoint.store import Store
from cpt.training.distributed.collectives import ProcessGroup
from cpt.training.json_lines import JsonLines
from cpt.training.optimizers import AdamW
from cpt.training.optimizers.groups import Group
from cpt.training.settings import flat_values
from cpt.training.stopping import HeldSignals
from tokenizer_tools.embeddings import Role
from tokenizer_tools.hypernetwork.network import Hypernetwork
from tokenizer_tools.hypernetwork.predict import predict_rows
from tokenizer_tools.hypernetwork.reference import STEPS
from tokenizer_tools.hypernetwork.source import SourceModel
from tokenizer_tools.hypernetwork.surface_forms import SurfaceForms
from tokenizer_tools.hypernetwork.training.backbone import ReplacedEmbeddings, Rows, TrainedBackbone
from tokenizer_tools.hypernetwork.training.batches import Batch, batches_of
from tokenizer_tools.hypernetwork.training.gradients import (
    Gradient,
    Gradients,
    parameters_of,
    predicted_places,
    source_ids,
)
from tokenizer_tools.hypernetwork.training.settings import CHANGEABLE, HypernetworkTrainingConfig
from tokenizer_tools.hypernetwork.training.zero_shot import ZeroShotProbe, due
from tokenizer_tools.vocabulary import Vocabulary


@dataclass
class RunState:
    """The counts of a run, which are in every checkpoint.

    Attributes:
        step: Number of steps taken, of both stages.
        tokens: Number of tokens that the model has read.
        bytes: Number of bytes of text that it has predicted.
        truncated: Number of tokens whose last pieces were cut off, over all steps.
        seconds: Time of steps.
        probe_seconds: Time of probes.
        first_stage_seconds: Time of the steps of the first stage, of these.
        readings: Readings of probes.
        baselines: First reading of each probe, document by document.
        probed: Digest of the text of each probe, and of its tokens.
    """

    step: int = 0
    tokens: int = 0
    bytes: int = 0
    truncated: int = 0
    seconds: float = 0.0
    probe_seconds: float = 0.0
    first_stage_seconds: float = 0.0
    readings: list[dict[str, Any]] = field(default_factory=list)
    baselines: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    probed: dict[str, str] = field(default_factory=dict)

    def state_dict(self) -> Mapping[str, Any]:
        return asdict(self)

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        for name, value in saved.items():
            setattr(self, name, value)

    def begin_anew(self, probes: Sequence[ZeroShotProbe]) -> list[str]:
        """Forget the readings of probes that read other text than before, and say which these are."""
        found = {name: digest for probe in probes for name, digest in probe.readings.items()}
        other = sorted(name for name, digest in found.items() if self.probed.get(name, digest) != digest)
        self.readings = [reading for reading in self.readings if reading["probe"] not in other]
        self.baselines = {name: first for name, first in self.baselines.items() if name not in other}
        self.probed |= found
        return [f"{name} is read on other text, or in other tokens: its curve begins anew" for name in other]

    @property
    def latest(self) -> dict[str, float]:
        """Return the last value of every probe."""
        return {reading["probe"]: reading["value"] for reading in self.readings}


class Log:
    """The log of steps, cut back to the checkpoint that a run continues from."""

    def __init__(self, path: Path) -> None:
        self._path, self._length = path, 0
        self._file: JsonLines | None = None

    def open(self) -> None:
        """Open the file and drop what it has beyond the checkpoint."""
        self._file = JsonLines(self._path, self._length)

    def write(self, record: Mapping[str, Any]) -> None:
        """Append one record."""
        if self._file is not None:
            self._file.write(record)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def state_dict(self) -> Mapping[str, Any]:
        return {"bytes": self._file.length() if self._file is not None else self._length}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self._length = saved["bytes"]


class HypernetworkTraining:
    """A run: its objects with state, and its loop."""

    def __init__(
        self,
        source: SourceModel,
        backbone: ReplacedEmbeddings,
        documents: Sequence[str],
        probes: Sequence[ZeroShotProbe],
        config: HypernetworkTrainingConfig,
        seed: int,
        work: Path,
        progress: Progress,
        processes: ProcessGroup,
        *,
        target: Vocabulary | None = None,
        initial: Mapping[str, Tensor] | None = None,
        continues: bool = False,
    ) -> None:
        """Build the network and its optimizer; nothing is trained yet.

        Args:
            source: Model that the hypernetwork is for.
            backbone: The same model, frozen, on this process's device; in float32 if it is to train.
            documents: Training text.
            probes: Real tokenizers that are measured.
            config: Settings.
            seed: Seed of the first weights, of the order of the texts and of the tokenizers.
            work: Folder for checkpoints and logs; it survives a kill.
            progress: Receiver of progress.
            processes: Processes that train together.
            target: Vocabulary of the fixed tokenizer, if the settings name one.
            initial: State of the network to begin with, of the same architecture; by default random weights.
            continues: True if the work folder holds a checkpoint without which the run must not begin.
        """
        self._config, self._seed, self._progress, self._processes = config, seed, progress, processes
        self._backbone, self._probes, self._continues = backbone, probes, continues
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = Hypernetwork(config.network, source.rows).to(processes.device)
        if initial is not None:
            self.network.load_state_dict(initial)
        self._batches = batches_of(source.vocabulary, documents, config, seed, target)
        plain = [token_id for token_id, surface in enumerate(source.vocabulary.surfaces) if surface]
        self._plain = np.array(plain, dtype=np.int64)
        parameters = parameters_of(self.network)
        anchor: dict[str, Tensor] | None = None
        if target is not None and config.lexical_weight:
            anchor = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        self._trained: TrainedBackbone | None = None
        if config.backbone is not None:
            self._trained = TrainedBackbone(backbone, resolve_precision(config.precision))
        self._gradients = Gradients(self.network, backbone, config, processes, anchor, self._trained)
        self._optimizer = _optimizer(config, parameters, self._trained)
        self.state, self._log = RunState(), Log(work / STEPS)
        self.state.begin_anew(probes)
        self._store = Store(work, config.checkpoint.keep)
        fixed = dict(flat_values({**config.model_dump(mode="json", exclude=set(CHANGEABLE)), "seed": seed}))
        hint = f"Set them back, or train in an empty folder. {', '.join(sorted(CHANGEABLE))} may change."
        self._stateful: dict[str, Stateful] = {
            "settings": FixedSettings(fixed, hint),  # first: it refuses the checkpoint of another run
            "weights": WeightState(self.network.state_dict(), lambda: None),
            "optimizer": OptimizerState(self._optimizer, {**parameters, **_named(self._trained)}),
            **_further_state(anchor, self._trained),
            "run": self.state,
            "log": self._log,
        }

    def run(self) -> None:
        """Train up to the last step, from the newest checkpoint in the work folder if there is one.

        Ctrl-C and SIGTERM end the step, a checkpoint is saved, and then they do what they did before.

        Raises:
            StageFailed: The loss is not finite, the run in the work folder began with other settings, or the
                checkpoint that this run must continue from is damaged.
            DiskFull: A checkpoint does not fit on the disk.
        """
        self._resume()
        config, state, signals = self._config, self.state, HeldSignals()
        if self._processes.is_main:
            self._log.open()
        with signals:
            self._read_probes()
            stopping = self._processes.any(signals.came)
            while not stopping and state.step < config.warm_steps:
                began = time.perf_counter()
                ids_W = source_ids(self._plain, _tokens_of(config), self._seed, state.step)
                self._apply(self._gradients.of_first_stage(ids_W), began)
                stopping = self._after_step(signals)
            first = max(0, state.step - config.warm_steps)
            with closing(self._batches.of_steps(first, first if stopping else config.steps)) as batches:
                began = time.perf_counter()
                for batch in batches:
                    self._apply(self._gradients.of_language_modelling(batch), began, batch)
                    if stopping := self._after_step(signals):
                        break
                    began = time.perf_counter()
            self._save()
            if stopping:
                self._processes.wait()
                name = signals.heed_others().name
                self._progress.message(f"{name}: saved after step {state.step}, and stopped")
        self._log.close()

    def predict(self, forms: SurfaceForms) -> Rows:
        """Return the rows of tokens as training has them, with products in the model's precision."""
        source = self.network.source
        places_P = predicted_places(forms, source.size, copied=self._config.shared == "copied")
        made = predict_rows(self.network, forms.at(places_P), products=self._backbone.model.dtype)
        if len(places_P) == len(forms.ids_NL):
            return made
        rows: dict[Role, Tensor] = {}
        for role, made_PH in made.items():
            rows[role] = source.get_buffer(role)[forms.ids_NL[:, 0].clamp(max=source.size - 1)].cpu()
            rows[role][places_P] = made_PH
        return rows

    def trained_model(self) -> Any:
        """Return the model in float32, with its own embeddings and the other weights as they were trained.

        Raises:
            ValueError: The model does not train.
        """
        if self._trained is None:
            raise ValueError("the model does not train")
        return self._trained.restore_model()

    def _apply(self, gradient: Gradient, began: float, batch: Batch | None = None) -> None:
        """Move the weights, and log the step.

        Raises:
            StageFailed: The loss or its gradient is not finite.
        """
        config, state = self._config, self.state
        if not math.isfinite(gradient.loss + gradient.norm):
            raise StageFailed(
                f"the loss of step {state.step + 1} is {gradient.loss}, and the norm of its gradient "
                f"{gradient.norm}: the training has diverged",
                hint="Lower the peak of its schedule. The checkpoints before stay.",
            )
        rate = config.rate(state.step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["multiple"]
        self._optimizer.step()
        if self._trained is not None:
            self._trained.sync_to_model()
        self._optimizer.zero_grad()
        seconds = time.perf_counter() - began
        state.step += 1
        state.seconds += seconds
        tokens = batch.tokens if batch is not None else _tokens_of(config)
        if batch is None:
            state.first_stage_seconds += seconds
        else:
            state.tokens += batch.tokens
            state.bytes += batch.target_bytes
            state.truncated += batch.forms.truncated
        name = "loss_nats" if batch is not None else "distance"
        self._log.write(
            {
                "step": state.step,
                "stage": "language modelling" if batch is not None else "first",
                "tokens": state.tokens,
                "bytes": state.bytes,
                name: gradient.loss,
                **gradient.figures,
                "lr": rate,
                "grad_norm": gradient.norm,
                "seconds": state.seconds,
                "tokens_per_second": tokens / seconds,
            }
        )
        self._progress.update(
            state.step,
            config.total_steps,
            "step",
            loss=gradient.loss,
            tokens_per_second=tokens / seconds,
            **state.latest,
        )

    def _after_step(self, signals: HeldSignals) -> bool:
        """Read the probes and save the checkpoint that are due; return True if the run must stop."""
        self._read_probes()
        if self.state.step % self._config.checkpoint.every == 0:
            self._save()
        return self._processes.any(signals.came)

    def _read_probes(self) -> None:
        state, config = self.state, self._config
        if not due(state.step, config.total_steps, config.probes.every, state.readings):
            return
        began = time.perf_counter()
        for probe in self._probes:
            known = any(reading["probe"] in probe.readings for reading in state.readings)
            if probe.forms is None and (known or (state.step and self._trained is not None)):
                continue  # the model as it was at the start is what others are compared with
            found = probe.read(self._backbone, self.predict, state.step, state.tokens, state.baselines)
            for reading in found:
                state.readings.append(reading.as_json())
                self._progress.note("reading", reading.as_json())
        state.probe_seconds += time.perf_counter() - began

    def _resume(self) -> None:
        saved, wrong = self._store.newest(self._processes)
        for message in wrong:
            self._progress.message(message)
        if saved is not None:
            saved[""].restore(self._stateful)
            self._progress.message(f"continues after step {self.state.step}")
            for message in self.state.begin_anew(self._probes):
                self._progress.message(message)
        elif self._continues:
            raise StageFailed(
                "; ".join(["there is no readable checkpoint to continue from", *wrong]),
                hint="`start` names a run whose checkpoint is damaged or incomplete: fetch or copy it again.",
            )

    def _save(self) -> None:
        """Write a checkpoint.

        Raises:
            DiskFull: It does not fit on the disk beside the one before, which stays.
        """
        if self._processes.is_main:
            snapshots = {"": Snapshot.of(self._stateful, self.state.step)}
            require_space(self._store.folder, snapshots)
            self._store.save(snapshots)


def _tokens_of(config: HypernetworkTrainingConfig) -> int:
    return config.first_stage.tokens if config.first_stage is not None else 0


def _optimizer(
    config: HypernetworkTrainingConfig,
    parameters: Mapping[str, torch.nn.Parameter],
    trained: TrainedBackbone | None,
) -> torch.optim.Optimizer:
    vectors = {name: weight for name, weight in parameters.items() if weight.ndim < 2}
    matrices = {name: weight for name, weight in parameters.items() if name not in vectors}
    groups = [Group("matrices", "matrix", matrices), Group("norms and biases", "vector", vectors)]
    if trained is not None and config.backbone is not None:
        groups += trained.groups(config.backbone.rate / config.schedule.highest)
    return AdamW(weight_decay=config.weight_decay, beta2=config.beta2).build(groups)


def _named(trained: TrainedBackbone | None) -> dict[str, torch.nn.Parameter]:
    """Return the model's weights under names that no parameter of the network has."""
    return {} if trained is None else {f"model/{name}": weight for name, weight in trained.weights.items()}


def _further_state(
    anchor: Mapping[str, Tensor] | None, trained: TrainedBackbone | None
) -> dict[str, Stateful]:
    """Return the state of runs in a fixed tokenizer: the network's first weights, and the model's own."""
    found: dict[str, Stateful] = {}
    if anchor is not None:
        found["anchor"] = WeightState(anchor, lambda: None)
    if trained is not None:
        found["model"] = WeightState(trained.weights, trained.sync_to_model)
    return found
