"""Define the settings of study documents in the corpus stage."""

from __future__ import annotations

from pydantic import Field, model_validator

from cpt.corpus.study.settings import OPEN, StudySettings
from cpt.corpus.study.write.settings import WriteSettings
from cpt.sources import QUESTIONS, READING, SHUFFLED, STUDY


class Study(StudySettings):
    """Questions and reading tasks: mined from the domain's training documents, and made of ontologies."""

    ontologies: tuple[str, ...] = Field(
        default=(),
        description="OBO files whose terms questions are made of: definition, synonym, parent, is a, and the "
        "right one of four. They stand in no document.",
    )

    ontology_terms: int | None = Field(
        default=None,
        gt=0,
        description="Most terms of each ontology, drawn by the seed; by default all. A thousand terms in 8 "
        "forms are about 360,000 tokens.",
    )

    write: WriteSettings | None = Field(
        default=None,
        description="Texts and questions about the documents that a model writes; by default none.",
    )

    @model_validator(mode="after")
    def _terms_of_ontologies(self) -> Study:
        if self.ontology_terms is not None and not self.ontologies:
            raise ValueError("ontology_terms changes nothing: no ontologies are named")
        return self

    @property
    def models(self) -> tuple[str, ...]:
        """References of models that write."""
        reference = self.write.reference if self.write else None
        return (reference,) if reference is not None else ()

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts of the domain that these settings can make."""
        return tuple(part for part in STUDY if part not in self.parts_not_made)

    @property
    def parts_not_made(self) -> dict[str, str]:
        """Parts that these settings cannot make, each with the reason."""
        kinds = set(self.write.kinds if self.write else ())
        closed = bool(self.ontologies or "questions" in kinds or set(self.miners) - OPEN)
        reasons = {}
        # Closed tasks are asked on facts of the trained share alone, in passages as well.
        if not (self.trained or set(self.miners) & OPEN or kinds - {"questions"}):
            reasons[READING] = "`study.trained` is 0, and all miners ask closed questions"
        if not self.trained:
            reasons[QUESTIONS] = "`study.trained` is 0"
        elif not closed:
            reasons[QUESTIONS] = "no miner of `study` asks closed questions"
        if not self.shuffle:
            reasons[SHUFFLED] = "`study.shuffle` is false"
        return reasons
