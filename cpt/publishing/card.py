"""Write a model card: what the model learned, what it forgot, what it was trained on, how to use it."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from ruamel.yaml import YAML

from cpt.escaping import escape_line
from cpt.formatting import count, fixed, signed

if TYPE_CHECKING:
    from cpt.publishing.compatibility import Finding
    from cpt.report.schema import Facts, Interval

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
_SIGNS = re.compile(r"([\\`*_\[\]|#~])")


def model_card(
    facts: Facts, name: str, licence: str | None, findings: Sequence[Finding], *, measured: bool = True
) -> str:
    """Return the model card of a run in Markdown, with the metadata that the Hugging Face hub reads.

    Args:
        facts: Facts of the run.
        name: Id of the repository, or name of the folder.
        licence: Licence of the model, as the hub names it; None to leave it out.
        findings: What other tools can do with the model.
        measured: False if the figures of the facts are not those of this model against its base; they are
            left out.
    """
    if not measured:
        facts = facts.model_copy(update={"probes": {}, "tasks": {}, "suites": None, "verdict": ""})
    environment = Environment(
        loader=PackageLoader("cpt.publishing", "."), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= {
        "md": markdown,
        "fixed": fixed,
        "signed": signed,
        "count": count,
        "interval": _interval,
        "source": source_name,
    }
    averages = facts.suites.averages if facts.suites is not None else {}
    return environment.get_template("card.md.jinja").render(
        facts=facts,
        name=name,
        metadata=_metadata(facts, licence),
        findings=findings,
        averages=averages,
        measured=measured,
    )


def markdown(text: str) -> str:
    """Return text as one line of Markdown in which nothing is syntax or HTML."""
    return html.escape(_SIGNS.sub(r"\\\1", escape_line(text)), quote=False)


def source_name(path: str) -> str:
    """Return the name of a source: of an absolute path its last part alone, since folders name people."""
    return Path(path).name if Path(path).expanduser().is_absolute() else path


def without_folders(data: Any) -> Any:
    """Return the data of a recipe with the last part alone of every absolute path in it."""
    if isinstance(data, Mapping):
        return {key: without_folders(value) for key, value in data.items()}
    if isinstance(data, list):
        return [without_folders(value) for value in data]
    return source_name(data) if isinstance(data, str) else data


def _interval(difference: Interval | None, digits: int) -> str:
    if difference is None:
        return ""
    if not difference.known:
        return signed(difference.value, digits)
    bounds = f"{signed(difference.low, digits)} to {signed(difference.high, digits)}"
    return f"{signed(difference.value, digits)} ({bounds})"


def _metadata(facts: Facts, licence: str | None) -> str:
    """Return the metadata block: fields of the hub's model cards."""
    languages = {
        listed.language.partition("-")[0]
        for documents in facts.documents.values()
        for listed in documents.listed.values()
        if listed.language
    }
    data: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    if licence is not None:
        data["license"] = licence
    if base := _HUB_ID.fullmatch(facts.base.partition("@")[0]):
        data["base_model"] = base[0]
    if languages:
        data["language"] = sorted(languages)
    data["tags"] = ["continual-pretraining", "domain-adaptation"]
    text, yaml = io.StringIO(), YAML()
    yaml.dump(data, text)
    return text.getvalue()
