"""Approximate likelihood matching (ALM): distillation from a model with another tokenizer, chunk by chunk.

Minixhofer et al. 2025, arXiv 2503.20083, section 3. A chunk c is a stretch of text that is whole tokens for
the teacher T and for the student S; ln P(c) is the sum of the log probabilities of its tokens. With

    a = ln P_T(c) / temperature - 1e-6,    b = ln P_S(c) / temperature - 1e-6

the loss of a chunk is the binary cross entropy of the two probabilities that the text goes on with it:

    l(c) = -(e^a · b + (1 - e^a) · ln(1 - e^b)),    dl/db = (e^b - e^a) / (1 - e^b)

so it has no gradient where both models agree; there it is the binary entropy of e^a.

Tokenizers that join more or less text to a token make the same text unequally likely after "the hyper": one
has decided already how the word goes on. So ln P(c) includes the probability that a boundary follows: the sum
over all tokens that begin with a space, a line break or a tab, and all special tokens (*outcome chunk
debiasing*). And a chunk after which the teacher gives a boundary less than a least probability is joined to
the next one.

The loss of a row is the mean over its chunks, by the weights of their tokens; a batch's is the mean over rows
by the weights of their targets, so that neither micro batches nor processes change it (the paper averages
over all chunks of a batch). The paper's code has temperature 100, its ablations favour 5, the default here:
chunks far less likely than e^-5 under both models then have next to no gradient, while at 100 the gradient
tends to (ln P_S - ln P_T) / |ln P_S|, in which long chunks and all but certain ones count as much as others.

Shapes: T tokens of a packed row, P positions of it at which a token is predicted, K tokens of chunks, C
chunks, R rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from cpt.errors import StageFailed
from cpt.training.objectives.base import Loss, ObjectiveConfig

if TYPE_CHECKING:
    import numpy as np
    import torch

    from cpt.models.batch import PackedBatch
    from cpt.models.packed_model import PackedLanguageModel
    from cpt.training.data import PackedSequence
    from cpt.training.objectives.aligned_rows import AlignedRows, Aligner, Side
    from cpt.training.objectives.reference_model import AlignedTeacher, ReferenceModel

_MARGIN = 1e-6
"""Keeps ln(1 - e^b) finite; the paper's code has it, too."""

_LEAST_WEIGHT = 1e-12
"""Less than the weight of any chunk that has one."""

_MUCH, _ALL = 0.5, 1 - 1e-6
"""Shares of the targets that are in no chunk, from which on there is a warning, or an error."""


class Alm(ObjectiveConfig):
    """Settings of approximate likelihood matching."""

    kind: Literal["alm"] = Field(
        description="Give chunks of text the probability that a model with another tokenizer gives them."
    )
    teacher: str = Field(
        default="base",
        description="The stage whose model teaches: the one whose vocabulary was changed, as a rule.",
    )
    temperature: float = Field(
        default=5.0,
        gt=0,
        description="Divisor of the log probabilities of chunks. Chunks of many more nats hardly count.",
    )
    boundary: float | None = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Least probability, under the teacher, that a word ends where a chunk ends; a chunk with "
        "less is joined to the next one. null: chunks are compared as they are, also within words. For text "
        "without spaces between words.",
    )
    cross_entropy: float = Field(
        default=0.0, ge=0, description="Weight of plain cross entropy on every target, besides."
    )

    @property
    def needs_reference_model(self) -> bool:
        """See `ObjectiveConfig`."""
        return True

    @property
    def needs_teacher(self) -> bool:
        """See `ObjectiveConfig`."""
        return True

    def reference_share(self, replay: float) -> float:  # noqa: ARG002
        """See `ObjectiveConfig`."""
        return 1.0

    def reference_model(self, model: Any, teacher: Any) -> ReferenceModel:  # noqa: ARG002
        """See `ObjectiveConfig`; the teacher is an `AlignedTeacher`."""
        reference: AlignedTeacher = teacher
        return reference

    def check_first_step(self, parts: Mapping[str, float]) -> str:
        """See `ObjectiveConfig`; a run without chunks would learn nothing."""
        left_out = parts.get("left_out", 0.0)
        if left_out < _MUCH:
            return ""
        message = f"{left_out:.0%} of the first batch's targets are in no chunk that can be compared"
        hint = (
            "Lower objective.boundary, or set it to null, as for text without spaces between words "
            "(cpt tokenizer compare: --alm-boundary 0)."
        )
        if self.boundary is None:
            hint = "Name a teacher whose tokenizer keeps text as it is (objective.teacher)."
        if left_out > _ALL and not self.cross_entropy:
            raise StageFailed(message, hint=hint)
        return f"{message}: {hint[0].lower()}{hint[1:]}"

    def loss(self, reference: ReferenceModel | None) -> Loss:
        """See `ObjectiveConfig`."""
        teacher: AlignedTeacher = reference  # type: ignore[assignment]
        return AlmLoss(teacher.module, teacher.aligner, self)


class AlmLoss:
    """The loss of the chunks of every row, and `cross_entropy` · -ln p(next token)."""

    def __init__(self, teacher: PackedLanguageModel, aligner: Aligner, settings: Alm) -> None:
        self._teacher, self._aligner, self._settings = teacher, aligner, settings
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="align")
        self._ahead: dict[int, tuple[Sequence[PackedSequence], Future[AlignedRows]]] = {}

    def kind(self, row: PackedSequence) -> int:  # noqa: ARG002
        """See `Loss`."""
        return 0

    def announce(self, rows: Sequence[PackedSequence]) -> None:
        """See `Loss`; rows are aligned in a thread while the model works on those before."""
        self._ahead[id(rows)] = (rows, self._worker.submit(self._align, rows))  # an id lasts as long as rows

    def _align(self, rows: Sequence[PackedSequence]) -> AlignedRows:
        from cpt.training.objectives.aligned_rows import AlignedRows

        return AlignedRows.of(rows, self._aligner, every_target=self._settings.cross_entropy > 0)

    def targets(self, batch: Sequence[PackedSequence]) -> Mapping[str, float]:
        """Return the parts "alm", "left_out" (share of targets in no chunk) and, if any, "cross_entropy"."""
        from cpt.training.data import target_weight

        parts = ("alm", "left_out", *(["cross_entropy"] if self._settings.cross_entropy else []))
        return dict.fromkeys(parts, target_weight(batch))

    def __call__(
        self, module: PackedLanguageModel, packed: PackedBatch, rows: Sequence[PackedSequence]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """See `Loss`."""
        import torch

        _, ahead = self._ahead.pop(id(rows), (rows, None))
        aligned = (ahead.result() if ahead else self._align(rows)).to(packed.input_ids.device)
        with torch.no_grad():
            teacher, teacher_boundary, _ = log_probabilities(
                self._teacher, aligned.teacher_batch, aligned.teacher, self._aligner.teacher_boundaries
            )
        student, student_boundary, labels_P = log_probabilities(
            module, packed, aligned.student, self._aligner.student_boundaries
        )
        chunks = Chunks(teacher, teacher_boundary, student, student_boundary)
        matching, left_out = self._matching(aligned, chunks)
        weight = self._settings.cross_entropy
        if not weight:
            return matching, torch.stack([matching.detach(), left_out])
        nats = -(aligned.label_weights * labels_P).sum()
        return matching + weight * nats, torch.stack([matching.detach(), left_out, nats.detach()])

    def _matching(self, aligned: AlignedRows, chunks: Chunks) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the loss [] of all rows, times their targets, and the weight [] of targets in no chunk."""
        joined = join(chunks, aligned.follows, aligned.special, self._settings.boundary)
        sizes, weights = joined.sums(aligned.sizes), joined.sums(aligned.weights) * joined.whole
        rows = aligned.rows.new_zeros(len(sizes)).scatter_(0, joined.number, aligned.rows)
        losses = chunk_losses(joined.teacher, joined.student, self._settings.temperature)
        means = weights / sizes.clamp(min=1)  # the mean weight of a chunk's tokens
        none = aligned.targets.new_zeros(len(aligned.targets))
        total, share = none.index_add(0, rows, means * losses), none.index_add(0, rows, means)
        of_rows = aligned.targets * total / share.clamp(min=_LEAST_WEIGHT)
        return of_rows.sum(), aligned.targets.sum() - weights.sum()


class Chunks(NamedTuple):
    """Log probabilities of chunks.

    Attributes:
        teacher, student: [C] ln of the probability of each chunk's tokens.
        teacher_boundary, student_boundary: [C] ln of the probability that a boundary follows.
    """

    teacher: torch.Tensor
    teacher_boundary: torch.Tensor
    student: torch.Tensor
    student_boundary: torch.Tensor


class Joined(NamedTuple):
    """Chunks joined to longer ones. Places are as many as the chunks were; the last ones may be empty.

    Attributes:
        number: [C] place of the joined chunk of each chunk.
        whole: [C] 1 for joined chunks that end at a boundary, else 0, by their place, float32.
        teacher, student: [C] ln of their probabilities, with that of the boundary; 0 where not whole.
    """

    number: torch.Tensor
    whole: torch.Tensor
    teacher: torch.Tensor
    student: torch.Tensor

    def sums(self, values_C: torch.Tensor) -> torch.Tensor:
        """Return the sums [C] of a fact about chunks over joined chunks."""
        return values_C.new_zeros(len(values_C)).index_add(0, self.number, values_C)


def log_probabilities(
    module: PackedLanguageModel, packed: PackedBatch, side: Side, boundaries: np.ndarray
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ln P(chunk) [C], ln P(boundary) after each [C], and ln p(label) [P]; all float32 nats.

    Args:
        module: The model.
        packed: The row.
        side: The chunks in it.
        boundaries: Ids of the tokens at a boundary, int64 (tokens,).
    """
    import torch

    from cpt.models.log_probabilities import label_log_probabilities

    def read(hidden_PE: torch.Tensor, head_VE: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        has_row = boundaries < len(head_VE)  # some tokenizers have more tokens
        boundaries_S = torch.from_numpy(boundaries[has_row]).to(side.ends.device)
        return label_log_probabilities(hidden_PE, head_VE, side.labels, boundaries_S)

    labels_P, boundary_P = module(replace(packed, target_positions=side.positions), read)
    chunks_C = labels_P.new_zeros(len(side.ends)).index_add(0, side.chunks, labels_P[side.tokens])
    return chunks_C, boundary_P[side.ends], labels_P


def join(chunks: Chunks, follows_C: torch.Tensor, special_C: torch.Tensor, least: float | None) -> Joined:
    """Join chunks to the next one until a boundary is likely enough, and include its probability.

    After a special token there is a boundary in any case: no token reaches over it. A chunk that has no next
    one, and does not end at a boundary, is not whole.

    Args:
        chunks: Log probabilities.
        follows_C: True if a chunk begins where the one before it ends.
        special_C: True for special tokens.
        least: Least probability of a boundary under the teacher; None: every chunk is left as it is.
    """
    import torch

    teacher, student = chunks.teacher, chunks.student
    closes = torch.ones_like(special_C)
    if least is not None:
        closes = special_C | (chunks.teacher_boundary > (math.log(least) if least else -math.inf))
        inside = closes & ~special_C
        teacher = teacher + torch.where(inside, chunks.teacher_boundary, 0.0)
        student = student + torch.where(inside, chunks.student_boundary, 0.0)
    begins = ~follows_C
    begins[1:] |= closes[:-1]
    joined = Joined(begins.cumsum(0) - 1, closes.float(), teacher, student)
    whole = joined.sums(joined.whole)
    sums = (torch.where(whole > 0, joined.sums(each), 0.0) for each in (teacher, student))
    return Joined(joined.number, whole, *sums)


def chunk_losses(teacher_C: torch.Tensor, student_C: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return the binary cross entropy of chunks in nats, [C], whose gradient goes to the student alone.

    The gradient stands for itself: as a difference of two terms of autograd it would be rounding errors where
    both models agree, and these would move the weights.

    Args:
        teacher_C, student_C: ln of the probabilities of chunks.
        temperature: Divisor of both.
    """
    import torch

    a, b = (each.clamp(max=0) / temperature - _MARGIN for each in (teacher_C, student_C))
    with torch.no_grad():
        likely = b > -math.log(2)  # Mächler 2012, "Accurately computing log(1 - exp(-|a|))"
        log_rest = torch.where(likely, (-torch.expm1(b)).log(), torch.log1p(-b.exp()))
        losses = torch.expm1(a) * log_rest - a.exp() * b
        difference = torch.maximum(a, b).exp() * -torch.expm1(-(b - a).abs())  # |e^b - e^a|
        slopes = difference * (b - a).sign() / -torch.expm1(b)
    return losses + slopes * (b - b.detach())
