"""Learn rows with which a frozen model reads text in the new vocabulary as in the old one.

Source: Token Distillation (Dobler, Elliott, de Melo, arXiv 2505.20133). Rows start as the mean of their
pieces. Input rows minimise the squared difference of the model's states between both segmentations where
these meet, averaged over positions and dimensions; only new rows move. Output rows, of models that generate
text, minimise the cross entropy of the new vocabulary's next token, given the frozen model's states over the
old segmentation. The rows of a tied matrix learn the first and then the second. A bias is the mean of its
pieces, and so is the row of a token that does not occur in the text.

Differences from the paper, so that a CPU is enough: few short snippets instead of 100 of 50 tokens; states
after the first layers instead of all (an option of the authors' code too); steps in units of the source rows'
root mean square instead of 1e-4, since models differ in it tenfold, falling to 0; a step count for each row;
and all new tokens of a snippet are merged, not one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn.functional import mse_loss

from tokenizer_tools.embeddings import Method, Role, Rule
from tokenizer_tools.embeddings._contexts import Snippet, SnippetParameters, batches, collect
from tokenizer_tools.embeddings._frozen_model import FrozenModel, NextToken, RowAdam, root_mean_square
from tokenizer_tools.embeddings._weights import subtoken_rule
from tokenizer_tools.transfer import Transfer

_BATCH_TOKENS = 1024
_OUTPUT_STEPS = 20
_KEPT_ELEMENTS = 2**27
_LOGITS_AT_ONCE = 2**26
_NONE = -1


class Parameters(SnippetParameters):
    """Parameters of token distillation."""

    layers: int | None = Field(
        8, gt=0, description="Number of first layers whose states are matched; null is all, as in the paper."
    )
    learning_rate: float = Field(
        0.1, gt=0, description="First step of input rows, in units of the source rows' root mean square."
    )
    epochs: int = Field(1, gt=0, description="Passes over the snippets for input rows.")
    next_token_weight: float = Field(
        0.0,
        ge=0,
        description="Weight of next-token prediction in the input rows' loss, scaled to the states' part; "
        "1 is the paper's +alpha NTP. Needs layers: null.",
    )
    output_learning_rate: float = Field(
        0.02, gt=0, description="First step of output rows, in units of the source rows' root mean square."
    )
    output_epochs: int = Field(
        3, ge=0, description="Passes over the snippets for output rows; 0 keeps their initial values."
    )

    @model_validator(mode="after")
    def _predicts_from_the_last_layer(self) -> Parameters:
        if self.next_token_weight and self.layers is not None:
            raise ValueError("next_token_weight needs layers: null, as only the last layer predicts tokens")
        return self


def prepare(transfer: Transfer, parameters: Parameters) -> Rule:
    """Learn the difference of rows from the mean of their pieces, and return the rule that adds it."""
    mean = subtoken_rule(transfer)
    model = FrozenModel(transfer.model)
    snippets = collect(transfer, len(model.matrix_VH), parameters)
    moves = _moves(transfer, model, snippets, mean, parameters) if snippets else {}

    def rows(matrix_VH: Tensor, role: Role) -> Tensor:
        mean_NH = mean(matrix_VH, role)
        return (mean_NH.float() + moves[role]).to(matrix_VH.dtype) if role in moves else mean_NH

    return rows


def _moves(
    transfer: Transfer, model: FrozenModel, snippets: Sequence[Snippet], mean: Rule, parameters: Parameters
) -> dict[Role, Tensor]:
    """Learn the difference [N, H] of each matrix's rows from their mean."""
    next_token = None
    if parameters.next_token_weight or (parameters.output_epochs and model.output is not None):
        next_token = NextToken(model, transfer, mean)
    rng = np.random.default_rng(transfer.seed)
    start_NH = mean(model.matrix_VH.float(), "input")
    if next_token is None or model.tied:
        rows_NH = input_rows(model, snippets, start_NH, parameters, rng, next_token)
        if next_token is not None:
            rows_NH = output_rows(model, snippets, rows_NH, parameters, rng, next_token)
        return {"tied": rows_NH - start_NH, "input": rows_NH - start_NH}
    output_start_NH = mean(next_token.matrix_VH.float(), "output")
    output_NH = output_rows(model, snippets, output_start_NH, parameters, rng, next_token)
    input_NH = input_rows(model, snippets, start_NH, parameters, rng, next_token, output_NH)
    return {"input": input_NH - start_NH, "output": output_NH - output_start_NH}


def input_rows(
    model: FrozenModel,
    snippets: Sequence[Snippet],
    start_NH: Tensor,
    parameters: Parameters,
    rng: np.random.Generator,
    next_token: NextToken | None = None,
    output_NH: Tensor | None = None,
) -> Tensor:
    """Learn input rows [N, H] float32 that give equal states over both segmentations.

    Args:
        model: Frozen model.
        snippets: Snippets with new tokens.
        start_NH: Initial rows.
        parameters: Parameters of the method.
        rng: Source of the order of batches.
        next_token: Output side of the model, if next-token prediction is part of the loss.
        output_NH: Output rows of new tokens; None takes the input rows themselves.
    """
    rows_NH = start_NH.clone().requires_grad_()
    adam = RowAdam(rows_NH, parameters.learning_rate * root_mean_square(model.matrix_VH))
    layers, made = parameters.layers, batches(snippets, _BATCH_TOKENS)
    order = np.concatenate([rng.permutation(len(made)) for _ in range(parameters.epochs)])
    for step, index in enumerate(order):
        batch = made[index]
        with torch.no_grad():
            aim_AH = model.states([s.old for s in batch], [s.old_met for s in batch], layers=layers)
        states_AH = model.states([s.new for s in batch], [s.new_met for s in batch], rows_NH, layers=layers)
        loss = mse_loss(states_AH.float(), aim_AH.float())
        if parameters.next_token_weight and next_token is not None:
            targets_A = _targets(batch)
            predicting_A = targets_A != _NONE
            cost = next_token.cross_entropy(
                states_AH[predicting_A],
                targets_A[predicting_A],
                rows_NH if output_NH is None else output_NH,
            )
            loss = loss + parameters.next_token_weight * (loss / cost).detach() * cost
        loss.backward()
        adam.step(1 - step / len(order))
    return rows_NH.detach()


def output_rows(
    model: FrozenModel,
    snippets: Sequence[Snippet],
    start_NH: Tensor,
    parameters: Parameters,
    rng: np.random.Generator,
    next_token: NextToken,
) -> Tensor:
    """Learn output rows [N, H] float32 that predict new tokens from the frozen model's states.

    These states do not depend on the rows, so they are computed once and used in several passes, as many at
    once as fit into memory.
    """
    if not parameters.output_epochs:
        return start_NH
    rows_NH = start_NH.clone().requires_grad_()
    adam = RowAdam(rows_NH, parameters.output_learning_rate * root_mean_square(next_token.matrix_VH))
    present_N1 = _occurring(snippets, model, len(start_NH))[:, None]
    blocks = list(_blocks(snippets, model.matrix_VH.shape[1], rng))
    for number, block in enumerate(blocks):
        states_AH, targets_A, evidence_A = _predictions(model, block, next_token)
        steps = min(_OUTPUT_STEPS, len(targets_A))
        for epoch in range(parameters.output_epochs):
            for step, at in enumerate(np.array_split(rng.permutation(len(targets_A)), steps)):
                for part in np.array_split(at, -(-len(at) * len(rows_NH) // _LOGITS_AT_ONCE)):
                    new_NH = torch.where(present_N1, rows_NH, start_NH)
                    mean = next_token.cross_entropy(
                        states_AH[part], targets_A[part], new_NH, evidence_A[part]
                    )
                    (mean * len(part) / len(at)).backward()
                done = number * parameters.output_epochs + epoch + step / steps
                adam.step(1 - done / (len(blocks) * parameters.output_epochs))
    return rows_NH.detach()


@torch.no_grad()
def _predictions(
    model: FrozenModel, block: Sequence[Sequence[Snippet]], next_token: NextToken
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute states over the old segmentation [A, H], rows of the next tokens [A], and evidence [A]."""
    states, targets, evidence = [], [], []
    for batch in block:
        targets_A = _targets(batch)
        predicting_A = targets_A != _NONE
        states_AH = model.states([s.old for s in batch], [s.old_met for s in batch])[predicting_A]
        states.append(states_AH)
        targets.append(targets_A[predicting_A])
        evidence.append(next_token.evidence(states_AH))
    return torch.cat(states), torch.cat(targets), torch.cat(evidence)


def _targets(batch: Sequence[Snippet]) -> Tensor:
    """Return the row [A] of the new token after each meeting point; none follows a snippet's last."""
    return torch.from_numpy(
        np.concatenate([[*snippet.new[snippet.new_met[:-1] + 1], _NONE] for snippet in batch])
    )


def _occurring(snippets: Sequence[Snippet], model: FrozenModel, new: int) -> Tensor:
    """Return the mask [N] of the new tokens in snippets."""
    rows = torch.from_numpy(np.concatenate([snippet.new for snippet in snippets]))
    return rows.bincount(minlength=len(model.matrix_VH) + new)[len(model.matrix_VH) :] > 0


def _blocks(
    snippets: Sequence[Snippet], width: int, rng: np.random.Generator
) -> Iterator[list[list[Snippet]]]:
    """Yield blocks of batches in random order, with states that fit into memory."""
    block: list[list[Snippet]] = []
    elements = 0
    made = batches(snippets, _BATCH_TOKENS)
    for index in rng.permutation(len(made)):
        more = width * sum(len(snippet.old_met) for snippet in made[index])
        if block and elements + more > _KEPT_ELEMENTS:
            yield block
            block, elements = [], 0
        block.append(made[index])
        elements += more
    yield block


METHOD = Method(
    summary="rows with which the frozen model reads new tokens as it reads their pieces",
    reference="https://arxiv.org/abs/2505.20133",
    prepare=prepare,
    parameters=Parameters,
    needs_texts=True,
)
