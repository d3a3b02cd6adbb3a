"""Give a tokenizer tokens for transliterated text: the Latin forms of its own tokens.

Source: TransMI, arXiv 2405.09913, https://github.com/cisnlp/TransMI. A Unigram piece gets the score of the
piece that it is the Latin form of; where it is the form of several, the highest, lowest or mean score.
Pieces are appended by falling score; unlike there, behind every used id, so that no id moves.

Beyond the paper: forms that no text can be cut into are left out, which changes no segmentation: those that
the tokenizer's own normalizer or pre-tokenizer breaks, and pieces with a better path over their own text.
WordPiece gets new pieces as they are. BPE reaches a form through merges only: its present tokens are joined
from the left, so the tokens in between are new ones as well, without a source.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cpt.models.tokenizer import copy_settings, write_data
from tokenizer_tools.bpe_file import pieces
from tokenizer_tools.guards import GuardReport, check_extended
from tokenizer_tools.spelling import mid_text_tokenizer
from tokenizer_tools.transliteration.adding import Addition, add_by_merges, add_pieces, add_scored_pieces
from tokenizer_tools.transliteration.forms import Form, Merge, latin_forms, merged_score, scores, speller
from tokenizer_tools.transliteration.romanise import Romaniser
from tokenizer_tools.vocabulary import Kind, Vocabulary, read_vocabulary


@dataclass(frozen=True)
class LatinToken:
    """A new token.

    Attributes:
        token: as the vocabulary spells it.
        token_id: ids are consecutive, after every id that was used.
        sources: ids of the tokens that it is the Latin form of; empty for one that BPE needs on the way.
        rule: how it came by its score: the only source's, or the merge of several; "part" without a source.
    """

    token: str
    token_id: int
    sources: tuple[int, ...]
    rule: Literal["unique", "min", "average", "max", "part"]


@dataclass(frozen=True)
class Transliteration:
    """A tokenizer with the Latin forms of its tokens.

    Attributes:
        tokens: the new tokens, in the order of their ids.
        merges: merges that were appended; 0 for kinds that have none.
        guards: what was checked.
    """

    tokens: Sequence[LatinToken]
    merges: int
    guards: GuardReport


def transliterate_tokenizer(
    folder: Path,
    output: Path,
    *,
    merge: Merge = "max",
    language: str | None = None,
    limit: int | None = None,
) -> Transliteration:
    """Write the tokenizer with the Latin forms of its tokens into `output`, and check it.

    Args:
        folder: tokenizer folder.
        merge: score of a form that several tokens share.
        language: ISO 639-3 code that settles how ambiguous letters are read.
        limit: most new tokens; those of the highest scores (for BPE and WordPiece, lowest ids) are kept.

    Raises:
        DataError: the tokenizer is of no kind that can get new tokens.
        StageFailed: uroman is not installed, or a guard failed.
    """
    vocabulary = read_vocabulary(folder)
    sources = _by_token(vocabulary, latin_forms(vocabulary, Romaniser(language).romanise))
    source_scores = scores(vocabulary)
    scored = {
        token: merged_score([source_scores[token_id] for token_id in ids], merge)
        for token, ids in sources.items()
    }
    in_order = sorted(scored, key=lambda token: (-scored[token], token))
    added = _ADD[vocabulary.kind](folder, {token: scored[token] for token in in_order}, limit)
    copy_settings(folder, output)
    write_data(output, added.data)
    return Transliteration(
        tokens=[
            LatinToken(token, token_id, tuple(sources.get(token, ())), _rule(sources.get(token, ()), merge))
            for token_id, token in enumerate(added.tokens, start=len(vocabulary.tokens))
        ],
        merges=added.merges,
        guards=check_extended(folder, output, ()),
    )


_ADD: Mapping[Kind, Callable[[Path, Mapping[str, float], int | None], Addition]] = {
    "Unigram": add_scored_pieces,
    "WordPiece": add_pieces,
    "byte-level BPE": add_by_merges,
    "SentencePiece BPE": add_by_merges,
}


def _by_token(vocabulary: Vocabulary, found: Mapping[Form, Sequence[int]]) -> dict[str, Sequence[int]]:
    """Sources by new token, of the forms that the tokenizer leaves whole and unchanged before its model."""
    tokenizer, spell = mid_text_tokenizer(json.loads(vocabulary.tokenizer.to_str())), speller(vocabulary)

    def stays_whole(form: Form) -> bool:
        if vocabulary.kind == "WordPiece":
            word = form.text if form.starts_word else "a" + form.text
            return pieces(tokenizer, word) == [word]
        return pieces(tokenizer, " " * form.starts_word + form.text) == [spell(form)]

    known = set(vocabulary.tokens)
    return {
        token: ids for form, ids in found.items() if (token := spell(form)) not in known and stays_whole(form)
    }


def _rule(sources: Sequence[int], merge: Merge) -> Literal["unique", "min", "average", "max", "part"]:
    if not sources:
        return "part"
    return "unique" if len(sources) == 1 else merge
