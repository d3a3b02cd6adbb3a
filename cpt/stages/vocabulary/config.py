"""Settings of the vocabulary stage: a change of vocabulary, and where its model and text come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from cpt.stages.base import Artifact, StageConfig
from tokenizer_tools.settings import EmbeddingsConfig, VocabularyChange

HYPERNETWORK = "hypernetwork"
"""Kind of the stage's result, role of the input, and name of the method."""

SOURCE_MODEL = "hypernetwork_model"
"""Role of the model that the hypernetwork was trained for."""


class StageEmbeddingsConfig(EmbeddingsConfig):
    """The initialisation of new rows in a recipe, where an earlier stage may train the hypernetwork."""

    given_later: ClassVar[frozenset[str]] = frozenset({"folder"})


class VocabularyConfig(VocabularyChange, StageConfig):
    """Configuration of the vocabulary stage."""

    embeddings: StageEmbeddingsConfig = Field(
        default=StageEmbeddingsConfig(),
        description=(
            "How new tokens get their embeddings. The default for Latin spellings is transmi. The method "
            "hypernetwork without a `folder` takes the newest hypernetwork stage above."
        ),
    )

    @property
    def takes_hypernetwork(self) -> bool:
        """Return True if an earlier stage makes the hypernetwork that predicts the rows."""
        given = (self.embeddings.model_extra or {}).get("folder")
        return self.embeddings.method == HYPERNETWORK and given is None

    def completed(self, inputs: Mapping[str, Artifact]) -> VocabularyConfig:
        """Return the settings with the hypernetwork of an earlier stage, and with the model that it fits."""
        if HYPERNETWORK not in inputs:
            return self
        given = {"folder": inputs[HYPERNETWORK].path(HYPERNETWORK)}
        if SOURCE_MODEL in inputs:
            given["base"] = inputs[SOURCE_MODEL].path("model")
        embeddings = self.embeddings.model_dump() | {name: str(path) for name, path in given.items()}
        return self.model_copy(update={"embeddings": StageEmbeddingsConfig.model_validate(embeddings)})
