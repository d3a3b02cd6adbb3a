"""Another tokenizer in the place of a model's own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from cpt.errors import DataError
from cpt.models.folder_files import check_settings_files
from cpt.models.tokenizer import CONFIG, FILE, TEMPLATE, copy_settings, read_settings, write_settings
from tokenizer_tools.before_after import chat, load_for_transformers


def replace_tokenizer(source: Path, target: Path, output: Path) -> None:
    """Copy the target's tokenizer into a folder, with a chat template that goes with it.

    The template is the target's own. Where it has none, the source's is kept if it works with the target and
    the target has every added token that it names: other names would be noise to the model.

    Args:
        source: folder of the model's present tokenizer.
        target: folder of the other tokenizer.
        output: folder that receives the files.

    Raises:
        DataError: the target has no tokenizer.json.
    """
    if not (target / FILE).is_file():
        raise DataError(f"{target} has no {FILE}", hint="Convert the tokenizer to a fast one first.")
    check_settings_files(target)
    copy_settings(target, output)
    shutil.copyfile(target / FILE, output / FILE)
    _write_config(output)
    loaded = load_for_transformers(output, source)
    if loaded.chat_template is None:
        _keep_template(loaded, source, output)


def _write_config(output: Path) -> None:
    """Name the class that loads the tokenizer, lest the model's kind decides; leave code out."""
    config = read_settings(output / CONFIG)
    config.pop("auto_map", None)
    write_settings(output / CONFIG, {"tokenizer_class": "PreTrainedTokenizerFast", **config})


def _template(folder: Path) -> str | None:
    """A tokenizer's chat template: a file of its own, or in its configuration."""
    if (folder / TEMPLATE).is_file():
        return (folder / TEMPLATE).read_text(encoding="utf-8")
    found = read_settings(folder / CONFIG).get("chat_template")
    if isinstance(found, list):
        found = {named["name"]: named["template"] for named in found}.get("default")
    return found


def _keep_template(loaded: Any, source: Path, output: Path) -> None:
    template = _template(source)
    if template is None:
        return
    named, known = (
        {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.content.strip()}
        for tokenizer in (Tokenizer.from_file(str(folder / FILE)) for folder in (source, output))
    )
    loaded.chat_template = template
    _, error = chat(loaded, source)
    if error is None and all(token in known for token in named if token in template):
        (output / TEMPLATE).write_text(template, encoding="utf-8")
