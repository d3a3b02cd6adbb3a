"""Objectives of a pretrain stage: what does not go with them, and the models of other stages that teach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.errors import CptError, Problem
from cpt.stages.base import Artifact, UpstreamArtifact, WiringError
from cpt.stages.pretrain.config import PretrainConfig
from cpt.training.features.gate_controller import may_replay
from cpt.training.objectives import Alm, ObjectiveConfig, SelfConstraint, SelfDistillation

if TYPE_CHECKING:
    from cpt.training.objectives.reference_model import AlignedTeacher
    from tokenizer_tools.alignment import Aligner

TEACHER = "teacher"
"""Role of the stage whose model teaches."""

_TRIED = 64
"""Number of sequences of the corpus that are aligned before a run, which takes about a tenth of a second."""


def wire_teacher(config: PretrainConfig, earlier: Sequence[UpstreamArtifact], student: str) -> dict[str, str]:
    """Return role and name of the teacher, if the objective has one.

    The student of a self-distillation must start where the teacher's training started: so they also have one
    vocabulary and width. For ALM any other model will do.

    Args:
        student: name of the stage whose model the student starts from.
    """
    objective = config.objective
    if isinstance(objective, Alm):
        name = _model(objective.teacher, earlier)
        is_itself = name == student and (config.start is None or config.start.checkpoint == "last")
        if is_itself and not objective.cross_entropy:
            hint = "Name the model from before its vocabulary was changed, or give cross_entropy a weight."
            message = f"`{name}` is the model that trains: it has nothing to learn from itself"
            raise WiringError(Problem(message, key="objective.teacher", hint=hint))
        return {TEACHER: name}
    if not isinstance(objective, SelfDistillation):
        return {}
    name = objective.teacher
    trainings = {stage.name: stage for stage in earlier if {"model", "training"} <= stage.kinds}
    if name not in trainings:
        there = f"Earlier pretrain stages: {', '.join(trainings)}." if trainings else "Put one before it."
        raise WiringError(
            Problem(f"`{name}` is no earlier pretrain stage", key="objective.teacher", hint=there)
        )
    starts = list(_starts(name, trainings))
    if student not in starts:
        raise WiringError(
            Problem(
                f"the student starts from `{student}`, but its teacher's training began at `{starts[0]}`",
                key="from",
                hint=f"A student starts where its teacher did: set from: {starts[0]}.",
            )
        )
    return {TEACHER: name}


def _model(name: str, earlier: Sequence[UpstreamArtifact]) -> str:
    models = [stage.name for stage in earlier if "model" in stage.kinds]
    if name not in models:
        hint = f"Models so far: {', '.join(models)}."
        raise WiringError(
            Problem(f"`{name}` is no earlier stage with a model", key="objective.teacher", hint=hint)
        )
    return name


def _starts(name: str, trainings: Mapping[str, UpstreamArtifact]) -> Sequence[str]:
    """Return the stages at whose models the trainings began that led to a model, the latest first."""
    starts = []
    while name in trainings:
        name = trainings[name].inputs["model"]
        starts.append(name)
    return starts


def objective_problems(config: PretrainConfig) -> list[Problem]:
    """Return problems of an objective with other settings."""
    if isinstance(config.objective, Alm) and config.input_noise:
        return [
            Problem(
                "the teacher of alm reads the text itself, and input_noise puts other tokens into it",
                key="input_noise",
                hint="Leave one of them out.",
            )
        ]
    replay = any(config.replay_shares.values()) or may_replay(config.gates)
    if not isinstance(config.objective, SelfConstraint) or replay:
        return []
    return [
        Problem(
            "self-constraint acts on replay rows, and there are none: replay is 0",
            key="objective.kind",
            hint="Set `replay:` to a share of each batch, and give the corpus replay text.",
        )
    ]


def teacher_problems(objective: ObjectiveConfig, inputs: Mapping[str, Artifact]) -> list[Problem]:
    """Return a problem if the corpus cannot be aligned with the teacher's tokenizer, once both are known."""
    if not isinstance(objective, Alm) or not {"model", "corpus", TEACHER} <= inputs.keys():
        return []
    corpus = inputs["corpus"].path("corpus")
    try:
        aligner = _aligner(inputs["model"].path("model"), inputs[TEACHER].path("model"), corpus)
    except CptError as error:
        return [Problem(error.message, key="objective.teacher", hint=error.hint)]
    for owner, boundaries in (
        ("model", aligner.student_boundaries),
        ("teacher", aligner.teacher_boundaries),
    ):
        if objective.boundary is not None and not len(boundaries):
            return [
                Problem(
                    f"no token of the {owner}'s tokenizer begins with white space: words have no boundaries",
                    key="objective.boundary",
                    hint="Set boundary: null.",
                )
            ]
    if _any_chunk(aligner, corpus):
        return []
    return [
        Problem(
            f"no text of the first {_TRIED} sequences is spelt alike by the tokenizers of model and teacher",
            key="objective.teacher",
            hint="Name a teacher whose tokenizer keeps text as it is (case, accents, spaces).",
        )
    ]


def _any_chunk(aligner: Aligner, corpus: Path) -> bool:
    """Return True if a chunk of the first sequences can be compared."""
    from cpt.corpus import open_source
    from cpt.sources import DOMAIN
    from cpt.training.data import pieces

    source = open_source(corpus, DOMAIN)
    documents = [
        piece for number in range(min(_TRIED, len(source))) for piece in pieces(source.sequence(number))
    ]
    return any((each.usable & ~each.special).any() for each in aligner.align(documents))


def load_teacher(objective: ObjectiveConfig, inputs: Mapping[str, Artifact], model: Path) -> Any:
    """Return the teacher as `train` takes it, see `load_to_train`; None if the objective has none.

    Args:
        model: folder of the model that trains, with its tokenizer.
    """
    from cpt.stages.pretrain.starting_model import load_to_train

    if not objective.needs_teacher:
        return None
    folder = inputs[TEACHER].path("model")
    if not isinstance(objective, Alm):
        return load_to_train(folder)
    return load_alm_teacher(folder, model, inputs["corpus"].path("corpus"))


def load_alm_teacher(folder: Path, model: Path, corpus: Path) -> AlignedTeacher:
    """Return a model that teaches another one with another tokenizer, in float32.

    Args:
        folder: Folder of the teacher, with its tokenizer.
        model: Folder of the model that trains, with its tokenizer.
        corpus: Corpus folder in the tokens of the model that trains.

    Raises:
        DataError: a tokenizer's tokens cannot be read as bytes, or the teacher has no counterpart of the
            token that starts or ends documents.
    """
    from cpt.stages.pretrain.starting_model import load_to_train
    from cpt.training.objectives.reference_model import AlignedTeacher

    return AlignedTeacher(load_to_train(folder), _aligner(model, folder, corpus))


def _aligner(model: Path, teacher: Path, corpus: Path) -> Aligner:
    """Return the alignment of a corpus with the teacher's tokens.

    Raises:
        DataError: a tokenizer's tokens cannot be read as bytes, or the teacher has no counterpart of the
            token that starts or ends documents.
    """
    from cpt.corpus import read_index
    from cpt.corpus.document_tokenizer import follow_special_token
    from cpt.models.bits_per_byte import start_id
    from cpt.models.loading import settings
    from tokenizer_tools.alignment import Aligner
    from tokenizer_tools.vocabulary import read_vocabulary

    index, vocabularies = read_index(corpus), [read_vocabulary(folder) for folder in (model, teacher)]

    def pair(token: str | None, counterpart: str | None) -> tuple[int, int | None] | None:
        mine, its = (each.tokenizer for each in vocabularies)
        return None if (own := start_id(mine, token)) is None else (own, start_id(its, counterpart))

    return Aligner(
        *vocabularies,
        start=pair(index.start_token, follow_special_token(index.start_token, model, teacher, "bos")),
        end=pair(index.end_token, follow_special_token(index.end_token, model, teacher, "eos")),
        longest=getattr(settings(teacher).get_text_config(), "max_position_embeddings", None),
    )
