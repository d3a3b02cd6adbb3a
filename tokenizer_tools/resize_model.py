"""Give a model folder the rows of another vocabulary, touching nothing but what has a row per token.

Rows of tokens that both vocabularies have are copied bit by bit, rows of new tokens are made by a rule, into
each of the input embedding, the output embedding and its bias that the model stores; tied embeddings stay
tied. Ids in config.json and generation_config.json follow their tokens.

Token ids in a model folder's settings after a change of vocabulary, and positions that depend on them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cpt.errors import DataError, ModelError, StageFailed
from cpt.models import loading, vocabulary, weights
from cpt.models.loading import check_model
from cpt.models.token_ids import (
    GENERATION,
    IdMap,
    never_sampling,
    read_generation,
    read_new_tokens,
    write_new_tokens,
)
from cpt.models.vocabulary import VocabularyTensors
from tokenizer_tools.embeddings import Method, Role, Rule
from tokenizer_tools.transfer import Transfer


def id_map(transfer: Transfer) -> IdMap:
    """Return the new ids by old ones."""
    rows: dict[int, int] = {}
    for source, target in zip(transfer.shared_source.tolist(), transfer.shared_target.tolist(), strict=True):
        rows.setdefault(source, target)
    return IdMap(rows, transfer.source.roles, transfer.target.roles)


def require_same_positions(transfer: Transfer) -> None:
    """Raise if the model would give tokens other positions.

    Raises:
        StageFailed: The model numbers positions from the padding token's id on, and that id changes.
    """
    old = getattr(loading.settings(transfer.model), "pad_token_id", None)
    new = id_map(transfer).settings({"pad_token_id": old}).get("pad_token_id")
    if old != new and loading.counts_positions_from_padding(transfer.model):
        raise StageFailed(
            f"the model in {transfer.model} numbers positions from its padding token's id on: that id must "
            f"stay {old}, in the new tokenizer it is {new}",
            hint="Choose a tokenizer whose padding token has that id.",
        )


def write_token_ids(output: Path, transfer: Transfer, without_token: Sequence[int]) -> None:
    """Write the new ids into the configuration and the generation settings of the new folder.

    Args:
        output: Model folder, its config.json with the old ids.
        transfer: Transfer from the old vocabulary to the new one.
        without_token: Ids that must never be sampled.
    """
    ids = id_map(transfer)
    config = vocabulary.read_config(output)
    defaults = loading.settings(transfer.model).to_dict()
    _update(config, defaults, ids)
    if isinstance(config.get("text_config"), dict):
        _update(config["text_config"], defaults["text_config"], ids)
    vocabulary.write_json(output / "config.json", config)
    settings = read_generation(transfer.model)
    settings |= ids.settings(settings)
    if len(without_token) and loading.generates(transfer.model):
        settings = never_sampling(settings, without_token, config)
    if settings:
        vocabulary.write_json(output / GENERATION, settings)


def _update(config: dict[str, Any], old: Mapping[str, Any], ids: IdMap) -> None:
    """Set the new ids; an id that the configuration left to its default is written only if it changed."""
    new = ids.settings(old)
    config.update({name: value for name, value in new.items() if name in config or value != old[name]})


@dataclass(frozen=True)
class RowPlan:
    """The rows of a new matrix.

    Attributes:
        rows: Number of rows.
        in_place: True if every old token keeps its id. Old rows without a token, which a model may hold in
            reserve, then stay too.
        without_token: [U] int64 ids without a token: padding and gaps.
    """

    rows: int
    in_place: bool
    without_token: np.ndarray


def write_model(
    output: str | Path,
    transfer: Transfer,
    rule: Rule | Method | None,
    *,
    made: Transfer | None = None,
    pad_to_multiple_of: int = 1,
) -> int:
    """Write the model with the rows of the new vocabulary into the folder that already holds its tokenizer.

    Rows without a token (padding, gaps) are the mean of the old rows, so that their logits stay ordinary,
    and are never sampled.

    Args:
        output: Folder with the new tokenizer; receives weights, config.json, generation_config.json and
            new_tokens.json.
        transfer: Transfer from the old vocabulary to the new one; names the old model.
        rule: Initialisation of new rows: a method, with the defaults of its parameters, or the result of its
            `prepare`; None without new tokens.
        made: Transfer whose new tokens the rule makes rows for, some shared ones among them
            (`Method.remake`); by default `transfer`.
        pad_to_multiple_of: Number whose multiple the rows are rounded up to.

    Returns:
        Number of rows of the new embedding.

    Raises:
        ModelError: The model is damaged, or a tensor that is read holds NaN. Files without vocabulary tensors
            are hard-linked, not read, so NaN in them is not found here.
        DataError: The model's vocabulary cannot be changed, or its tokenizer has ids without a row.
        StageFailed: New tokens have no rule, or it leaves a row zero or not finite, or the model numbers
            positions from the id of the padding token and that id changes.
    """
    output = Path(output)
    check_model(transfer.model)
    require_same_positions(transfer)
    made = transfer if made is None else made
    if rule is None and len(made.new):
        raise StageFailed(
            f"{len(made.new):,} new tokens need rows, and there is no rule that makes them",
            hint='Give a method: tokenizer_tools.embeddings.method("subtoken-mean").',
        )
    if isinstance(rule, Method):
        rule = rule.prepare(made, rule.parameters()) if len(made.new) else None
    tensors = vocabulary.vocabulary_tensors(transfer.model)
    stored = weights.stored_tensors(transfer.model)
    plan = plan_rows(transfer, stored[tensors.input].shape[0], pad_to_multiple_of)
    replaced = {}
    for name, role in with_roles(tensors):
        source = weights.load_tensor(stored[name], name)
        if source.isnan().any():
            raise ModelError(f"the tensor {name} in {transfer.model} holds NaN: the model is damaged")
        if role == "bias":
            rows_V1 = make_rows(source.reshape(-1, 1), made, rule, role, plan)
            replaced[name] = rows_V1.reshape(*source.shape[:-1], plan.rows)
        else:
            replaced[name] = make_rows(source, made, rule, role, plan)
    if tensors.tied and tensors.output is not None:
        replaced[tensors.output] = replaced[tensors.input]
    vocabulary.write_resized(transfer.model, output, replaced, plan.rows)
    vocabulary.check_shapes(output)
    write_token_ids(output, transfer, plan.without_token.tolist())
    write_new_tokens(output, _new_tokens(transfer))
    return plan.rows


def _new_tokens(transfer: Transfer) -> set[int]:
    """Return the ids of the target's new tokens, and of tokens that an earlier change added."""
    earlier = set(read_new_tokens(transfer.model))
    kept = zip(transfer.shared_source.tolist(), transfer.shared_target.tolist(), strict=True)
    return {*transfer.new.tolist(), *(target for source, target in kept if source in earlier)}


def with_roles(tensors: VocabularyTensors) -> Iterator[tuple[str, Role]]:
    """Yield the different tensors and their roles."""
    yield tensors.input, "tied" if tensors.tied else "input"
    if tensors.output is not None and not tensors.tied:
        yield tensors.output, "output"
    if tensors.bias is not None:
        yield tensors.bias, "bias"


def plan_rows(transfer: Transfer, old_rows: int, pad_to_multiple_of: int = 1) -> RowPlan:
    """Plan the rows for a model that has `old_rows`.

    Raises:
        DataError: The old tokenizer has ids beyond them.
    """
    used = _used(transfer.source.tokens)
    if len(used) and used[-1] >= old_rows:
        raise DataError(
            f"the tokenizer in {transfer.source.folder} has ids up to {used[-1]:,}, but the model in "
            f"{transfer.model} has {old_rows:,} rows",
            hint="Give the model a row for every token first (transformers' resize_token_embeddings).",
        )
    in_place = np.array_equal(used, transfer.shared_source) and np.array_equal(used, transfer.shared_target)
    needed = max(len(transfer.target.tokens), old_rows if in_place else 0)
    rows = -(-needed // pad_to_multiple_of) * pad_to_multiple_of
    without_token = np.setdiff1d(np.arange(rows), _used(transfer.target.tokens))
    return RowPlan(rows, in_place, without_token)


def make_rows(
    source_VH: torch.Tensor, transfer: Transfer, rule: Rule | None, role: Role, plan: RowPlan
) -> torch.Tensor:
    """Return the new matrix [plan.rows, H], in the source's data type.

    Raises:
        StageFailed: The rule leaves a row zero or not finite.
    """
    made_VH = source_VH.new_empty(plan.rows, source_VH.shape[1])
    made_VH[:] = source_VH.mean(0, dtype=torch.float32)
    if plan.in_place:
        made_VH[: len(source_VH)] = source_VH
    made_VH[torch.from_numpy(transfer.shared_target)] = source_VH[torch.from_numpy(transfer.shared_source)]
    if len(transfer.new):
        assert rule is not None, "new tokens need a rule"
        new_NH = rule(source_VH, role)
        _require_usable(new_NH, transfer, role)
        made_VH[torch.from_numpy(transfer.new)] = new_NH
    return made_VH


def _require_usable(new_NH: torch.Tensor, transfer: Transfer, role: Role) -> None:
    """Raise if a new row is zero or not finite. A zero row gives the logit 0; only a bias may be zero."""
    wrong = ~new_NH.isfinite().all(1)
    if role != "bias":
        wrong |= (new_NH == 0).all(1)
    if wrong.any():
        token_id = int(transfer.new[int(wrong.nonzero()[0])])
        raise StageFailed(
            f"the initialisation leaves {int(wrong.sum()):,} of {len(new_NH):,} new {role} rows zero or not "
            f"finite, such as that of {transfer.target.tokens[token_id]!r} ({token_id})",
            hint="Choose another initialisation method.",
        )


def _used(tokens: Sequence[str | None]) -> np.ndarray:
    return np.array([token_id for token_id, token in enumerate(tokens) if token is not None], dtype=np.int64)
