"""One document through one block, in a test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cpt.corpus.blocks import Block
from cpt.corpus.blocks.block import Unknown
from cpt.corpus.documents import Document, Removed


def result(block: Block, text: str, metadata: Mapping[str, Any] | None = None) -> Document | Removed:
    """Return the block's result for a text."""
    found = block.prepare()(Document("a:1", text, metadata=metadata))
    return found.document if isinstance(found, Unknown) else found


def text_after(block: Block, text: str) -> str:
    """The text that a block leaves of a document that it keeps."""
    found = result(block, text)
    assert isinstance(found, Document), found
    return found.text


def reason(block: Block, text: str, metadata: Mapping[str, Any] | None = None) -> str | None:
    """The finer reason of a removal; None if the document stays as it is."""
    found = result(block, text, metadata)
    if isinstance(found, Removed):
        assert (found.id, found.reason, found.text) == ("a:1", block.kind, text)
        return found.detail
    assert found.text == text
    return None
