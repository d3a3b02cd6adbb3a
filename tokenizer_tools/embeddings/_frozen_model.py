"""Run a frozen model as a function of embedding rows: its states, and the loss of the next token.

Rows of new tokens stand beside the model's own: row V + i is the i-th new token's. Only the rows that a
batch uses are gathered, so gradients reach new rows and nothing as large as the vocabulary is copied.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.func import functional_call

from cpt.errors import ModelError, StageFailed
from cpt.models.loading import check_model, generates, settings
from cpt.models.packed_model import resolve_precision
from tokenizer_tools.embeddings import Rule
from tokenizer_tools.transfer import Transfer

_BETA_MEAN, _BETA_SQUARE, _EPSILON = 0.9, 0.999, 1e-12
_ANOTHER = "Choose a method that does not run the model, such as subtoken-mean."


class FrozenModel:
    """A decoder or an encoder in evaluation mode, in bfloat16 where that is fast.

    Attributes:
        depth: Number of layers.
        matrix_VH: Input embedding.
        output: Module that makes logits of states; None if the model generates no text.
        tied: True if the output embedding is the input embedding.
    """

    def __init__(self, folder: Path) -> None:
        """Load the model.

        Raises:
            ModelError: The model does not load, or its weights do not fit its config.json.
            StageFailed: The model is an encoder-decoder.
        """
        self._model = _load(folder)
        self._embedding = self._model.get_input_embeddings()
        self._embedding.padding_idx = None  # rows are looked up in tables that may be shorter
        self._layers = _layers(self._model)
        self.depth = len(self._layers)
        self.matrix_VH: Tensor = self._embedding.weight
        self.output: nn.Linear | None = self._model.get_output_embeddings()
        self.tied = self.output is not None and self.output.weight is self.matrix_VH

    def has_plain_logits(self) -> bool:
        """Return True if logits are states times output rows plus bias, neither scaled nor capped."""
        assert self.output is not None
        ids = np.arange(min(8, len(self.matrix_VH)))
        with torch.no_grad():
            logits = self._model(input_ids=torch.from_numpy(ids)[None]).logits[0].float()
            plain = self.output(self.states([ids], [ids])).float()
        return bool(torch.allclose(logits, plain, rtol=1e-2, atol=1e-2 * float(plain.abs().max())))

    def states(
        self,
        ids: Sequence[np.ndarray],
        positions: Sequence[np.ndarray],
        new_NH: Tensor | None = None,
        *,
        layers: int | None = None,
    ) -> Tensor:
        """Return the states of sequences at some positions, after the final norm: [A, H], by sequence.

        Args:
            ids: Rows of each sequence.
            positions: Positions of the returned states in each sequence.
            new_NH: Rows of new tokens; gradients reach them.
            layers: Number of first layers to run, before the final norm; None runs all.
        """
        ids_BT, mask_BT = _padded(ids)
        width = ids_BT.shape[1]
        flat = torch.from_numpy(np.concatenate([i * width + at for i, at in enumerate(positions)]))
        with self._first(layers):
            output = self._model.base_model(inputs_embeds=self._embed(ids_BT, new_NH), attention_mask=mask_BT)
        states_AH: Tensor = output.last_hidden_state.flatten(0, 1)[flat]
        return states_AH

    def _embed(self, ids_BT: Tensor, new_NH: Tensor | None) -> Tensor:
        """Look up rows by the model's own module, which may scale them."""
        rows = len(self.matrix_VH)
        used, local_BT = ids_BT.unique(return_inverse=True)
        table_UH = self.matrix_VH[used[used < rows]]
        if new_NH is not None:
            table_UH = torch.cat([table_UH, new_NH[used[used >= rows] - rows].to(table_UH.dtype)])
        embedded: Tensor = functional_call(self._embedding, {"weight": table_UH}, (local_BT,))
        return embedded

    @contextmanager
    def _first(self, layers: int | None) -> Iterator[None]:
        """Take away the layers after the first few for the time of the block."""
        left_out = list(self._layers)[self.depth if layers is None else layers :]
        del self._layers[self.depth - len(left_out) :]
        try:
            yield
        finally:
            self._layers.extend(left_out)


class RowAdam:
    """Adam on the rows of a matrix, each with its own step count: a row without a gradient does not move.

    With one count for all rows, as in PyTorch, the bias correction of a rare row would be wrong, and momentum
    would move it while it is not seen. With a gradient for every row at every step both are equal.
    Source: Kingma and Ba (arXiv 1412.6980), betas 0.9 and 0.999, no weight decay.
    """

    def __init__(self, rows_NH: Tensor, rate: float) -> None:
        """Args: rate: Size of the first step of each coordinate."""
        self._rows, self._rate = rows_NH, rate
        self._mean, self._square = torch.zeros_like(rows_NH), torch.zeros_like(rows_NH)
        self._steps = torch.zeros(len(rows_NH), 1)

    @torch.no_grad()
    def step(self, scale: float = 1.0) -> None:
        """Take a step of `scale` times the rate, and clear the gradient."""
        assert self._rows.grad is not None
        at = self._rows.grad.any(1).nonzero()[:, 0]
        gradient = self._rows.grad[at]
        self._steps[at] += 1
        self._mean[at] = _BETA_MEAN * self._mean[at] + (1 - _BETA_MEAN) * gradient
        self._square[at] = _BETA_SQUARE * self._square[at] + (1 - _BETA_SQUARE) * gradient**2
        mean = self._mean[at] / (1 - _BETA_MEAN ** self._steps[at])
        square = self._square[at] / (1 - _BETA_SQUARE ** self._steps[at])
        self._rows[at] -= scale * self._rate * mean / (square.sqrt() + _EPSILON)
        self._rows.grad = None


def root_mean_square(matrix_VH: Tensor) -> float:
    """Compute the root mean square of a matrix's elements."""
    return float(matrix_VH.float().square().mean().sqrt())


def _load(folder: Path) -> Any:
    from transformers import AutoModel, AutoModelForCausalLM

    if settings(folder).is_encoder_decoder:
        raise StageFailed(
            f"new embeddings cannot be distilled from the encoder-decoder in {folder}", hint=_ANOTHER
        )
    loader = AutoModelForCausalLM if generates(folder) else AutoModel
    check_model(folder)
    try:
        model = loader.from_pretrained(
            folder,
            dtype=resolve_precision("auto"),
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError, SafetensorError) as error:
        raise ModelError(f"the model in {folder} does not load: {str(error).splitlines()[0]}") from error
    model.config.use_cache = False
    return model.eval().requires_grad_(False)


def _layers(model: Any) -> nn.ModuleList:
    count = model.config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    raise StageFailed(
        f"new embeddings cannot be distilled from {type(model).__name__}: it is no stack of {count} layers",
        hint=_ANOTHER,
    )


def _padded(ids: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Return sequences as [B, T], padded at the end with row 0, and the mask of their positions."""
    lengths = torch.tensor([len(sequence) for sequence in ids])
    mask_BT = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    ids_BT = torch.zeros(mask_BT.shape, dtype=torch.int64)
    ids_BT[mask_BT] = torch.from_numpy(np.concatenate(ids))
    return ids_BT, mask_BT.long()


class NextToken:
    """The output side of a model in the new vocabulary: frozen rows of shared tokens beside new ones.

    Attributes:
        matrix_VH: Output embedding of the model.
    """

    def __init__(self, model: FrozenModel, transfer: Transfer, mean: Rule) -> None:
        """Args: mean: Rule that makes the biases of new tokens.

        Raises:
            StageFailed: The model does not predict tokens, or its logits are no plain products.
        """
        if model.output is None:
            raise StageFailed(
                "next_token_weight is set, but the model does not predict next tokens",
                hint="Set it to 0.",
            )
        if not model.has_plain_logits():
            raise StageFailed(
                "output rows cannot be learnt: the model scales or caps its logits",
                hint="Set output_epochs and next_token_weight to 0 to learn input rows only.",
            )
        self.matrix_VH: Tensor = model.output.weight
        bias_V = model.output.bias
        self._bias_V = torch.zeros(len(self.matrix_VH)) if bias_V is None else bias_V.float()
        self._new_bias_N = mean(self._bias_V[:, None], "bias")[:, 0]
        shared_O = torch.from_numpy(transfer.shared_source)
        self._shared_OH, self._shared_bias_O = self.matrix_VH[shared_O], self._bias_V[shared_O]

    def evidence(self, states_AH: Tensor) -> Tensor:
        """Compute the log of the sum of the shared tokens' exponentiated logits: [A] float32."""
        logits_AO = (states_AH @ self._shared_OH.T).float() + self._shared_bias_O
        return logits_AO.logsumexp(1)

    def cross_entropy(
        self, states_AH: Tensor, targets_A: Tensor, new_NH: Tensor, evidence_A: Tensor | None = None
    ) -> Tensor:
        """Compute the mean cross entropy in nats.

        Args:
            states_AH: States of the model.
            targets_A: Row of each position's next token; V + i is the i-th new token.
            new_NH: Output rows of new tokens in float32.
            evidence_A: `evidence(states_AH)`, if known.
        """
        if evidence_A is None:
            evidence_A = self.evidence(states_AH)
        new_AN = states_AH.float() @ new_NH.T + self._new_bias_N
        total_A = torch.logaddexp(evidence_A, new_AN.logsumexp(1))
        rows = len(self.matrix_VH)
        old_A = targets_A.clamp(max=rows - 1)
        old_logit_A = (states_AH.float() * self.matrix_VH[old_A].float()).sum(1) + self._bias_V[old_A]
        new_logit_A = new_AN.gather(1, (targets_A - rows).clamp(min=0)[:, None])[:, 0]
        return (total_A - torch.where(targets_A >= rows, new_logit_A, old_logit_A)).mean()
