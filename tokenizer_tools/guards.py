"""What must hold of a changed tokenizer, checked on the real files before any model is built on them.

Old text keeps its tokens except where the change explains others. Everything that is wrong is told at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cpt.errors import StageFailed
from cpt.models.tokenizer import FILE, load_tokenizer
from tokenizer_tools import bpe_file
from tokenizer_tools.before_after import (
    BeforeAfter,
    Explains,
    chat,
    load_for_transformers,
    round_trip,
    same_ids,
)
from tokenizer_tools.extension.continued_bpe import MergeTable
from tokenizer_tools.model_guards import ModelGuardReport, check_model
from tokenizer_tools.report import unreachable_ids
from tokenizer_tools.vocabulary import read_vocabulary

__all__ = [
    "ADVERSARIAL",
    "GuardReport",
    "ModelGuardReport",
    "ReplacementReport",
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
"""Text on which tokenizers go wrong: bytes, space runs, combining marks, scripts without spaces, emoji."""

_SHOWN = 5
_LOADED = 50
"""Texts that transformers encodes too, the hostile ones first."""
_NEEDED_ROLES = ("eos", "sep", "cls", "mask")
"""Roles that a model trained with them cannot do without: they end texts, frame them, or hide words."""


@dataclass(frozen=True)
class GuardReport:
    """What was checked of a tokenizer that gained or lost tokens.

    Attributes:
        reachable: tokens whose own spelling is encoded as exactly that token: the new ones; after pruning,
            the kept ones of which it was true before.
        round_trips: texts decoded as the old tokenizer decodes them, or better.
        changed_stretches: stretches of text with other tokens than before, all as the change explains.
        special_tokens: added tokens, special ones among them, that act as before.
    """

    reachable: int
    round_trips: int
    changed_stretches: int
    special_tokens: int


@dataclass(frozen=True)
class ReplacementReport:
    """What was checked of a tokenizer that takes another's place.

    Attributes:
        round_trips: texts without unknown tokens that, encoded and decoded once, stay what they then are, but
            for white space at their ends.
        exact_round_trips: texts that encoding and decoding leaves as they are.
        roles: roles for which the tokenizer has a special token.
    """

    round_trips: int
    exact_round_trips: int
    roles: int


def check_extended(old: Path, new: Path, samples: Sequence[str] = ()) -> GuardReport:
    """Check a tokenizer that gained tokens.

    Old tokens keep their ids; every new one can be reached; text has other tokens only where new ones are
    in it, or, in a BPE, exactly as the appended merges make them.

    Args:
        old, new: tokenizer folders.
        samples: text on which they are compared, besides `ADVERSARIAL`.

    Raises:
        StageFailed: says which guards failed, with examples.
    """
    both = BeforeAfter(old, new, [*ADVERSARIAL, *samples])
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


def check_pruned(old: Path, new: Path, samples: Sequence[str] = ()) -> GuardReport:
    """Check a tokenizer that lost tokens.

    Ids leave no gap; kept tokens can be reached if they could before; text has other tokens only where it
    had removed ones.

    Args:
        old, new: tokenizer folders.
        samples: text on which they are compared, besides `ADVERSARIAL`.

    Raises:
        StageFailed: says which guards failed, with examples.
    """
    both = BeforeAfter(old, new, [*ADVERSARIAL, *samples])
    wrong = [f"{token!r} is new" for token in both.new_ids.keys() - both.old_ids.keys()]
    if sorted(both.new_ids.values()) != list(range(len(both.new_ids))):
        wrong.append("the ids have gaps")
    removed = both.old_ids.keys() - both.new_ids.keys()
    reached = [_reachable(folder, ids) for folder, ids in ((old, both.old_ids), (new, both.new_ids))]
    wrong += [f"{token!r} cannot be reached any more" for token in reached[0] - reached[1] - removed]
    changed_stretches, unexplained = both.unexplained(lambda was, _: not removed.isdisjoint(was))
    _require_nothing("pruned", [*wrong, *unexplained, *_unlike_before(both)])
    return _report(both, len(reached[1]), changed_stretches)


def check_replaced(old: Path, new: Path) -> ReplacementReport:
    """Check a tokenizer that takes another's place.

    It has the special tokens that a model needs, its chat template works, and what it makes of a text, once
    decoded, it makes again.

    Args:
        old, new: tokenizer folders.

    Raises:
        StageFailed: says which guards failed, with examples.
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
    return ReplacementReport(len(whole), exact, len(roles[1]))


def _extension(both: BeforeAfter, added: Mapping[str, int]) -> Explains:
    """New merges, applied to the old tokens, make the new ones; other kinds have new tokens there."""
    if json.loads((both.new / FILE).read_text(encoding="utf-8"))["model"]["type"] != "BPE":
        return lambda _, tokens: not added.keys().isdisjoint(tokens)
    file = bpe_file.read(both.new)
    table, ids = MergeTable(file), file.ids

    def merged(was: Sequence[str], tokens: Sequence[str]) -> bool:
        return table.segment([ids.get(token, -1) for token in was]) == [ids[token] for token in tokens]

    return merged


def _reachable(folder: Path, ids: Mapping[str, int]) -> set[str]:
    unreachable = set(unreachable_ids(read_vocabulary(folder), ids.values()))
    return {token for token, token_id in ids.items() if token_id not in unreachable}


def _unlike_before(both: BeforeAfter) -> Iterator[str]:
    yield from both.other_round_trips()
    yield from both.other_special_tokens()
    yield from both.otherwise_loaded(both.texts[:_LOADED])


def _report(both: BeforeAfter, reachable: int, changed_stretches: int) -> GuardReport:
    special = len(both.before.get_added_tokens_decoder())
    return GuardReport(reachable, len(both.texts), changed_stretches, special)


def _require_nothing(what: str, wrong: Sequence[str]) -> None:
    if wrong:
        more = f"; and {len(wrong) - _SHOWN:,} more" if len(wrong) > _SHOWN else ""
        raise StageFailed(f"the {what} tokenizer fails its guards: {'; '.join(wrong[:_SHOWN])}{more}")
