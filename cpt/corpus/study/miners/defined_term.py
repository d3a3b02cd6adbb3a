"""Mine terms that statutes and contracts define in a set form (the term "X" means ...), both ways.

One term has one meaning in a statute and another one in the next. So a question names the title of its text.
Where the text has none, only terms are asked for that no other document defines in other words.
"""
# ruff: noqa: RUF001 - quotes and dashes of texts

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from cpt.corpus.documents import Document
from cpt.corpus.study.facts import words_of
from cpt.corpus.study.items import Item, Miner, fact_key
from cpt.corpus.study.language import Language
from cpt.corpus.study.miners.title import lines_of, title_of
from cpt.corpus.study.sentences import Span, any_of, sentences

_TERM = range(1, 9)
"""Numbers of words of a term."""

_DEFINITION = range(15, 401)
"""Numbers of characters of a definition, like those of a glossary."""

_LEAST = 3
"""Fewest words of a definition."""

_BEHIND = 200
"""Characters behind a term that are compared with other meanings where its definition is not taken."""

_MARK = r"(?:\((?:\d{1,3}|[A-Za-z]{1,5})\)|\d{1,3}(?:\.\d{1,3})*[.)]?(?![\d.])) ?"
"""Number of an entry: (a), (iv), 1., 1.2. No digit may follow: digits could be divided in many ways."""

_NUMBERED = re.compile(_MARK)
_ENTRY = re.compile(r"\s*\n[ \t]*(?P<line>\((?P<mark>\d{1,3}|[A-Za-z]{1,5})\) ?[^\n]*[^\s])")
_ROMAN = ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x")
_OPEN = ("—", "–", ":")
"""Marks in front of a list."""

_GOES_ON = re.compile(r"[;,](?: (?P<last>and|or))?\Z")
"""End of an entry that is not the last one."""

_FLUSH = re.compile(r"\s*\n[ \t]*[^\W\d_A-Z]")
"""Words behind a list that go on with its sentence."""

_CLOSED = re.compile(r"(?:\.|;(?: (?:and|or))?)\Z")
"""End of a definition: a sentence's, or an entry's."""

_CONJUNCTION = re.compile(r" ?(?:(?:and|or) )?")
_FORBIDDEN = re.compile(r"[“”\"\[\]*<>{}|_?]|\.\.")
"""Marks of other terms, of notes, omissions and forms."""

_IN_BRACKETS = re.compile(r"\([^\s()]{1,5}\)")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")
_CAPITAL = re.compile(r"[A-Z\d]")
_NAME = re.compile(r"\b[Tt]he (?P<name>[A-Z][a-z]+)(?![\w’'-]| [A-Z\d]| (?:of|for) (?:the )?[A-Z])")
"""A name that is one of many: "the Secretary", but not "the Secretary of Labor"."""


@dataclass(frozen=True, slots=True)
class _Statement:
    """A place where a text says something of a term in quotes.

    Attributes:
        definition: What the term means; empty if the place does not tell it, or not in a way to ask for.
        key: Words of what is said, which tell it from other meanings.
    """

    term: str
    definition: str
    key: str
    span: Span


class DefinedTerm(Miner):
    """Terms in quotes of which their document says one thing: what they mean."""

    name: ClassVar[str] = "defined_term"

    def __init__(self, language: Language) -> None:
        super().__init__(language)
        self._means, self._copulas, self._not_in_titles, self._not_in_definitions, self._known = (
            frozenset(language.of(self.name, key))
            for key in ("means", "copulas", "not_in_titles", "not_in_definitions", "known")
        )
        self._abbreviations = frozenset(map(str.lower, language.of("sentences", "may_end")))
        self._lost = frozenset(language.of("sentences", "lost_after"))

        def words(key: str) -> str:
            return any_of(language.of(self.name, key))

        self._head = re.compile(
            r"[“\"](?=\S)(?P<term>[^“”\"\n]{2,90}?),?[”\"](?P<between>[^“”\".;\n]{0,80}?) "
            rf"(?P<verb>{words('means')}|{words('other_ways')}|{words('copulas')})\b"
        )
        self._lead = re.compile(_lead(words))
        self._article = re.compile(rf"\b(?i:{words('articles')}) \Z")
        self._kinds = re.compile(rf" (?:{words('kinds')}) ")
        self._pointers = re.compile(
            rf"\A(?:{words('not_first')})\b|\b(?i:{words('pointers')})\b|\bsuch (?i:{words('texts')})\b"
            rf"|\b(?i:{words('texts')}) (?:\d|\([a-z\d]|[IVX]+\b)"
        )
        self._refers_back = re.compile(
            rf"(?<!\bas )\b(?:{words('refers_back')}) (?:(?:{words('articles')}) )?"
            rf"(?!(?:{words('refers_ahead')})\b)(?P<noun>[^\W_]+)"
        )
        self._local = re.compile(rf"\bthe (?P<noun>{words('local')})\b")
        self._more = re.compile(
            rf"\s*(?:{_MARK})*(?:[^“”\".;—\n]{{1,60}}\.?[—–] ?)?"
            rf"(?i:(?:{words('goes_on')})|(?:{words('goes_on_with')}) (?P<noun>[^\W_]+))\b(?! ?[“\"])"
        )
        self._titles: Counter[str] = Counter()
        self._meanings: defaultdict[str, set[str]] = defaultdict(set)
        self._terms: defaultdict[str, set[str]] = defaultdict(set)

    def learn(self, documents: Iterable[Document]) -> None:
        """Count titles; note the meanings of each term, and the terms of each meaning."""
        for document in documents:
            self._titles.update({fact_key(self._title(document.text))})
            for found in self._statements(document.text):
                fact = fact_key(found.term)
                self._meanings[fact].add(found.key)
                self._terms[found.key].add(fact)

    def mine(self, document: Document) -> Iterator[Item]:
        """Yield both directions of every definition, with the document's title if it has one."""
        statements = list(self._statements(document.text))
        times = Counter(fact_key(found.term) for found in statements)
        title = self._title(document.text)
        for found in statements:
            if found.definition and times[fact_key(found.term)] == 1:
                named = title and self._titles[fact_key(title)] <= 1 and not _has(title, found.term)
                yield from self._items(found, title if named else "")

    def _items(self, found: _Statement, title: str) -> Iterator[Item]:
        fact = fact_key(found.term)
        fields, tasks = {"term": found.term, "definition": found.definition}, self.name
        if title:
            fields["title"], tasks = title, f"{tasks}.titled"
        elif len(self._meanings[fact] | {found.key}) > 1 or self._is_local(found):
            return
        yield Item(f"{tasks}.define", fact, found.definition, fields, span=found.span)
        told = set(words_of(found.term)) <= set(words_of(f"{found.definition} {title}"))
        if not told and (title or len(self._terms[found.key] | {fact}) == 1):
            yield Item(f"{tasks}.name", fact, found.term, fields, reverse=True, span=found.span)

    def _title(self, text: str) -> str:
        """Return the title of a text; empty if it has none, or that of a list of definitions."""
        title = title_of(text, lines_of(text))
        listed = self._not_in_titles.intersection(words_of(title))
        return "" if listed or title.endswith(_OPEN) or _FORBIDDEN.search(title) else title

    def _is_local(self, found: _Statement) -> bool:
        """Return True for a definition that is clear within its text alone.

        It is that of a name ("Program", "Effective Date") by other names or numbers, or it speaks of
        something that many texts have ("the Secretary", "the treaty").
        """
        named = all(word[0].isupper() for word in found.term.split())
        return (
            (named and _CAPITAL.search(found.definition) is not None)
            or any(one["name"] not in self._known for one in _NAME.finditer(found.definition))
            or any(_is_new(one, found.term) for one in self._local.finditer(found.definition))
        )

    def _statements(self, text: str) -> Iterator[_Statement]:
        """Yield the places where a text says something of a term in quotes, in their order."""
        heads = list(self._head.finditer(text))
        at = 0
        for start, end in sentences(text, self.language) if heads else ():
            first = at
            while at < len(heads) and heads[at].end() <= end:
                at += 1
            if at > first:
                yield from self._of_sentence(text, (start, end), heads[first:at])
            if at == len(heads):
                return

    def _of_sentence(self, text: str, place: Span, heads: Sequence[re.Match[str]]) -> Iterator[_Statement]:
        """Yield the statements of a sentence: semicolons divide those of a list in one line."""
        begin, end = place
        for head, after in zip(heads, [*heads[1:], None], strict=True):
            stop, following, parted = end, end, True
            if after is not None:
                stop = text.rfind(";", head.end(), after.start()) + 1
                following = _match(_CONJUNCTION, text, stop).end()
                parted = stop > 0 and self._lead.fullmatch(text, following, after.start()) is not None
            taken = self._definition(text, begin, head, stop) if parted else None
            definition, last = taken or (text[head.end() : head.end() + _BEHIND], head.end())
            term, key = _plain(head["term"]), " ".join(words_of(definition))
            sound = taken is not None and self._is_sound(term, definition)
            yield _Statement(term, definition if sound else "", key, (min(begin, head.start()), last))
            begin = following if parted else head.end()

    def _definition(self, text: str, begin: int, head: re.Match[str], stop: int) -> tuple[str, int] | None:
        """Return what stands between a verb and its sentence's end, with a list under it, and the end.

        None if the verb does not define, if the meaning is limited to some cases, or if it is not whole.
        """
        verb, start = head["verb"], head.end()
        if head["between"] or not self._lead.fullmatch(text, begin, head.start()):
            return None
        with_article = self._article.search(text, begin, head.start()) is not None
        is_kind = verb in self._copulas and with_article and self._kinds.match(text, start)
        if verb not in self._means and not is_kind:
            return None
        definition = text[start:stop]
        if definition.endswith(_OPEN):
            listed = _list_under(text, stop)
            if listed is None:
                return None
            entries, stop = listed
            definition = " ".join([definition.rstrip("".join(_OPEN)), *entries])
        definition = _plain(definition)
        if not _CLOSED.search(definition) or self._is_continued(text, stop, f"{head['term']} {definition}"):
            return None
        if text[stop - 1] == "." and self._is_explained(text, stop, head["term"]):
            return None
        return self._without_end(definition).lstrip(",: "), stop

    def _is_continued(self, text: str, stop: int, statement: str) -> bool:
        """Return True if what follows goes on: "Such term does not include ...", "These parts are ..."."""
        more = self._more.match(text, stop)
        return more is not None and (more["noun"] is None or _has(statement, more["noun"]))

    def _is_explained(self, text: str, stop: int, term: str) -> bool:
        """Return True if more sentences of the line are on a term: all of an entry's are, or they name it."""
        end = text.find("\n", stop)
        end = len(text) if end < 0 else end
        head = self._head.search(text, stop, end)
        rest = text[stop : head.start() if head else end]
        in_entry = _NUMBERED.match(text, text.rfind("\n", 0, stop) + 1) is not None
        return _has(rest, term) or (in_entry and "." in rest)

    def _without_end(self, definition: str) -> str:
        """Return a definition without the mark at its end; that of "Inc." stays."""
        last = definition.rsplit(maxsplit=1)[-1].removesuffix(".").lower()
        return definition if last in self._abbreviations else _CLOSED.sub("", definition)

    def _is_sound(self, term: str, definition: str) -> bool:
        """Return True for a term to ask for, and a definition that points to nothing outside it."""
        forms = [word.lower() for word in _WORD.findall(_IN_BRACKETS.sub("", definition))]
        return (
            len(definition) in _DEFINITION
            and len(forms) >= _LEAST
            and len(term.split()) in _TERM
            and any(map(str.isalpha, term))
            and fact_key(term) != fact_key(definition)
            and forms[-1] not in self._lost
            and not self._not_in_definitions.intersection(forms)
            and not _FORBIDDEN.search(definition)
            and definition.count("(") == definition.count(")")
            and not self._pointers.search(definition)
            and not any(_is_new(one, "") for one in self._refers_back.finditer(definition))
        )


def _lead(words: Callable[[str], str]) -> str:
    """Return the pattern of what may stand between a sentence's begin and the quotes of a term.

    These are numbers, a heading, the text that the meaning is for, and words such as "the term". The heading
    ends with a mark, or else a capital follows it. Other words may limit the meaning.

    Repeats of numbers are possessive: given back one by one, before and behind a heading, the numbers of a
    table in front of a term take time with the square of their number (8 KB took half a minute). A heading
    that ends with a number ("5:") begins with it, so it has a branch of its own.
    """
    ends = r"(?:\.?[—–]|:)\s?"
    numbers = rf"(?:{_MARK})*+"
    heading = rf"(?:[^“”\".;—\n]{{1,100}}?{ends}|[A-Z][^“”\".;,—:\n]{{1,90}} (?=[A-Z]))"
    text = rf"(?:(?:this|the|these|preceding) )*(?:{words('texts')})\b"
    scope = rf"(?i:(?:{words('whole_scopes')})|(?:{words('scopes')}) {text})[^“”\".;,—\n]{{0,40}},? ?"
    the_term = rf"(?i:{words('the_term')}|{words('articles')}) "
    before = rf"(?:(?:{_MARK})++{ends}|{numbers}(?:{heading})?)"
    return rf"{before}{numbers}(?:{scope})?(?:{the_term})?"


def _match(pattern: re.Pattern[str], text: str, place: int) -> re.Match[str]:
    """Return the match of a pattern that fits everywhere."""
    found = pattern.match(text, place)
    assert found is not None
    return found


def _plain(text: str) -> str:
    """Return a text in one line, without the marks where a word may be parted."""
    return " ".join(text.replace("\xad", "").split())


def _has(text: str, words: str) -> bool:
    """Return True if a text has words one after the other, whatever their case and number."""
    return f" {' '.join(words_of(words))} " in f" {' '.join(words_of(text))} "


def _is_new(found: re.Match[str], before: str) -> bool:
    """Return True if the noun of a match stands neither before it in its text nor in another one."""
    return not _has(f"{before} {found.string[: found.start()]}", found["noun"])


def _list_under(text: str, place: int) -> tuple[list[str], int] | None:
    """Return the entries of the list that begins in the next line, and its end.

    None for a list in levels, of sentences, or one behind which its sentence goes on.
    """
    entries: list[str] = []
    last = False
    while not last:
        before = _GOES_ON.search(entries[-1]) if entries else None
        entry = _ENTRY.match(text, place)
        if entry is None or entry["line"].endswith(_OPEN) or (entries and before is None):
            return None
        if not _is_number(entry["mark"], len(entries)):
            return None
        last = before is not None and before["last"] is not None
        entries.append(entry["line"])
        place = entry.end()
    return None if _FLUSH.match(text, place) else (entries, place)


def _is_number(mark: str, at: int) -> bool:
    """Return True if a mark is the number of an entry at a place: 2, b or ii of the second."""
    return at < len(_ROMAN) and mark.lower() in (str(at + 1), chr(ord("a") + at), _ROMAN[at])
