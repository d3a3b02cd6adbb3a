"""Check a changed tokenizer, and a changed model, on the written files.

The tokenizer is checked before a model is built on it: old text keeps its tokens except where the change
explains others. An error names everything that is wrong at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cpt.errors import StageFailed
from cpt.models import loading, vocabulary, weights
from cpt.models.folder_files import ROLES
from cpt.models.token_ids import GENERATION, SUPPRESSED, read_generation, role_of
from cpt.models.tokenizer import FILE, load_tokenizer
from cpt.models.vocabulary import VocabularyTensors
from tokenizer_tools import bpe_file
from tokenizer_tools.bpe_file import MergeTable
from tokenizer_tools.compare_tokenizers import (
    Explains,
    TokenizerComparison,
    chat,
    load_for_transformers,
    round_trip,
    same_ids,
)
from tokenizer_tools.measure import unreachable_ids
from tokenizer_tools.transfer import Transfer
from tokenizer_tools.vocabulary import read_vocabulary

_ID = "_token_id"


@dataclass(frozen=True)
class ModelChecks:
    """The passed checks of a model in a new vocabulary.

    Attributes:
        rows: Number of rows of the embedding; every token's id is below it.
        copied_rows: Number of rows equal to the old ones to the bit, in each matrix.
        new_rows: Number of new rows, finite and, except for a bias, not zero, in each matrix.
        suppressed_rows: Number of rows without a token, never sampled; 0 for models that generate no text.
        token_ids: Number of settings that name a token of the right role.
    """

    rows: int
    copied_rows: int
    new_rows: int
    suppressed_rows: int
    token_ids: int


def check_model(old: Path, new: Path, transfer: Transfer, made: Transfer | None = None) -> ModelChecks:
    """Check a model folder whose vocabulary was changed.

    Args:
        old, new: Model folders.
        transfer: Transfer from the old vocabulary to the new one.
        made: Transfer that says which rows were copied and which made; by default `transfer`.

    Raises:
        StageFailed: A check failed; it names everything that is wrong.
    """
    made = transfer if made is None else made
    was, tensors = (vocabulary.vocabulary_tensors(folder) for folder in (old, new))
    rows = weights.stored_tensors(new)[tensors.input].shape[0]
    wrong = [] if was == tensors else [f"the vocabulary's tensors are {tensors}, were {was}"]
    if len(transfer.target.tokens) > rows:
        wrong.append(f"the tokenizer has ids up to {len(transfer.target.tokens) - 1:,} for {rows:,} rows")
    elif not wrong:
        wrong += _wrong_rows(old, new, tensors, made)
    settings = _token_settings(new)
    wrong += _wrong_ids(_token_settings(old), settings, transfer)
    suppressed = _without_token(transfer, rows) if loading.generates(new) else set()
    if missing := suppressed - set(read_generation(new).get(SUPPRESSED) or ()):
        wrong.append(f"{len(missing):,} rows have no token and may be sampled, such as {min(missing)}")
    if wrong:
        raise StageFailed(f"the model in the new vocabulary fails its checks: {'; '.join(wrong)}")
    return ModelChecks(rows, len(made.shared_target), len(made.new), len(suppressed), len(settings))


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
    """Return the ids in the configuration, as transformers reads it, and in the generation settings."""
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


__all__ = [
    "ADVERSARIAL",
    "ModelChecks",
    "ReplacementChecks",
    "TokenizerChecks",
    "check_extended",
    "check_model",
    "check_pruned",
    "check_replaced",
]

ADVERSARIAL = (
    "".join(map(chr, range(256))),
    "  two   three    four\t\ttabs\r\n\r\n\n  indent\n",
    " " * 300 + "x" + "\n" * 100,
    "naïve Ångström e\u0301 a\u0323\u0302 Z\u0351\u036b\u0343 ﬁ",
    "漢字かな交じり文。한국어 텍스트 ไทย हिन्दी العربية עברית",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪 ☃️ \U0001f9ec",
    "\x00\x01\x1f\x7f\u00a0\u00ad\u200b\u200d\u2028\ufeff\ufffd",
    "3.14159e-10 10^{-6} x_{ij}≤½ \u03b1-\u03b2 µg/mL CamelCaseHTTPServer don't I'LL",
)
"""Text on which tokenizers often fail: bytes, space runs, combining marks, scripts without spaces, emoji."""

_SHOWN = 5
_LOADED = 50
"""Number of texts that transformers encodes too, the adversarial ones first."""
_NEEDED_ROLES = ("eos", "sep", "cls", "mask")
"""Roles that a model trained with them needs: they end texts, frame them, or mask words."""


@dataclass(frozen=True)
class TokenizerChecks:
    """The passed checks of a tokenizer that gained or lost tokens.

    Attributes:
        reachable: Number of tokens whose own spelling is encoded as exactly that token: the new ones, or
            after pruning the kept ones that were reachable before.
        round_trips: Number of texts decoded as by the old tokenizer, or better.
        changed_stretches: Number of stretches of text with other tokens than before, all explained.
        special_tokens: Number of added tokens, special ones among them, that act as before.
    """

    reachable: int
    round_trips: int
    changed_stretches: int
    special_tokens: int


@dataclass(frozen=True)
class ReplacementChecks:
    """The passed checks of a tokenizer that replaces another.

    Attributes:
        round_trips: Number of texts without unknown tokens that do not change after a first encoding and
            decoding, except for white space at their ends.
        exact_round_trips: Number of texts that encoding and decoding does not change.
        roles: Number of roles for which the tokenizer has a special token.
    """

    round_trips: int
    exact_round_trips: int
    roles: int


def check_extended(old: Path, new: Path, samples: Sequence[str] = ()) -> TokenizerChecks:
    """Check a tokenizer that gained tokens.

    Old tokens keep their ids. Every new token can be reached. Text has other tokens only where it holds new
    ones, or, in a BPE, exactly by the appended merges.

    Args:
        old, new: Tokenizer folders.
        samples: Texts to compare them on, besides `ADVERSARIAL`.

    Raises:
        StageFailed: A check failed; it names the checks with examples.
    """
    both = TokenizerComparison(old, new, [*ADVERSARIAL, *samples])
    added = {token: token_id for token, token_id in both.new_ids.items() if token not in both.old_ids}
    moved = (
        f"{token!r} moved from id {token_id} to {both.new_ids.get(token)}"
        for token, token_id in both.old_ids.items()
        if both.new_ids.get(token) != token_id
    )
    unreachable = (
        f"the new token {both.after.id_to_token(token_id)!r} ({token_id}) cannot be reached"
        for token_id in unreachable_ids(read_vocabulary(new), sorted(added.values()))
    )
    changed_stretches, unexplained = both.unexplained(_extension(both, added))
    _require_nothing("extended", [*moved, *unreachable, *unexplained, *_unlike_before(both)])
    return _report(both, len(added), changed_stretches)


def check_pruned(old: Path, new: Path, samples: Sequence[str] = ()) -> TokenizerChecks:
    """Check a tokenizer that lost tokens.

    Ids leave no gap. Kept tokens can be reached if they could before. Text has other tokens only where it
    had removed ones.

    Args:
        old, new: Tokenizer folders.
        samples: Texts to compare them on, besides `ADVERSARIAL`.

    Raises:
        StageFailed: A check failed; it names the checks with examples.
    """
    both = TokenizerComparison(old, new, [*ADVERSARIAL, *samples])
    wrong = [f"{token!r} is new" for token in both.new_ids.keys() - both.old_ids.keys()]
    if sorted(both.new_ids.values()) != list(range(len(both.new_ids))):
        wrong.append("the ids have gaps")
    removed = both.old_ids.keys() - both.new_ids.keys()
    reached = [_reachable(folder, ids) for folder, ids in ((old, both.old_ids), (new, both.new_ids))]
    wrong += [f"{token!r} cannot be reached any more" for token in reached[0] - reached[1] - removed]
    changed_stretches, unexplained = both.unexplained(lambda was, _: not removed.isdisjoint(was))
    _require_nothing("pruned", [*wrong, *unexplained, *_unlike_before(both)])
    return _report(both, len(reached[1]), changed_stretches)


def check_replaced(old: Path, new: Path) -> ReplacementChecks:
    """Check a tokenizer that replaces another.

    It has the special tokens that a model needs, its chat template works, and a second encoding and decoding
    changes nothing.

    Args:
        old, new: Tokenizer folders.

    Raises:
        StageFailed: A check failed; it names the checks with examples.
    """
    roles = [read_vocabulary(folder).roles for folder in (old, new)]
    wrong = [
        f"it has no {role} token, which the model's own has"
        for role in _NEEDED_ROLES
        if role in roles[0] and role not in roles[1]
    ]
    tokenizer, loaded = load_tokenizer(new), load_for_transformers(new, old)
    _, error = chat(loaded, old)
    if error:
        wrong.append(f"its chat template fails: {error}")
    wrong += [
        f"transformers loads another tokenizer than {FILE}: {text[:40]!r} differs"
        for text in ADVERSARIAL
        if not same_ids(loaded, tokenizer, text)
    ]
    once = [round_trip(tokenizer, text) for text in ADVERSARIAL]
    whole = [text for text, unknown in once if not unknown]
    for text in whole:
        if (twice := round_trip(tokenizer, text)[0]).strip() != text.strip():
            wrong.append(f"{text[:40]!r}, which it made of text, it decodes as {twice[:40]!r}")
    _require_nothing("new", wrong)
    exact = sum(found == text for text, (found, _) in zip(ADVERSARIAL, once, strict=True))
    return ReplacementChecks(len(whole), exact, len(roles[1]))


def _extension(both: TokenizerComparison, added: Mapping[str, int]) -> Explains:
    """Return the rule of an extension: new merges make the new tokens of old ones; other kinds add tokens."""
    if json.loads((both.new / FILE).read_text(encoding="utf-8"))["model"]["type"] != "BPE":
        return lambda _, tokens: not added.keys().isdisjoint(tokens)
    file = bpe_file.read_bpe(both.new)
    table, ids = MergeTable(file), file.ids

    def merged(was: Sequence[str], tokens: Sequence[str]) -> bool:
        return table.segment([ids.get(token, -1) for token in was]) == [ids[token] for token in tokens]

    return merged


def _reachable(folder: Path, ids: Mapping[str, int]) -> set[str]:
    unreachable = set(unreachable_ids(read_vocabulary(folder), ids.values()))
    return {token for token, token_id in ids.items() if token_id not in unreachable}


def _unlike_before(both: TokenizerComparison) -> Iterator[str]:
    yield from both.other_round_trips()
    yield from both.other_special_tokens()
    yield from both.otherwise_loaded(both.texts[:_LOADED])


def _report(both: TokenizerComparison, reachable: int, changed_stretches: int) -> TokenizerChecks:
    special = len(both.before.get_added_tokens_decoder())
    return TokenizerChecks(reachable, len(both.texts), changed_stretches, special)


def _require_nothing(what: str, wrong: Sequence[str]) -> None:
    if wrong:
        more = f"; and {len(wrong) - _SHOWN:,} more" if len(wrong) > _SHOWN else ""
        raise StageFailed(f"the {what} tokenizer fails its checks: {'; '.join(wrong[:_SHOWN])}{more}")
