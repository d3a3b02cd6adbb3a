"""Find references of a sentence to what it does not name: "It also controls ...", "under such a notice"."""
# ruff: noqa: RUF001 - quotes and dashes of texts

from __future__ import annotations

import re
from collections.abc import Set

from cpt.corpus.study.language import Language
from cpt.corpus.study.sentences import SentenceCheck, any_of

_WORD = re.compile(r"[^\W\d_]+(?:[’'-][^\W\d_]+)*")
_FORM = re.compile(r"(?:ies|y|[es]+)\Z")
"""Endings in which the forms of a noun differ: "such notices" may point at "a notice"."""

_LABEL = re.compile(r"[^\s:]+(?: [^\s:]+){0,4}:\s|.*: [A-Z]|[^.]{1,60}\.[—–-]")
"""A heading or an entry's name in front of a sentence: "Space: ...", "In General.— ..."."""

_MARKS = re.compile(
    r"[\[\]$§]|\.{3}|…|(?:^|[\s;,])\((?:[a-zA-Z]|\d{1,2}|[ivx]+)\)"
    r"|\bv\. |\b\d+ [A-Z][\w.]*\.|(?<!\.)\b[A-Z]\. [A-Z\d]"
)
"""Words that an editor put in, sums of a worked example, omissions, numbers of a list's entries, citations of
opinions, and letters that may end a sentence: "Theory Y. Theory X says"."""

_NAME = re.compile(r"(?<=[\s\"“‘(])[A-Z][a-z][\w-]+")


class ReferenceCheck:
    """Finds what a sentence points at, outside itself."""

    def __init__(self, language: Language) -> None:
        self._check = SentenceCheck(language)
        keys = ("outside", "outside_at_start", "determiners", "before_that", "indefinite", "articles")
        outside, start, determiners, before_that, indefinite, definite = (
            any_of(language.of("reference", key)) for key in keys
        )
        adds, behind = (any_of(language.of("reference", key)) for key in ("adds", "behind_adds"))
        self._outside = re.compile(rf"\b(?:{outside})\b", re.IGNORECASE)
        # "The loss will cause ..." speaks of one that was told of.
        verbs = any_of(language.of("reference", "auxiliaries"))
        self._start = re.compile(rf"(?:{start}|(?:{definite}) [^\W\d_]+ (?:{verbs}))\b", re.IGNORECASE)
        self._adds = re.compile(rf"\b(?:{adds})\b(?! (?:{behind})\b)", re.IGNORECASE)
        # "such a notice", "at that rate": the noun must be named in front of it.
        self._determined = re.compile(
            rf"\b(?:{determiners}|(?:{before_that}) that) (?:(?:{indefinite}) )?(?P<noun>[^\W\d_]+)"
            rf"|\b(?:{determiners})[,;.]",
            re.IGNORECASE,
        )
        self._introduced = re.compile(rf"\b(?:{indefinite}) (?P<nouns>[a-z]+(?: [a-z]+){{0,2}})")
        self._definite = re.compile(
            rf"\b(?:{definite}) (?=(?P<nouns>[^\W\d_]+(?: [^\W\d_]+){{0,2}}))", re.IGNORECASE
        )
        self._persons, self._not_names, self._not_nouns, self._limits, nouns, parts = (
            frozenset(language.of("reference", key))
            for key in ("persons", "not_names", "not_nouns", "limits", "definite", "parts")
        )
        self._parts = frozenset(map(noun_form, parts))
        self._general = frozenset(map(noun_form, nouns))

    def introduced(self, text: str) -> frozenset[str]:
        """Return the words behind the indefinite articles of a text, at which "the" may point."""
        nouns = (word for found in self._introduced.finditer(text) for word in self._phrase(found)[0])
        return frozenset(map(noun_form, nouns))

    def stands_alone(self, sentence: str, introduced: Set[str]) -> bool:
        """Return True for a sentence that names everything it speaks of.

        Args:
            introduced: Words that its text introduces.
        """
        return (
            self._check.stands_alone(sentence)
            and not self._start.match(sentence)
            and not self._outside.search(sentence)
            and not self._adds.search(sentence)
            and not _LABEL.match(sentence)
            and not _MARKS.search(sentence)
            and all(self._is_named(sentence, found) for found in self._determined.finditer(sentence))
            and all(
                self._is_known(sentence, found, introduced) for found in self._definite.finditer(sentence)
            )
            and self._persons_are_named(sentence)
        )

    def _phrase(self, found: re.Match[str]) -> tuple[list[str], bool]:
        """Return the words behind an article up to one that limits them, and whether there is one."""
        words = found["nouns"].lower().split()
        end = next((at for at, word in enumerate(words) if word in self._limits), len(words))
        return words[:end], end < len(words)

    def _is_known(self, sentence: str, found: re.Match[str], introduced: Set[str]) -> bool:
        """Return True if what "the" stands in front of is limited, one of its kind, or named before."""
        words, limited = self._phrase(found)
        nouns = list(map(noun_form, words))
        if not nouns:
            return True
        # "The charge of theft" is limited, "The charge states that ..." is not.
        general = nouns[0] in self._general and not (limited and len(nouns) == 1)
        general = general or (
            nouns[1:2] != [] and nouns[1] in self._parts and not (limited and len(nouns) == 2)
        )
        if not general and (limited or introduced.isdisjoint(nouns)):
            return True
        return not _forms(sentence[: found.start()]).isdisjoint(nouns)

    def _is_named(self, sentence: str, found: re.Match[str]) -> bool:
        """Return True if a noun behind a determiner stands in front of it, too, or if it is none."""
        if found["noun"] is None:
            return False
        noun = found["noun"].lower()
        return noun in self._not_nouns or noun_form(noun) in _forms(sentence[: found.start()])

    def _persons_are_named(self, sentence: str) -> bool:
        """Return True if all pronouns of persons follow a name."""
        names = (name.start() for name in _NAME.finditer(sentence) if name[0] not in self._not_names)
        first = next(names, len(sentence))
        return all(
            found.start() > first for found in _WORD.finditer(sentence) if found[0].lower() in self._persons
        )


def noun_form(noun: str) -> str:
    """Return what the singular and the plural of a noun have in common."""
    return _FORM.sub("", noun)


def _forms(text: str) -> set[str]:
    return set(map(noun_form, _WORD.findall(text.lower())))
