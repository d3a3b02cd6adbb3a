"""Define the settings of study documents in the corpus stage."""

from __future__ import annotations

from pydantic import Field, model_validator

from cpt.corpus.study.settings import OPEN, StudySettings
from cpt.corpus.study.write.settings import WriteSettings
from cpt.sources import QUESTIONS, READING, SHUFFLED


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
        written = self.write is not None and "questions" in self.write.kinds
        asks = bool(self.ontologies or written or set(self.miners) - OPEN)
        made = {READING: True, QUESTIONS: asks, SHUFFLED: self.shuffle}
        return tuple(part for part, is_made in made.items() if is_made)
