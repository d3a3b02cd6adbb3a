"""Remove lines and documents by the rules of C4 (Raffel et al., JMLR 21(140), section 2.2)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cpt.corpus.blocks.block import Block, Cleaner
from cpt.corpus.blocks.filters import by_filters, splitter


class C4(Block):
    """Rules for pages of the web: lines that are no sentences go, then documents with few sentences.

    Headings, lists, tables and most lines of statutes end without a full stop, so they go too.
    """

    kind: Literal["c4"] = "c4"
    end_punctuation: bool = Field(
        default=True,
        description="Remove lines that do not end in a full stop, question mark or quotation mark.",
    )
    min_sentences: int | None = Field(
        default=5, ge=1, description="Fewest sentences of a document; lower for definitions and clauses."
    )
    min_words: int | None = Field(default=3, ge=1, description="Fewest words of a line.")
    max_word_length: int | None = Field(
        default=1000, ge=1, description="Most characters of a word; a line with a longer one goes."
    )
    citations: bool = Field(default=True, description="Remove marks of citations, such as [12] and [edit].")
    javascript: bool = Field(default=True, description="Remove lines with the word JavaScript.")
    policies: bool = Field(
        default=True,
        description="Remove lines with a phrase such as terms of use, privacy policy or use cookies.",
    )
    lorem_ipsum: bool = Field(default=True, description="Remove documents with the words lorem ipsum.")
    braces: bool = Field(default=True, description="Remove documents with an opening brace, as in code.")

    def prepare(self) -> Cleaner:
        from datatrove.pipeline.filters import C4QualityFilter

        rules = C4QualityFilter(
            remove_citations=self.citations,
            filter_no_terminal_punct=self.end_punctuation,
            min_num_sentences=-1 if self.min_sentences is None else self.min_sentences,
            min_words_per_line=-1 if self.min_words is None else self.min_words,
            max_word_length=-1 if self.max_word_length is None else self.max_word_length,
            filter_lorem_ipsum=self.lorem_ipsum,
            filter_javascript=self.javascript,
            filter_curly_bracket=self.braces,
            filter_policy=self.policies,
            language=splitter(),
        )
        return by_filters(self, lambda _: [rules])
