"""Define the settings of study documents."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

MinerName = Literal[
    "glossary",
    "copular",
    "defined_term",
    "choice",
    "existing",
    "question_title",
    "title",
    "review",
    "keywords",
    "relation",
    "order",
    "completion",
]
MINERS: tuple[MinerName, ...] = MinerName.__args__  # type: ignore[attr-defined]
OPEN = frozenset({"title", "review", "keywords", "relation", "order", "completion"})
"""Miners whose tasks need the passage in sight."""


class MiningSettings(BaseModel):
    """Kinds of questions and tasks that are mined from documents, and their forms."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    miners: tuple[MinerName, ...] = Field(
        default=MINERS, min_length=1, description="Kinds of questions and tasks to look for."
    )
    language: str = Field(
        default="en", pattern=r"^[a-z]{2,3}$", description="Language of the documents and of the wordings."
    )
    forms: int = Field(
        default=8,
        ge=1,
        description="Most questions of a fact: other tasks, directions and wordings. One form is not enough "
        "to recall a fact in another (Allen-Zhu and Li, arXiv 2309.14316).",
    )
    passage: int = Field(
        default=1_800, ge=200, description="Most characters of a passage that reading tasks are asked on."
    )
    tasks: int = Field(default=2, ge=1, description="Most tasks of a miner on one passage.")

    @field_validator("language")
    @classmethod
    def _has_wordings(cls, code: str) -> str:
        from cpt.corpus.study.language import languages

        if code not in languages():
            raise ValueError(f"no wordings in the language {code!r}: there are {', '.join(languages())}")
        return code

    @field_validator("miners")
    @classmethod
    def _miners_once(cls, miners: tuple[MinerName, ...]) -> tuple[MinerName, ...]:
        twice = sorted({name for name in miners if miners.count(name) > 1})
        if twice:
            raise ValueError(f"named twice: {', '.join(twice)}")
        return miners


class StudySettings(MiningSettings):
    """Questions and reading tasks that are mined from the domain's training documents, without a model.

    They become two parts of the domain beside the documents: `reading` (a passage with tasks on it) and
    `questions` (asked without any text; the loss is taken on the answers alone).
    """

    trained: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Share of the facts whose questions are trained on. Of others only the documents are; "
        "the recall probe asks for them, and shows what questions teach beyond their own facts.",
    )
    shuffle: bool = Field(
        default=False,
        description="Write each document once more with the sentences of its paragraphs in another order, as "
        "part `shuffled`: what stands late in a text is then found without its beginning.",
    )
    probe: int = Field(
        default=200,
        ge=0,
        description="Most items of each group of the recall probe, which the evaluate stage measures; 0: no "
        "probe.",
    )
