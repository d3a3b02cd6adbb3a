"""What goes with a merged model's weights: configuration, tokenizer, generation settings, chat template."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

from cpt.models import tokenizer as files
from cpt.models.loading import generates, read_config
from cpt.models.token_ids import GENERATION, SUPPRESSED, IdMap, never_sampling, read_generation
from cpt.models.vocabulary import write_json
from merging.candidates import Candidate
from merging.plan import Plan


def write_settings(plan: Plan, output: Path) -> None:
    """Write configuration, tokenizer, generation settings and chat template beside the weights."""
    _write_config(plan, output)
    _write_tokenizer(plan, output)
    _write_generation(plan, output)


def _write_config(plan: Plan, output: Path) -> None:
    config = copy.deepcopy(dict(plan.vocabulary_of.config))
    config["torch_dtype" if "torch_dtype" in config else "dtype"] = str(plan.dtype).removeprefix("torch.")
    text = config.get("text_config")
    parts = [part for part in (config, text) if isinstance(part, dict)]
    for part in parts:
        if "vocab_size" in part:
            part["vocab_size"] = plan.rows
    if (ids := _id_map(plan, plan.vocabulary_of)) is not None:
        for part in parts:
            part.update(ids.settings(part))
    if plan.tied is False and plan.vocabulary_of.tensors.tied:
        config["tie_word_embeddings"] = False
    write_json(output / "config.json", config)


def _write_tokenizer(plan: Plan, output: Path) -> None:
    source = plan.vocabulary_of.tokenizer_folder
    files.copy_settings(source, output)
    if plan.tokenizer is None:
        shutil.copyfile(source / files.FILE, output / files.FILE)
    else:
        files.write_data(output, plan.tokenizer)
        files.load_as_written(output)
        (output / files.ADDED).unlink(missing_ok=True)
    template = plan.request.chat_template
    if template is None and plan.settings_of is plan.vocabulary_of:
        return
    settings = files.read_settings(output / files.CONFIG)
    if settings.pop("chat_template", None) is not None:
        files.write_settings(output / files.CONFIG, settings)
    (output / "chat_template.json").unlink(missing_ok=True)
    (output / files.TEMPLATE).unlink(missing_ok=True)
    template = files.chat_template(plan.settings_of.tokenizer_folder) if template is None else template
    if template is not None:
        (output / files.TEMPLATE).write_text(template, encoding="utf-8")


def _write_generation(plan: Plan, output: Path) -> None:
    """Write the generation settings with ids of the result; what has no token there is never sampled."""
    settings = read_generation(plan.settings_of.folder)
    if (ids := _id_map(plan, plan.settings_of)) is not None:
        settings |= ids.settings(settings)
    unused = _never_sampled(plan)
    if unused and generates(plan.vocabulary_of.folder):
        settings = never_sampling(settings, unused, read_config(output))
    if settings:
        write_json(output / GENERATION, settings)


def _never_sampled(plan: Plan) -> set[int]:
    """Return the rows without a token that must never be sampled.

    Of a union all; a parent's vocabulary keeps those that the parent itself keeps from being sampled.
    """
    unused = set(range(plan.rows)) - set(plan.ids.values())
    if plan.tokenizer is None:
        unused &= set(read_generation(plan.vocabulary_of.folder).get(SUPPRESSED) or ())
    return unused


def _id_map(plan: Plan, parent: Candidate) -> IdMap | None:
    """Return the result's ids by a parent's; None if all are the same.

    Every id follows its token, a special one that the result spells otherwise by its role. Rows without a
    token keep their place in the vocabulary that the result begins with, unless a token is there now.
    """
    if plan.alignment is None or parent.vocabulary.same_rows(plan.alignment.target):
        return None
    target = plan.alignment.target
    ids, used = target.ids, set(target.ids.values())
    by_role = {token: as_ for name, token, as_ in plan.alignment.by_role if name == parent.name}
    rows = {}
    if parent is plan.vocabulary_of:
        rows = {row: row for row in range(target.rows) if row not in used}
    for token, number in parent.tokens.items():
        if (spelt := by_role.get(token, token)) in ids:
            rows[number] = ids[spelt]
    return IdMap(rows, {}, {role: ids[token] for role, token in target.roles.items() if token in ids})
