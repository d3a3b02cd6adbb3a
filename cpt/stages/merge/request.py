"""Build the merge request of the settings. Flags, plan files and recipes all come through here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cpt.references.syntax import exists

if TYPE_CHECKING:
    from cpt.stages.merge.config import MergeConfig, Setting
    from merging.request import InputModel, MergeRequest


class ModelFolder(NamedTuple):
    """A model on the disk, and the fingerprint of its content."""

    folder: Path
    fingerprint: str = ""


def merge_request(config: MergeConfig, folders: Mapping[str, ModelFolder], seed: int) -> MergeRequest:
    """Return the merge request of settings that name models, not of an average.

    Args:
        folders: Models by their name in the merge. One that is not there yet has an empty path, so that the
            request can be checked but not run.
        seed: Seed of random methods.

    Raises:
        CannotMerge: There is no such chat template.
    """
    from merging.request import InputModel, MergeRequest

    def model(name: str, settings: Mapping[str, Setting]) -> InputModel:
        folder, fingerprint = folders.get(name, ModelFolder(Path()))
        return InputModel(name, folder, fingerprint, settings)

    named = zip(config.model_names, config.models, strict=True)
    return MergeRequest(
        method=config.method,
        models=tuple(model(name, each.settings()) for name, each in named),
        base=None if config.base_name is None else model(config.base_name, {}),
        parameters=config.parameters,
        tokenizer=config.tokenizer,
        settings=config.settings,
        chat_template=_template_text(config.chat_template, [each.folder for each in folders.values()]),
        dtype=config.dtype,
        compute_dtype=config.compute_dtype,
        seed=seed,
    )


def template_file(choice: str | None) -> str | None:
    """Return a chat template's setting if it names a file: it has a slash, or ends in `.jinja`."""
    if choice is None or "{" in choice or not ("/" in choice or choice.endswith(".jinja")):
        return None
    return choice


def _template_text(choice: str | None, folders: Sequence[Path]) -> str | None:
    from merging.mergekit_file import chat_template

    if choice is not None and exists(Path(choice)) and Path(choice).is_file():
        return Path(choice).read_text(encoding="utf-8")
    return chat_template(choice, folders)
