"""Compute the gradient of a step: of language modelling in a sampled vocabulary, and of the first stage.

The graph is cut at the predicted rows. The model's backward pass ends in their gradient, text by text, and
the hypernetwork's begins with it. So its memory does not grow with the texts, and several processes share
both: each predicts its part of the rows and reads its part of the texts. The model's own weights get their
gradients on the way, if they train.

Source of the losses: Minixhofer, Ponti, Vulić (arXiv 2405.07883, sections 3.2 and 3.3).

Shapes: W tokens of a step, P of them with predicted rows, R of these predicted by this process, L pieces at
most, H width of a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import clip_grad_norm_

from cpt.models.batch import PackedBatch, pack
from cpt.training.distributed.collectives import ProcessGroup
from tokenizer_tools.embeddings import Role
from tokenizer_tools.hypernetwork.network import Hypernetwork, SourceRows
from tokenizer_tools.hypernetwork.surface_forms import SurfaceForms
from tokenizer_tools.hypernetwork.training.backbone import ReplacedEmbeddings, TrainedBackbone
from tokenizer_tools.hypernetwork.training.batches import Batch
from tokenizer_tools.hypernetwork.training.settings import HypernetworkTrainingConfig


@dataclass(frozen=True)
class Gradient:
    """Facts about a gradient before it is applied.

    Attributes:
        loss: What was minimised, without the lexical loss.
        norm: Norm of the gradient, before it was clipped.
        figures: Further figures of the step by name.
    """

    loss: float
    norm: float
    figures: Mapping[str, float | int] = field(default_factory=dict)


class Gradients:
    """The gradients of a hypernetwork's parameters, and of the model's."""

    def __init__(
        self,
        network: Hypernetwork,
        backbone: ReplacedEmbeddings,
        config: HypernetworkTrainingConfig,
        processes: ProcessGroup,
        anchor: Mapping[str, Tensor] | None = None,
        trained: TrainedBackbone | None = None,
    ) -> None:
        """Refer to all that computes.

        Args:
            network: Hypernetwork.
            backbone: Model that reads its rows.
            config: Settings.
            processes: Processes that train together.
            anchor: Parameters of the hypernetwork whose predictions the lexical loss compares with; None: it
                compares with the source rows.
            trained: Weights of the model, if they train.
        """
        self._network, self._backbone = network, backbone
        self._config, self._processes = config, processes
        self._anchor, self._trained = anchor, trained

    def of_language_modelling(self, batch: Batch) -> Gradient:
        """Compute the gradient of the mean cross entropy per token, plus the weighted lexical loss."""
        forms, source = batch.forms, self._network.source
        places_P = predicted_places(forms, source.size, copied=self._config.shared == "copied")
        predicted = forms.at(places_P)
        rows, mine = self._predict_share(predicted)
        table = {role: self._table(role, made_RH, mine, places_P, forms) for role, made_RH in rows.items()}
        nats = self._read_texts(batch, table)
        whole = [
            torch.zeros_like(leaf_WH) if leaf_WH.grad is None else leaf_WH.grad for leaf_WH in table.values()
        ]
        self._processes.sum_all(whole)
        mine_R = places_P[mine].to(self._processes.device)
        outputs, gradients = list(rows.values()), [gradient_WH[mine_R] for gradient_WH in whole]
        figures: dict[str, float | int] = {}
        if weight := self._config.lexical_weight:
            lexical = (
                lexical_loss(rows, source, forms, mine)
                if self._anchor is None
                else anchored_loss(rows, self._anchors(predicted), self._processes)
            )
            outputs.append(lexical * weight)
            gradients.append(torch.ones_like(lexical))
            figures["lexical"] = float(self._processes.sum(lexical.detach()))
        torch.autograd.backward(outputs, gradients)
        norm = self._finish()
        nats_of_all = float(self._processes.sum(nats))
        return Gradient(
            loss=nats_of_all / batch.targets,
            norm=norm,
            figures={
                "bits_per_byte": nats_of_all / math.log(2) / batch.target_bytes,
                **figures,
                "bytes_per_token": batch.target_bytes / batch.targets,
                "vocabulary": batch.vocabulary,
                "noise": batch.noise,
                "predicted": len(places_P),
                "truncated": forms.truncated,
            },
        )

    def of_first_stage(self, ids_W: Tensor) -> Gradient:
        """Compute the gradient of the mean squared distance between predicted and true source rows."""
        forms = SurfaceForms(ids_W[:, None], torch.ones(len(ids_W), 1, dtype=torch.bool), 0)
        rows, mine = self._predict_share(forms)
        loss = distance(rows, self._network.source, ids_W[mine], len(ids_W))
        loss.backward()
        return Gradient(float(self._processes.sum(loss.detach().clone())), self._finish())

    def _predict_share(
        self, forms: SurfaceForms, parameters: Mapping[str, Tensor] | None = None
    ) -> tuple[dict[Role, Tensor], slice]:
        """Predict this process's rows [R, H], by other parameters if given; return them and their places."""
        share = self._processes.share(range(len(forms.ids_NL)))
        mine = slice(share[0], share[-1] + 1) if share else slice(0, 0)
        device = self._processes.device
        pieces = forms.ids_NL[mine].to(device), forms.mask_NL[mine].to(device)
        with autocast(self._backbone.model.dtype, device):
            rows: dict[Role, Tensor] = functional_call(self._network, dict(parameters or {}), pieces)
        return rows, mine

    @torch.no_grad()
    def _anchors(self, forms: SurfaceForms) -> dict[Role, Tensor]:
        """Return the rows [R, H] of this process that the anchor predicts.

        They are predicted anew in every step: products of the same shapes give the same bits, so the first
        loss is exactly zero, and no second matrix of the vocabulary is in memory.
        """
        return self._predict_share(forms, self._anchor)[0]

    def _table(
        self, role: Role, made_RH: Tensor, mine: slice, places_P: Tensor, forms: SurfaceForms
    ) -> Tensor:
        """Return all rows [W, H] as a leaf whose gradient is taken: predicted ones, and the source's."""
        made_PH = made_RH.detach()
        if self._processes.count > 1:
            made_PH = made_RH.new_zeros(len(places_P), made_RH.shape[1])
            made_PH[mine] = made_RH.detach()
            self._processes.sum(made_PH)
        if len(places_P) == len(forms.ids_NL):
            return made_PH.requires_grad_()
        rows_WH = self._network.source.rows(role, forms.ids_NL[:, 0].to(made_PH.device)).detach()
        rows_WH[places_P.to(made_PH.device)] = made_PH
        return rows_WH.requires_grad_()

    def _read_texts(self, batch: Batch, table: Mapping[Role, Tensor]) -> Tensor:
        """Take the gradient of this process's texts, and return their sum of nats []."""
        nats = torch.zeros((), device=self._processes.device)
        module = self._backbone
        for texts in self._processes.micro_batches(batch.texts, self._config.micro_batch or len(batch.texts)):
            module.rows = table
            found = module(self._pack(texts).to(self._processes.device))
            (found / batch.targets).backward()
            if self._trained is not None:
                self._trained.accumulate_grads()
            nats += found.detach()
        module.rows = None
        return nats

    def _pack(self, texts: Sequence[np.ndarray]) -> PackedBatch:
        return pack(texts)

    def _finish(self) -> float:
        """Sum the gradients over processes, clip them, and return their norm before that."""
        parameters = list(parameters_of(self._network).values())
        if self._trained is not None:
            parameters += self._trained.weights.values()
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        self._processes.sum_all(each.grad for each in parameters if each.grad is not None)
        return float(clip_grad_norm_(parameters, self._config.clip))


def predicted_places(forms: SurfaceForms, size: int, *, copied: bool) -> Tensor:
    """Return the places [P] of the tokens whose rows are predicted.

    Args:
        forms: Pieces of all tokens.
        size: Number of ids of the source vocabulary.
        copied: True if tokens that are one source token have its row.
    """
    if not copied:
        return torch.arange(len(forms.ids_NL))
    return (~forms.is_source_token(size)).nonzero()[:, 0]


def autocast(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which the hypernetwork computes in the model's precision."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def lexical_loss(rows: Mapping[Role, Tensor], source: SourceRows, forms: SurfaceForms, mine: slice) -> Tensor:
    """Return this process's part of the lexical loss: [] float32.

    The loss is the mean squared distance of rows from the source's, over tokens that are one source token,
    divided by the mean norm of these source rows, and averaged over embeddings.

    Args:
        rows: Predicted rows [R, H] by role.
        source: Source rows.
        forms: Pieces of all W tokens.
        mine: Tokens of this process among them.
    """
    is_one_W = forms.is_source_token(source.size)
    places_R = is_one_W[mine].nonzero()[:, 0]
    ids_W = forms.ids_NL[is_one_W, 0]
    parts = []
    for role, made_RH in embeddings_of(rows):
        device = made_RH.device
        true_RH = source.rows(role, forms.ids_NL[mine][places_R, 0].to(device))
        squared = (made_RH[places_R.to(device)] - true_RH).square().sum()
        norm = source.rows(role, ids_W.to(device)).norm(dim=1).mean() if len(ids_W) else 1.0
        parts.append(squared / max(1, len(ids_W)) / norm)
    return torch.stack(parts).mean()


def anchored_loss(
    rows: Mapping[Role, Tensor], anchors: Mapping[Role, Tensor], processes: ProcessGroup
) -> Tensor:
    """Return this process's part of the anchored lexical loss: [] float32.

    The loss is the mean squared distance of predicted rows from their anchors, divided by the mean norm of
    the anchors, and averaged over embeddings.

    Args:
        rows: Predicted rows [R, H] by role.
        anchors: Rows [R, H] by role that they are kept near.
        processes: Processes that train together.
    """
    parts = []
    for role, made_RH in embeddings_of(rows):
        norms = processes.sum(anchors[role].norm(dim=1).sum())
        squared = (made_RH - anchors[role]).square().sum()
        # the number of rows is in both means, and cancels; there may be no row at all
        parts.append(squared / norms.clamp(min=torch.finfo(norms.dtype).tiny))
    return torch.stack(parts).mean()


def distance(rows: Mapping[Role, Tensor], source: SourceRows, ids_R: Tensor, count: int) -> Tensor:
    """Return the squared distance of rows from those of source tokens, summed over dimensions: [] float32.

    It is divided by the number of tokens of all processes, and averaged over embeddings.

    Args:
        rows: Predicted rows [R, H] by role.
        source: Source rows.
        ids_R: Source ids.
        count: Number of tokens of all processes.
    """
    parts = []
    for role, made_RH in embeddings_of(rows):
        true_RH = source.rows(role, ids_R.to(made_RH.device))
        parts.append((made_RH - true_RH).square().sum() / count)
    return torch.stack(parts).mean()


def embeddings_of(rows: Mapping[Role, Tensor]) -> Iterator[tuple[Role, Tensor]]:
    """Yield the roles and rows of embeddings, without a bias."""
    return ((role, made_RH) for role, made_RH in rows.items() if role != "bias")


def source_ids(plain: np.ndarray, count: int, seed: int, step: int) -> Tensor:
    """Draw the source tokens of a step of the first stage: int64 [count], or all if there are fewer.

    Args:
        plain: Ids that stand for text.
    """
    generator = np.random.default_rng([seed, step, 2])
    return torch.from_numpy(generator.choice(plain, min(count, len(plain)), replace=False))


def parameters_of(network: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that train, by name."""
    return {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
