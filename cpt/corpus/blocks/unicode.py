"""Repair Unicode: mojibake, half characters, ligatures, control characters; one normal form."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from cpt.corpus.blocks.block import Block, Cleaner
from cpt.corpus.documents import Document


class Unicode(Block):
    """Text that was decoded wrongly is decoded again (ftfy), and written in one normal form."""

    kind: Literal["unicode"] = "unicode"
    normal_form: Literal["NFC", "NFKC"] = Field(
        default="NFC",
        description="Unicode normal form; NFKC also rewrites characters such as ² and ½, which changes "
        "formulas.",
    )
    uncurl_quotes: bool = Field(default=False, description="Write curly quotation marks as straight ones.")

    def prepare(self) -> Cleaner:
        from ftfy import TextFixerConfig, fix_text

        config = TextFixerConfig(
            unescape_html="auto",
            fix_character_width=False,
            uncurl_quotes=self.uncurl_quotes,
            normalization=self.normal_form,
            explain=False,
        )

        def clean(document: Document) -> Document:
            text = fix_text(document.text, config)
            return document if text == document.text else replace(document, text=text)

        return clean
