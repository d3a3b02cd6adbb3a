"""Predict a token's embedding rows by a small encoder over the source rows of its pieces.

Source: Minixhofer, Ponti, Vulić, "Zero-Shot Tokenizer Transfer" (arXiv 2405.07883, section 3.3). Source rows,
scaled to mean 0 and one standard deviation, pass a projector block and an encoder with layer norms after its
blocks, as in RoBERTa; a head for each matrix reads the first position. The variant `residual` follows
Minixhofer, Vulić, Ponti (arXiv 2503.20083): heads predict a change of the first piece's row and start at
zero, so a token of one piece starts as a copy.

Most tokens have one to three pieces. The pieces of all tokens are therefore packed in one list, sorted by the
length of their tokens, and no product is spent on padding. Only attention looks at one length at a time. The
last layer computes only first positions, since nothing else is read.

Shapes: N tokens, L pieces at most, P pieces in total, U different pieces, D width of all source rows of a
token side by side, C width of the encoder, H width of one matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokenizer_tools.embeddings import Role
from tokenizer_tools.hypernetwork.settings import HypernetworkConfig
from tokenizer_tools.hypernetwork.surface_forms import FALLBACK_ROWS

_ANCHORS = 2048
_INPUT_STD = {"zett": 0.02, "residual": 1.0}
_INITIAL_STD = 0.02
_PROJECTOR_EPS, _ENCODER_EPS = 1e-6, 1e-5
_SMALLEST_STD = 1e-8
_COLUMNS = 512


class Hypernetwork(nn.Module):
    """A hypernetwork for one source model. Its weights start at random, from torch's generator."""

    def __init__(self, config: HypernetworkConfig, rows: Mapping[Role, Tensor]) -> None:
        """Build the network and fit its scalers to the source rows.

        Args:
            config: Architecture.
            rows: Source rows by role, each [V, H], a bias [V, 1], of any floating type. V is the number of
                ids of the source vocabulary; rows that pad a matrix are left out. They are kept as they are,
                and are not saved with the weights.

        Raises:
            ValueError: There is no embedding, or the heads do not divide the encoder's width.
        """
        super().__init__()
        self.config = config
        self.source = SourceRows(rows)
        hidden, heads = config.sizes(rows[self.source.embeddings[0]].shape[1])
        inner = config.feed_forward * hidden
        self.input = nn.Sequential(nn.Linear(self.source.width, hidden), Projector(hidden, inner))
        self.positions = nn.Parameter(torch.empty(config.pieces, hidden))
        self.input_norm = nn.LayerNorm(hidden, eps=_ENCODER_EPS)
        self.layers = nn.ModuleList(EncoderLayer(hidden, heads, inner) for _ in range(config.layers))
        self.heads = nn.ModuleDict()
        for role, rows_VH in rows.items():
            last = nn.Linear(hidden, rows_VH.shape[1])
            self.heads[role] = last if role == "bias" else nn.Sequential(Projector(hidden, inner), last)
            self.register_buffer(f"scale_{role}", torch.ones(rows_VH.shape[1]))
            self.register_buffer(f"shift_{role}", torch.zeros(rows_VH.shape[1]))
        self._initialise()

    def forward(self, ids_NL: Tensor, mask_NL: Tensor) -> dict[Role, Tensor]:
        """Predict the rows of tokens: [N, H] in float32 by role, [N, 1] for a bias.

        Args:
            ids_NL: Ids of the pieces, as in `SurfaceForms`. At most `config.pieces` are taken.
            mask_NL: True for pieces, which come first in every row.

        Raises:
            ValueError: A token has no piece.
        """
        packed = pack(ids_NL, mask_NL)
        pooled_NC = self._encode(packed)[packed.places_N]
        rows: dict[Role, Tensor] = {}
        for role in self.source.roles:
            scale_H, shift_H = self.get_buffer(f"scale_{role}"), self.get_buffer(f"shift_{role}")
            rows[role] = self.heads[role](pooled_NC).float() * scale_H + shift_H
            if self.config.variant == "residual":
                rows[role] = self._base(role, ids_NL, mask_NL) + rows[role]
        return rows

    def _encode(self, packed: Packed) -> Tensor:
        """Return the state [N, C] of each token's first position, in the order of the packed tokens."""
        ids_U, places_P = packed.ids_P.unique(return_inverse=True)
        # The input block sees no positions, so once per different piece is enough. Unlike indexing,
        # `embedding` has a deterministic gradient on every device.
        inputs_UC = self.input(self.source.units(ids_U) * _INPUT_STD[self.config.variant])
        states_PC = F.embedding(places_P, inputs_UC) + F.embedding(packed.positions_P, self.positions)
        states_PC = self.input_norm(states_PC)
        *others, last = cast(Sequence[EncoderLayer], self.layers)
        for layer in others:
            states_PC = layer(states_PC, packed)
        return last(states_PC, packed, only_first=True)

    def _base(self, role: Role, ids_NL: Tensor, mask_NL: Tensor) -> Tensor:
        """Return the rows [N, H] that a residual changes, in float32."""
        base_NH = self.source.rows(role, ids_NL[:, 0])
        if self.config.residual == "mean":
            # As a change of the first row, a mean of equal rows is exactly that row.
            shares_NL = mask_NL / mask_NL.sum(1, keepdim=True)
            first_NH = base_NH
            for at in range(1, ids_NL.shape[1]):
                change_NH = self.source.rows(role, ids_NL[:, at]) - first_NH
                base_NH = base_NH + shares_NL[:, at, None] * change_NH
        return base_NH

    @torch.no_grad()
    def _initialise(self) -> None:
        """Draw weights as RoBERTa does, and fit the scalers of the heads."""
        nn.init.normal_(self.positions, std=_INITIAL_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=_INITIAL_STD)
                nn.init.zeros_(module.bias)
        if self.config.variant == "residual":
            for role in self.source.roles:
                head = self.heads[role]
                last = cast(nn.Linear, head[-1] if isinstance(head, nn.Sequential) else head)
                nn.init.zeros_(last.weight)
                std_H = self.source.std(role)
                self.get_buffer(f"scale_{role}").copy_(std_H * self.config.residual_scale / sqrt(len(std_H)))
        else:
            self._match_anchors()

    def _match_anchors(self) -> None:
        """Give the predictions of single source tokens the mean and standard deviation of their rows."""
        ids_A1 = torch.randperm(self.source.size)[:_ANCHORS, None]
        for role, made_AH in self(ids_A1, torch.ones_like(ids_A1, dtype=torch.bool)).items():
            std_H, mean_H = torch.std_mean(self.source.rows(role, ids_A1[:, 0]), dim=0, correction=0)
            made_std_H, made_mean_H = torch.std_mean(made_AH, dim=0, correction=0)
            scale_H = std_H / made_std_H.clamp(min=_SMALLEST_STD)
            self.get_buffer(f"scale_{role}").copy_(scale_H)
            self.get_buffer(f"shift_{role}").copy_(mean_H - scale_H * made_mean_H)


class SourceRows(nn.Module):
    """The rows of the source tokens, and learnt rows for bytes that the source tokenizer cannot spell."""

    def __init__(self, rows: Mapping[Role, Tensor]) -> None:
        super().__init__()
        self.roles: tuple[Role, ...] = tuple(rows)
        self.embeddings: tuple[Role, ...] = tuple(role for role in rows if role != "bias")
        if not self.embeddings:
            raise ValueError("a hypernetwork needs the rows of an embedding")
        self.size = len(rows[self.embeddings[0]])
        self.widths = [rows[role].shape[1] for role in self.embeddings]
        self.width = sum(self.widths)
        for role, rows_VH in rows.items():
            self.register_buffer(role, rows_VH.detach(), persistent=False)
            parts = [torch.std_mean(part.float(), 0, correction=0) for part in rows_VH.split(_COLUMNS, 1)]
            std_H, mean_H = (torch.cat(each) for each in zip(*parts, strict=True))
            self.register_buffer(f"std_{role}", std_H)
            self.register_buffer(f"mean_{role}", mean_H)
        # In units of the standard deviation, so that a learning rate fits every model.
        self.bytes = nn.Parameter(torch.randn(FALLBACK_ROWS, self.width))

    def std(self, role: Role) -> Tensor:
        """Return the standard deviation [H] of each dimension."""
        return self.get_buffer(f"std_{role}")

    def units(self, ids_U: Tensor) -> Tensor:
        """Return rows side by side [U, D] in float32, scaled to mean 0 and standard deviation 1."""
        known_U = ids_U.clamp(max=self.size - 1)
        units_UD = torch.cat(
            [
                (self.get_buffer(role)[known_U].float() - self.get_buffer(f"mean_{role}"))
                / self.std(role).clamp(min=_SMALLEST_STD)
                for role in self.embeddings
            ],
            dim=1,
        )
        return torch.where(self._is_byte(ids_U), self._bytes(ids_U), units_UD)

    def rows(self, role: Role, ids_N: Tensor) -> Tensor:
        """Return rows of one matrix [N, H] in float32. The bias of a byte is the mean bias."""
        rows_NH = self.get_buffer(role)[ids_N.clamp(max=self.size - 1)].float()
        mean_H = self.get_buffer(f"mean_{role}")
        if role == "bias":
            return torch.where(self._is_byte(ids_N), mean_H, rows_NH)
        start = sum(self.widths[: self.embeddings.index(role)])
        units_NH = self._bytes(ids_N)[:, start : start + len(mean_H)]
        return torch.where(self._is_byte(ids_N), mean_H + self.std(role) * units_NH, rows_NH)

    def _is_byte(self, ids_N: Tensor) -> Tensor:
        return (ids_N >= self.size)[:, None]

    def _bytes(self, ids_N: Tensor) -> Tensor:
        return F.embedding((ids_N - self.size).clamp(min=0), self.bytes)


class Projector(nn.Module):
    """LN(gelu(W2 gelu(W1 x)) + x), with the tanh form of gelu."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width, eps=_PROJECTOR_EPS)

    def forward(self, states_PC: Tensor) -> Tensor:
        """Transform each state by itself: [P, C] -> [P, C]."""
        inner_PF = F.gelu(self.up(states_PC), approximate="tanh")
        return self.norm(F.gelu(self.down(inner_PF), approximate="tanh") + states_PC)


class EncoderLayer(nn.Module):
    """Attention among the pieces of a token, then a feed-forward block; a layer norm after each."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key_value = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=_ENCODER_EPS)
        self.up, self.down = nn.Linear(width, inner), nn.Linear(inner, width)
        self.norm = nn.LayerNorm(width, eps=_ENCODER_EPS)

    def forward(self, states_PC: Tensor, packed: Packed, *, only_first: bool = False) -> Tensor:
        """Transform packed states [P, C]; with `only_first`, return those of first positions [N, C]."""
        asking_QC = states_PC[packed.first_N] if only_first else states_PC
        seen_QC = self._attend(self.query(asking_QC), self.key_value(states_PC), packed, only_first)
        asking_QC = self.attention_norm(asking_QC + self.output(seen_QC))
        return self.norm(asking_QC + self.down(F.gelu(self.up(asking_QC))))

    def _attend(self, query_QC: Tensor, key_value_PE: Tensor, packed: Packed, only_first: bool) -> Tensor:
        """Attend within each token, all tokens of one length at a time. E is twice C."""
        pieces = [length * count for length, count in packed.groups]
        asked = [count for _, count in packed.groups] if only_first else pieces
        # `split` and not slices: the gradient of a slice is a matrix of zeros of the whole size.
        groups = zip(packed.groups, query_QC.split(asked), key_value_PE.split(pieces), strict=True)
        seen = [self._attend_alike(*group) for group in groups]
        return torch.cat(seen) if seen else query_QC

    def _attend_alike(self, group: tuple[int, int], query_QC: Tensor, key_value_PE: Tensor) -> Tensor:
        """Attend within tokens of one length."""
        length, count = group
        key_PC, value_PC = key_value_PE.chunk(2, dim=1)
        if length == 1:  # a piece alone sees only itself
            return value_PC
        query, key, value = (
            part.view(count, -1, self.heads, part.shape[1] // self.heads).transpose(1, 2)
            for part in (query_QC, key_PC, value_PC)
        )
        # Plain products: for so few pieces the fused kernel's gradient takes twice their time in bfloat16.
        scores = query @ key.transpose(2, 3) / sqrt(query.shape[-1])
        made = scores.softmax(-1).to(value.dtype) @ value
        return made.transpose(1, 2).reshape(query_QC.shape)


@dataclass(frozen=True)
class Packed:
    """Pieces of N tokens without padding, sorted by the length of their tokens.

    Attributes:
        ids_P: Ids of the pieces.
        positions_P: Position of each piece in its token.
        first_N: Index of the first piece of each packed token.
        places_N: Index among the packed tokens of each token as given.
        groups: Length and number of the tokens of each length, ascending.
    """

    ids_P: Tensor
    positions_P: Tensor
    first_N: Tensor
    places_N: Tensor
    groups: Sequence[tuple[int, int]]


def pack(ids_NL: Tensor, mask_NL: Tensor) -> Packed:
    """Pack the pieces of tokens.

    Raises:
        ValueError: A token has no piece.
    """
    lengths_N = mask_NL.sum(1)
    counts = torch.bincount(lengths_N, minlength=1).tolist()
    if counts[0]:
        raise ValueError(f"{counts[0]:,} tokens have no piece")
    sorted_N, order_N = lengths_N.sort(stable=True)
    sorted_mask_NL = mask_NL[order_N]
    positions_NL = torch.arange(mask_NL.shape[1], device=mask_NL.device).expand_as(mask_NL)
    return Packed(
        ids_P=ids_NL[order_N][sorted_mask_NL],
        positions_P=positions_NL[sorted_mask_NL],
        first_N=sorted_N.cumsum(0) - sorted_N,
        places_N=order_N.argsort(),
        groups=[(length, count) for length, count in enumerate(counts) if count],
    )
