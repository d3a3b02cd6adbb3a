"""Make a cleaner of filters of datatrove."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cpt.corpus.blocks.block import Block, Cleaner
from cpt.corpus.documents import Document, Removed

if TYPE_CHECKING:
    from datatrove.pipeline.filters.base_filter import BaseFilter


def splitter() -> Any:
    """Return a splitter of words and sentences for a filter's `language`, in place of a code."""
    from cpt.corpus.blocks.words import Splitter

    return Splitter()


def by_filters(block: Block, choose: Callable[[Document], list[BaseFilter]]) -> Cleaner:
    """Return a cleaner that applies filters until one removes the document; its reason becomes the detail.

    White space around a text is not judged: empty first and last lines would be repeated lines.

    Args:
        choose: Function that returns the filters for a document.
    """
    from datatrove.data import Document as Copy
    from datatrove.pipeline.filters.base_filter import get_filter_result
    from datatrove.utils.text import split_into_parts

    def clean(document: Document) -> Document | Removed:
        text = document.text.strip()
        copy = Copy(text=text, id=document.id)
        for each in choose(document):
            kept, reason = get_filter_result(each.filter(copy))
            if not kept:
                split_into_parts.cache_clear()
                return block.removed(document, reason or "")
        split_into_parts.cache_clear()  # the words of the last five texts, for filters of one text
        return document if copy.text == text else replace(document, text=copy.text)

    return clean
