"""What goes with a merged model's weights: configuration, tokenizer, generation settings, chat template."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpt.model_folder import tokenizer as files
from cpt.model_folder.vocabulary import write_json
from merging.candidates import Candidate
from merging.plan import Plan

_GENERATION = "generation_config.json"


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
    if plan.tied is False and plan.vocabulary_of.tensors.tied:
        config["tie_word_embeddings"] = False
    write_json(output / "config.json", config)


def _write_tokenizer(plan: Plan, output: Path) -> None:
    source = plan.vocabulary_of.folder
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
    template = files.chat_template(plan.settings_of.folder) if template is None else template
    if template is not None:
        (output / files.TEMPLATE).write_text(template, encoding="utf-8")


def _write_generation(plan: Plan, output: Path) -> None:
    """The generation settings, their tokens numbered as in the result."""
    settings = files.read_settings(plan.settings_of.folder / _GENERATION)
    if settings:
        ids = _numbers(plan)
        write_json(
            output / _GENERATION, {key: _renumbered(key, value, ids) for key, value in settings.items()}
        )


def _numbers(plan: Plan) -> Mapping[int, int] | None:
    """The result's id by the id of the parent whose settings these are; None if all are the same."""
    if plan.alignment is None or _same(plan.settings_of, plan):
        return None
    ids = plan.alignment.target.ids
    by_role = {token: as_ for name, token, as_ in plan.alignment.by_role if name == plan.settings_of.name}
    return {
        number: ids[by_role.get(token, token)]
        for token, number in plan.settings_of.tokens.items()
        if by_role.get(token, token) in ids
    }


def _same(parent: Candidate, plan: Plan) -> bool:
    return plan.alignment is not None and parent.vocabulary.same_rows(plan.alignment.target)


def _renumbered(key: str, value: Any, ids: Mapping[int, int] | None) -> Any:
    """A setting with its token ids as in the result; ids of tokens that the result lacks are left out."""
    if ids is None or not key.endswith("token_id"):
        return value
    if isinstance(value, list):
        return [ids[number] for number in value if number in ids]
    return ids.get(value)
