"""A model whose own tokens are followed by merged ones, with predicted rows.

Shapes: V own rows, M merged tokens, H width of a matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from cpt.errors import DataError
from cpt.models.packed_model import PackedLanguageModel, best_device
from tokenizer_tools.dynamic.rows import RowCache
from tokenizer_tools.embeddings import Role
from tokenizer_tools.hypernetwork.folder import (
    load_hypernetwork,
    require_untrained_model,
    source_vocabulary,
)
from tokenizer_tools.hypernetwork.source import SourceModel, require_variant
from tokenizer_tools.hypernetwork.training.backbone import ReplacedEmbeddings, check_reads_rows

_ROOM = 1024
"""Fewest rows for merged tokens; a table that is too small is made anew with twice as many as asked for."""


class GrownVocabulary(ReplacedEmbeddings):
    """A model that reads, and may predict, tokens that are merged from its own.

    Attributes:
        first: Id of the first merged token; the model's own rows are before it.
    """

    def __init__(self, model: Any, source: SourceModel, cache: RowCache) -> None:
        """Prepare a model without merged tokens.

        Args:
            model: Model.
            source: Its vocabulary and its rows.
            cache: Rows of merged tokens.

        Raises:
            StageFailed: The model does more with token ids than look up rows.
            DataError: Its two embeddings have different numbers of rows.
        """
        super().__init__(model)
        self._predicts = True
        check_reads_rows(self, source)
        self._own: dict[Role, Tensor] = {"tied": model.get_input_embeddings().weight.detach()}
        if "tied" not in source.rows:
            self._own["output"] = model.get_output_embeddings().weight.detach()
            self._own["input"] = self._own.pop("tied")
        sizes = {len(own_VH) for own_VH in self._own.values()}
        if len(sizes) > 1:
            raise DataError(f"the embeddings of {source.folder} have different numbers of rows: {sizes}")
        [self.first] = sizes
        self._cache = cache
        self._tables: dict[Role, Tensor] = {}

    def take(self, surfaces: Sequence[bytes], *, predicts: bool) -> None:
        """Set the merged tokens.

        Args:
            surfaces: Bytes of each; none for the model as it is.
            predicts: True if they are predicted too; else they are only read.
        """
        self._predicts = predicts
        self.rows = None
        if surfaces:
            made = self._cache.rows(surfaces)
            self.rows = {role: self._table(role, made[role]) for role in self._own}

    def _table(self, role: Role, made_MH: Tensor) -> Tensor:
        """Return the model's own rows, and the given ones behind them: [V + M, H].

        The own rows are copied once and not for every batch.
        """
        own_VH, size = self._own[role], self.first + len(made_MH)
        if role not in self._tables or len(self._tables[role]) < size:
            room = max(_ROOM, 2 * len(made_MH))
            self._tables[role] = own_VH.new_empty(self.first + room, own_VH.shape[1])
            self._tables[role][: self.first] = own_VH
        table = self._tables[role]
        table[self.first : size] = made_MH.to(table.device, table.dtype)
        return table[:size]

    def _head(self) -> Tensor:
        return super()._head() if self._predicts else PackedLanguageModel._head(self)


def load_cache(hypernet: Path, base: SourceModel, model: SourceModel) -> RowCache:
    """Load a hypernetwork, to predict the rows of a model's merged tokens.

    Args:
        hypernet: Folder of the hypernetwork.
        base: Model that it was trained for.
        model: Model that reads the tokens: the same, or a fine-tuned variant.

    Raises:
        MissingInput, ModelError: The hypernetwork cannot be read.
        DataError: The models and the hypernetwork do not fit, or the model was trained with it.
    """
    require_untrained_model(hypernet)
    network = load_hypernetwork(hypernet, base.folder)
    if base.folder != model.folder:
        require_variant(base, model)
    return RowCache(network.to(best_device()), source_vocabulary(hypernet))
