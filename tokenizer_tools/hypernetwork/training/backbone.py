"""A model that reads and predicts tokens by rows that are given, in place of its own embeddings.

It is frozen, or all its weights but the embeddings train.

Shapes: W ids of the vocabulary that is read, H width of a matrix, E width of hidden states, T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from cpt.errors import StageFailed
from cpt.models.batch import PackedBatch, TreeBatch, pack
from cpt.models.packed_model import PackedLanguageModel, load_model
from cpt.training.master_weights import MasterWeights
from cpt.training.optimizers.groups import Group, group_weights
from tokenizer_tools.embeddings import Role
from tokenizer_tools.hypernetwork.source import SourceModel

Rows = Mapping[Role, Tensor]
"""Matrices [W, H] by role."""

_CHECKED = 24
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.05}


class ReplacedEmbeddings(PackedLanguageModel):
    """A model whose batches hold ids of another vocabulary.

    Attributes:
        rows: Its rows, of any floating type; gradients reach them. None: the model's own.
    """

    def __init__(self, model: Any) -> None:
        super().__init__(model)
        self._embedding = model.get_input_embeddings()
        self._embedding.padding_idx = None  # an id of the model's own vocabulary, which would get no gradient
        self.rows: Rows | None = None

    def _inputs(self, batch: PackedBatch | TreeBatch) -> dict[str, Tensor]:
        if self.rows is None:
            return super()._inputs(batch)
        rows_WH = self._as_weights(self.rows["tied" if "tied" in self.rows else "input"])
        # by the model's own module, which may scale rows
        embedded = functional_call(self._embedding, {"weight": rows_WH}, (batch.input_ids,))
        return {"inputs_embeds": embedded}

    def _head(self) -> Tensor:
        if self.rows is None:
            return super()._head()
        return self._as_weights(self.rows["tied" if "tied" in self.rows else "output"])

    def _as_weights(self, rows_WH: Tensor) -> Tensor:
        weight = self._embedding.weight
        return rows_WH.to(weight.device, weight.dtype)


def load_backbone(
    source: SourceModel, dtype: torch.dtype, device: torch.device | str = "cpu"
) -> ReplacedEmbeddings:
    """Load the model of which a hypernetwork predicts rows, frozen.

    Args:
        source: Its folder, and its rows.
        dtype: Data type in which it computes.
        device: Device on which it computes.

    Raises:
        ModelError: The model is damaged.
        StageFailed: The model does more with token ids than look up rows.
    """
    model = load_model(source.folder, dtype=dtype).requires_grad_(False).to(device)
    module = ReplacedEmbeddings(model)
    check_reads_rows(module, source)
    return module


class TrainedBackbone:
    """The weights of a backbone that train: all but its embeddings, in float32.

    Attributes:
        weights: Weights that an optimizer moves, by name.
    """

    def __init__(self, module: ReplacedEmbeddings, dtype: torch.dtype) -> None:
        """Take over a float32 model and convert it to the data type in which it computes."""
        self._model = module.model
        embeddings = (self._model.get_input_embeddings(), self._model.get_output_embeddings())
        replaced = {id(embedding.weight) for embedding in embeddings}
        for parameter in self._model.parameters():
            parameter.requires_grad_(id(parameter) not in replaced)
        self._master = MasterWeights(self._model, dtype)
        self.weights: Mapping[str, nn.Parameter] = self._master.weights

    def groups(self, multiple: float) -> list[Group]:
        """Return the weights in groups, which train at a multiple of the schedule's rate."""
        groups = group_weights(self._model, self.weights)
        return [replace(group, name=f"model: {group.name}", rate=multiple) for group in groups]

    def accumulate_grads(self) -> None:
        """Add the model's gradients to those of the weights, after each backward pass."""
        self._master.accumulate_grads()

    def sync_to_model(self) -> None:
        """Copy the weights into the model, after every change of them."""
        self._master.sync_to_model()

    def restore_model(self) -> Any:
        """Return the model in float32, to be saved."""
        self._master.restore_model(self._model)
        return self._model


@torch.no_grad()
def check_reads_rows(module: ReplacedEmbeddings, source: SourceModel) -> None:
    """Raise unless the model reads its own rows, when they are given, as it reads its ids.

    Raises:
        StageFailed: The model does more with token ids than look up rows.
    """
    ids = torch.arange(_CHECKED) * 7919 % source.size
    batch = pack([ids.numpy()]).to(next(module.parameters()).device)
    usual_TE = module.states(batch)[0].float()
    module.rows = source.rows
    given_TE = module.states(batch)[0].float()
    module.rows = None
    difference = float((given_TE - usual_TE).abs().mean() / usual_TE.abs().mean())
    if not difference <= _TOLERANCE.get(module.model.dtype, 0.05):
        raise StageFailed(
            f"{type(module.model).__name__} in {source.folder} uses token ids beside embeddings: its states "
            f"differ by {difference:.1%} when rows are given instead",
            hint="A hypernetwork cannot be trained for such a model.",
        )
