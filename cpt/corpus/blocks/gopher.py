"""Remove documents by the quality and repetition rules of Gopher (arXiv 2112.11446, appendix A)."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from cpt.corpus.blocks.block import Block, Cleaner, Unknown
from cpt.corpus.blocks.filters import by_filters, splitter
from cpt.corpus.documents import Document, Removed

if TYPE_CHECKING:
    from datatrove.pipeline.filters.base_filter import BaseFilter

_Share = Annotated[float, Field(gt=0, le=1)]
_Positive = Annotated[float, Field(gt=0)]
_N = Annotated[int, Field(ge=1)]


class _Rules(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GopherQuality(_Rules):
    """Rules about words and lines; null turns one off."""

    min_words: int = Field(
        default=50, ge=1, description="Fewest words, without punctuation; lower for definitions and clauses."
    )
    max_words: int | None = Field(
        default=100_000,
        ge=1,
        description="Most words, without punctuation. With null, a long document takes about 70 times its "
        "size in memory.",
    )
    min_word_length: _Positive | None = Field(default=3, description="Smallest mean length of words.")
    max_word_length: _Positive | None = Field(default=10, description="Largest mean length of words.")
    max_symbols: _Positive | None = Field(
        default=0.1, description="Most hashes per word, and most ellipses per word."
    )
    max_bullet_lines: _Share | None = Field(
        default=0.9, description="Largest share of lines that begin with a bullet or a hyphen."
    )
    max_ellipsis_lines: _Share | None = Field(
        default=0.3, description="Largest share of lines that end with an ellipsis."
    )
    min_alphabetic_words: _Share | None = Field(
        default=0.8,
        description="Smallest share of words with a letter; punctuation marks count as words, so tables and "
        "citations stay below.",
    )
    min_stop_words: int | None = Field(
        default=2, ge=1, description="Fewest different stop words; null for languages without a list."
    )
    stop_words: list[str] = Field(
        default=["the", "be", "to", "of", "and", "that", "have", "with"],
        min_length=1,
        description="Stop words, in the spelling that is looked for.",
    )


class GopherRepetition(_Rules):
    """Rules about repeated lines, paragraphs and n-grams; null turns one off."""

    max_lines: _Share | None = Field(default=0.3, description="Largest share of repeated lines.")
    max_paragraphs: _Share | None = Field(default=0.3, description="Largest share of repeated paragraphs.")
    max_line_characters: _Share | None = Field(
        default=0.2, description="Largest share of characters in repeated lines."
    )
    max_paragraph_characters: _Share | None = Field(
        default=0.2, description="Largest share of characters in repeated paragraphs."
    )
    max_top_n_grams: dict[_N, _Share] = Field(
        default={2: 0.2, 3: 0.18, 4: 0.16},
        description="Largest share of characters in the most frequent n-gram, by n.",
    )
    max_repeated_n_grams: dict[_N, _Share] = Field(
        default={5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.1},
        description="Largest share of characters in repeated n-grams, by n.",
    )
    min_words: int = Field(
        default=50,
        ge=0,
        description="Fewest words, with punctuation, for the rules about n-grams: in a short text one n-gram "
        "that occurs once is already more than the limit.",
    )


class Gopher(Block):
    """Documents that break a rule about length, words, symbols, lines or repetition.

    The limits are made for prose of the web: short text, tables and citations need others.
    """

    kind: Literal["gopher"] = "gopher"
    quality: GopherQuality | None = Field(
        default=GopherQuality(), description="Rules about words and lines; null: none."
    )
    repetition: GopherRepetition | None = Field(
        default=GopherRepetition(), description="Rules about repetition; null: none."
    )

    def prepare(self) -> Cleaner:
        from cpt.corpus.blocks.words import words

        quality = _quality(self.quality) if self.quality else []
        repetition = _repetition(self.repetition, n_grams=True) if self.repetition else []
        short = _repetition(self.repetition, n_grams=False) if self.repetition else []
        fewest = self.repetition.min_words if self.repetition else 0

        def choose(document: Document) -> list[BaseFilter]:
            enough = sum(1 for _ in islice(words(document.text), fewest)) == fewest
            return quality + (repetition if enough else short)

        judge = by_filters(self, choose)
        most = self.quality.max_words if self.quality else None

        def clean(document: Document) -> Document | Removed | Unknown:
            # The filters hold all words of a text, about 70 times its size; this holds one.
            if most and len(document.text) > most and _has_more_words(document.text, most):
                return self.removed(document, "gopher_long_doc")
            return judge(document)

        return clean


def _has_more_words(text: str, most: int) -> bool:
    """Return True if a text has more words than `most`, without punctuation."""
    from datatrove.utils.text import PUNCTUATION_SET

    from cpt.corpus.blocks.words import words

    counted = (word for word in words(text) if not PUNCTUATION_SET.issuperset(word))
    return next(islice(counted, most, None), None) is not None


def _quality(rules: GopherQuality) -> list[Any]:
    from datatrove.pipeline.filters import GopherQualityFilter

    return [
        GopherQualityFilter(
            min_doc_words=rules.min_words,
            max_doc_words=rules.max_words,
            min_avg_word_length=rules.min_word_length,
            max_avg_word_length=rules.max_word_length,
            max_symbol_word_ratio=rules.max_symbols,
            max_bullet_lines_ratio=rules.max_bullet_lines,
            max_ellipsis_lines_ratio=rules.max_ellipsis_lines,
            max_non_alpha_words_ratio=rules.min_alphabetic_words,
            min_stop_words=rules.min_stop_words,
            stop_words=rules.stop_words,
            language=splitter(),
        )
    ]


def _repetition(rules: GopherRepetition, *, n_grams: bool) -> list[Any]:
    from datatrove.pipeline.filters import GopherRepetitionFilter

    return [
        GopherRepetitionFilter(
            dup_line_frac=rules.max_lines,
            dup_para_frac=rules.max_paragraphs,
            dup_line_char_frac=rules.max_line_characters,
            dup_para_char_frac=rules.max_paragraph_characters,
            top_n_grams=tuple(sorted(rules.max_top_n_grams.items())) if n_grams else (),
            dup_n_grams=tuple(sorted(rules.max_repeated_n_grams.items())) if n_grams else (),
            language=splitter(),
        )
    ]
