"""What must hold of a model folder whose vocabulary was changed, checked on what was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from cpt.errors import StageFailed
from cpt.models import loading, vocabulary, weights
from cpt.models.folder_files import ROLES
from cpt.models.token_ids import GENERATION, SUPPRESSED, read_generation, role_of
from cpt.models.vocabulary import VocabularyTensors
from tokenizer_tools.transfer import Transfer

_ID = "_token_id"


@dataclass(frozen=True)
class ModelGuardReport:
    """What was checked.

    Attributes:
        rows: of the embedding; every token's id is below it.
        copied_rows: rows that equal the old ones to the bit, in each matrix.
        new_rows: rows that are finite, and but for a bias not zero, in each matrix.
        suppressed_rows: rows without a token, never sampled; 0 for models that do not generate text.
        token_ids: settings that name a token, of the right role.
    """

    rows: int
    copied_rows: int
    new_rows: int
    suppressed_rows: int
    token_ids: int


def check_model(old: Path, new: Path, transfer: Transfer) -> ModelGuardReport:
    """Check a model folder whose vocabulary was changed.

    Args:
        old, new: model folders.
        transfer: from the old vocabulary to the new one.

    Raises:
        StageFailed: says everything that is wrong.
    """
    was, tensors = (vocabulary.vocabulary_tensors(folder) for folder in (old, new))
    rows = weights.stored_tensors(new)[tensors.input].shape[0]
    wrong = [] if was == tensors else [f"the vocabulary's tensors are {tensors}, were {was}"]
    if len(transfer.target.tokens) > rows:
        wrong.append(f"the tokenizer has ids up to {len(transfer.target.tokens) - 1:,} for {rows:,} rows")
    elif not wrong:
        wrong += _wrong_rows(old, new, tensors, transfer)
    settings = _token_settings(new)
    wrong += _wrong_ids(_token_settings(old), settings, transfer)
    suppressed = _without_token(transfer, rows) if loading.generates(new) else set()
    if missing := suppressed - set(read_generation(new).get(SUPPRESSED) or ()):
        wrong.append(f"{len(missing):,} rows have no token and may be sampled, such as {min(missing)}")
    if wrong:
        raise StageFailed(f"the model in the new vocabulary fails its guards: {'; '.join(wrong)}")
    return ModelGuardReport(
        rows, len(transfer.shared_target), len(transfer.new), len(suppressed), len(settings)
    )


def _wrong_rows(old: Path, new: Path, tensors: VocabularyTensors, transfer: Transfer) -> Iterator[str]:
    biases = {tensors.bias, *(name for name, of in tensors.copies.items() if of == tensors.bias)}
    source, target, made = map(
        torch.from_numpy, (transfer.shared_source, transfer.shared_target, transfer.new)
    )
    stored = [weights.stored_tensors(folder) for folder in (old, new)]
    for name in tensors.names:
        before, after = (weights.load_tensor(found[name], name) for found in stored)
        if name in biases:
            before, after = before.reshape(-1, 1), after.reshape(-1, 1)
        changed = (after[target] != before[source]).any(1)
        if changed.any():
            yield f"{int(changed.sum()):,} copied rows of {name} differ, such as {int(target[changed][0])}"
        unusable = ~after[made].isfinite().all(1)
        if name not in biases:
            unusable |= (after[made] == 0).all(1)
        if unusable.any():
            yield f"{int(unusable.sum()):,} new rows of {name} are zero or not finite"


def _wrong_ids(
    old: Mapping[str, list[int]], new: Mapping[str, list[int]], transfer: Transfer
) -> Iterator[str]:
    named = {token_id for token_id, token in enumerate(transfer.target.tokens) if token is not None}
    for setting, ids in new.items():
        if strangers := [token_id for token_id in ids if token_id >= 0 and token_id not in named]:
            yield f"{setting} is {strangers}, which names no token"
    for role in ROLES:
        source, target = (found.roles.get(role) for found in (transfer.source, transfer.target))
        if source is not None and target is not None:
            for setting, ids in old.items():
                if (
                    role_of(setting.rpartition(" ")[2]) == role
                    and source in ids
                    and target not in new.get(setting, ())
                ):
                    yield f"{setting} is {new.get(setting)}, the tokenizer's {role} token is {target}"
    start = f"config.json: decoder_start{_ID}"
    if start in old and start not in new:
        yield f"{start} names no token any more, so the decoder cannot start"


def _token_settings(folder: Path) -> dict[str, list[int]]:
    """Ids in the configuration, as transformers reads it, and in the generation settings, by setting."""
    config = loading.settings(folder).to_dict()
    parts = {
        "config.json: ": config,
        "config.json: text_config: ": config.get("text_config") or {},
        f"{GENERATION}: ": read_generation(folder),
    }
    return {
        f"{part}{name}": value if isinstance(value, list) else [value]
        for part, settings in parts.items()
        for name, value in settings.items()
        if name.endswith(_ID) and value is not None
    }


def _without_token(transfer: Transfer, rows: int) -> set[int]:
    tokens = transfer.target.tokens
    return {token_id for token_id in range(rows) if token_id >= len(tokens) or tokens[token_id] is None}
