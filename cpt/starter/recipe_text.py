"""Write the text of a first recipe: YAML with the reason of each choice as a comment."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jinja2 import Environment, PackageLoader, StrictUndefined

from cpt.formatting import MINUS, number, percent, plural, rate, size
from cpt.starter.choices import Choices, Training, Wishes
from cpt.starter.text_facts import TextFacts

DEFAULT_GENERAL = "python:pydoc_data.topics"
"""General text where none is given: Python's own documentation, which is on every machine."""

_MIXED = 0.02
"""Share of documents in other languages from which on they are removed."""


@dataclass(frozen=True)
class Sources:
    """References as the recipe names them.

    Attributes:
        name: Name of the recipe.
        base: Model.
        domain: Text to learn.
        general: Text that is only measured; empty: `DEFAULT_GENERAL`.
        replay: Text that is replayed; empty: the model samples its own.
        text_field: Field of records that holds the text.
        chunk: Most characters of a document of the domain; None: documents stay whole.
    """

    name: str
    base: str
    domain: Sequence[str]
    general: Sequence[str] = ()
    replay: Sequence[str] = ()
    text_field: str = "text"
    chunk: int | None = None


def facts_in_words(facts: TextFacts) -> str:
    """Return facts about a text as one line."""
    words = [
        ("" if facts.complete else "at least ") + plural(facts.documents, "document"),
        size(facts.bytes),
        f"about {number(facts.tokens)} tokens",
    ]
    if facts.languages:
        words.append(", ".join(f"{name} {share:.0%}" for name, share in list(facts.languages.items())[:3]))
    if facts.duplicates:
        words.append(f"{plural(facts.duplicates, 'duplicate')} left out")
    if facts.unread:
        words.append(f"{facts.unread:,} entries without text")
    return ", ".join(words)


def recipe_text(
    sources: Sources,
    facts: TextFacts,
    choices: Choices,
    wishes: Wishes,
    training: Training,
    beside: Sequence[str | None] = (),
) -> str:
    """Return the recipe as YAML.

    Args:
        sources: References.
        facts: Facts about the domain's text.
        choices: Settings.
        wishes: Time, language and suites that were asked for.
        training: Speed and memory of the machine.
        beside: Languages of general text and of replay, which the same blocks clean; None if unknown.
    """
    environment = Environment(
        loader=PackageLoader("cpt.starter", "."), undefined=StrictUndefined, keep_trailing_newline=True
    )
    environment.filters |= {
        "quoted": quoted,
        "number": number,
        "rate": lambda value: rate(value).replace(MINUS, "-"),
    }
    kept = list(dict.fromkeys(filter(None, (wishes.language or facts.language, *beside))))
    others = 1 - sum(facts.languages.get(language, 0.0) for language in kept)
    return environment.get_template("recipe.yaml.jinja").render(
        sources=sources if sources.general else _with_general(sources),
        default_general=not sources.general,
        fields="" if sources.text_field == "text" else f", text_field: {quoted(sources.text_field)}",
        facts_in_words=facts_in_words(facts),
        choices=choices,
        wishes=wishes,
        training=training,
        kept=", ".join(kept),
        keeps_language=bool(facts.languages) and others > _MIXED,
        others=percent(others, 0),
        suites=json.dumps(list(wishes.suites)) if wishes.suites else "",
    )


def quoted(text: str) -> str:
    """Return a text as a YAML value in one line: JSON's quotes are YAML's, and nothing in it is syntax."""
    return json.dumps(text, ensure_ascii=False)


def _with_general(sources: Sources) -> Sources:
    return replace(sources, general=(DEFAULT_GENERAL,))
