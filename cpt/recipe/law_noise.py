"""Find the settings in which the runs of a mixture law differ, and of which the law knows nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from cpt.recipe.diff import flat, in_order
from cpt.recipe.journal import Run
from cpt.recipe.law_rows import pretrain_record
from cpt.stages.pretrain.config import PretrainConfig

_SHARE, _AMOUNT, _MIXTURE = "replay", "tokens", "mixture"
"""Settings whose effect a law has as a variable: share and tokens. The base is one too, by its size."""

_HARMLESS = frozenset({"monitor", "micro_batch_sequences"}) | PretrainConfig.not_fingerprinted
"""Settings that change no loss: which texts are read and how often, how a step is divided, what is kept."""

_TRAINING = "pretrain"
"""First part of the keys of the training, which stages of any name share."""


def unmodelled(runs: Sequence[tuple[str, Run]], stage: str | None = None) -> dict[str, list[str]]:
    """Return what runs of one domain differ in, beside the variables of the law, by the name of the domain.

    Named are keys of settings of the training and of the stages before it, and data whose content differs.
    Domains without such differences are left out.

    Args:
        runs: Runs, each with the name of its domain.
        stage: Name of the pretrain stage; needed if a run has several.

    Raises:
        CptError: A run has no such stage.
    """
    domains: dict[str, list[Mapping[str, str]]] = {}
    for domain, run in runs:
        domains.setdefault(domain, []).append(_settings(run, stage))
    found = {
        domain: [key for key in in_order(*own) if len({each.get(key) for each in own}) > 1]
        for domain, own in domains.items()
    }
    return {domain: keys for domain, keys in found.items() if keys}


def _settings(run: Run, stage: str | None) -> dict[str, str]:
    """Return what a training followed from, as JSON by dotted key."""
    training = pretrain_record(run, stage)
    before = takewhile(lambda each: each.name != training.name, run.finished().values())
    found: dict[str, Any] = {}
    for record in before:
        found |= {f"{record.name}.{key}": value for key, value in flat(record.config).items() if key}
        found |= {f"the content of {name}": content for name, content in record.references.items()}
    own = {key: value for key, value in flat(training.config).items() if key and not _is_modelled(key)}
    found |= {f"{_TRAINING}.{key}": value for key, value in own.items()}
    return {key: json.dumps(value, sort_keys=True) for key, value in found.items()}


def _is_modelled(key: str) -> bool:
    parts = key.split(".")
    return parts[0] in (_SHARE, _AMOUNT, *_HARMLESS) or (parts[0] == _MIXTURE and parts[-1] == _SHARE)
