"""Cross entropy of the new vocabulary's next token, given states, as a function of the new output rows."""

from __future__ import annotations

import torch
from torch import Tensor

from cpt.errors import StageFailed
from tokenizer_tools.embeddings import Rule
from tokenizer_tools.embeddings._frozen import FrozenModel
from tokenizer_tools.transfer import Transfer


class NextToken:
    """The output side of a model in the new vocabulary: frozen rows of shared tokens beside new ones.

    Attributes:
        matrix_VH: the model's output embedding.
    """

    def __init__(self, model: FrozenModel, transfer: Transfer, mean: Rule) -> None:
        """Args: mean: makes the biases of new tokens.

        Raises:
            StageFailed: the model does not predict tokens, or its logits are no plain products.
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
        """Log of the sum of the shared tokens' exponentiated logits: [A] float32."""
        logits_AO = (states_AH @ self._shared_OH.T).float() + self._shared_bias_O
        return logits_AO.logsumexp(1)

    def cross_entropy(
        self, states_AH: Tensor, targets_A: Tensor, new_NH: Tensor, evidence_A: Tensor | None = None
    ) -> Tensor:
        """Mean cross entropy in nats.

        Args:
            targets_A: the row of each position's next token; V + i is the i-th new token.
            new_NH: output rows of new tokens, float32.
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
