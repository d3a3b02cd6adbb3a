"""Keep the predicted rows of merged tokens by their bytes, so that each is predicted once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from tokenizer_tools.embeddings import Role
from tokenizer_tools.hypernetwork.network import Hypernetwork
from tokenizer_tools.hypernetwork.predict import predict_rows
from tokenizer_tools.hypernetwork.surface_forms import surface_forms
from tokenizer_tools.vocabulary import Vocabulary

MOST = 65_536
"""Tokens whose rows are kept: 75 MB for rows of 576 numbers in bfloat16."""


class RowCache:
    """Rows that a hypernetwork predicts; those used longest ago are forgotten.

    Attributes:
        predicted: Number of rows predicted so far.
    """

    def __init__(self, network: Hypernetwork, source: Vocabulary, most: int = MOST) -> None:
        """Start an empty cache.

        Args:
            network: Hypernetwork.
            source: Vocabulary of its source tokenizer, which spells the tokens.
            most: Most tokens whose rows are kept between calls.
        """
        self._network, self._source, self._most = network, source, most
        self._rows: OrderedDict[bytes, dict[Role, Tensor]] = OrderedDict()
        self.predicted = 0

    def rows(self, surfaces: Sequence[bytes]) -> dict[Role, Tensor]:
        """Return the rows of merged tokens: [tokens, H] by role, on the CPU.

        Args:
            surfaces: Bytes of each token, all within one word.
        """
        if missing := [surface for surface in dict.fromkeys(surfaces) if surface not in self._rows]:
            forms = surface_forms(self._source, missing, self._network.config.pieces, one_word=True)
            made = predict_rows(self._network, forms)
            for place, surface in enumerate(missing):
                # Copies: a view would keep the rows of all tokens that were predicted with it.
                self._rows[surface] = {role: rows_NH[place].clone() for role, rows_NH in made.items()}
            self.predicted += len(missing)
        found: dict[Role, Tensor] = {}
        for role in self._network.source.roles:
            source_VH = self._network.source.get_buffer(role)
            rows = [self._rows[surface][role] for surface in surfaces]
            found[role] = torch.stack(rows) if rows else source_VH.new_empty(0, source_VH.shape[1]).cpu()
        for surface in surfaces:
            self._rows.move_to_end(surface)
        while len(self._rows) > self._most:
            self._rows.popitem(last=False)
        return found
