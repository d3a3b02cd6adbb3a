"""Settings of the vocabulary stage: a change of vocabulary, and where its model and text come from."""

from __future__ import annotations

from cpt.stages.base import StageConfig
from tokenizer_tools.settings import VocabularyChange


class VocabularyConfig(VocabularyChange, StageConfig):
    """Configuration of the vocabulary stage."""
