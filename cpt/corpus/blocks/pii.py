"""Replace personal data that has a form: e-mail and IP addresses, phone, identity and account numbers."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from cpt.corpus.blocks.block import Block, Cleaner
from cpt.corpus.documents import Document

Kind = Literal["email", "ip", "phone", "ssn", "iban", "card"]
_Rewrite = Callable[[str, str], str]
"""A function from a text and a replacement to the text with one kind of data replaced."""


class PII(Block):
    """Addresses and numbers that identify a person.

    Their checksums and number plans are checked, so that sections, doses, dates, ISBNs and amounts stay.
    Names are left alone: to find them takes a model, which has to be fetched from outside the package index.
    Numbers that only a label tells, such as those of medical records, are left alone too.
    """

    libraries: ClassVar[dict[str, str]] = {"phonenumbers": "pii", "stdnum": "pii"}
    kind: Literal["pii"] = "pii"
    find: list[Kind] = Field(
        default=["email", "ip", "phone", "ssn", "iban", "card"],
        min_length=1,
        description="Kinds of data: email; ip, public addresses; phone; ssn, US social security numbers; "
        "iban, bank accounts; card, payment cards.",
    )
    regions: list[Annotated[str, Field(pattern="^[A-Z]{2}$")]] = Field(
        default=["US"],
        description="ISO 3166 codes of the countries whose phone numbers are found without +, such as GB.",
    )
    replacement: str = Field(
        default="[{kind}]", description="Text in place of what is found; {kind} becomes its kind in capitals."
    )

    def prepare(self) -> Cleaner:
        rewrites = [
            (_REWRITES[kind](self.regions), self.replacement.replace("{kind}", kind.upper()))
            for kind in _REWRITES
            if kind in self.find
        ]

        def clean(document: Document) -> Document:
            text = document.text
            for rewrite, replacement in rewrites:
                text = rewrite(text, replacement)
            return document if text == document.text else replace(document, text=text)

        return clean


def _checked(pattern: re.Pattern[str], check: Callable[[re.Match[str]], slice | None]) -> _Rewrite:
    """Return a rewrite of what a pattern finds.

    Args:
        check: Function from a match to the part of it to replace; None leaves it as it is.
    """

    def rewrite(text: str, replacement: str) -> str:
        def replaced(match: re.Match[str]) -> str:
            found, part = match.group(), check(match)
            return f"{found[: part.start]}{replacement}{found[part.stop :]}" if part else found

        return pattern.sub(replaced, text)

    return rewrite


def _whole(match: re.Match[str], wanted: object) -> slice | None:
    """Return the part that is a whole match if it is wanted."""
    return slice(0, len(match.group())) if wanted else None


def _before(match: re.Match[str], characters: int) -> str:
    """Return the text before a match, in its line."""
    start = match.start()
    return match.string[max(0, start - characters) : start].rpartition("\n")[2]


# E-mail addresses: datatrove's pattern, in windows around each @, since it takes quadratic time on long runs
# of letters and signs without any.
_LOCAL, _DOMAIN = 64, 255
"""Most characters before and after the @ (RFC 5321, section 4.5.3.1)."""
_TOP_LEVEL = re.compile(r"(?:\.[A-Za-z]{2,}|\])$")


def _emails(_: list[str]) -> _Rewrite:
    from datatrove.pipeline.formatters import PIIFormatter

    pattern = PIIFormatter().emails_replacer.regex

    def rewrite(text: str, replacement: str) -> str:
        parts, done, at = [], 0, text.find("@")
        while at >= 0:
            first = max(done, at - _LOCAL)
            match = pattern.search(text[first : at + _DOMAIN])
            if (
                match
                and first + match.start() < at < first + match.end()
                and _TOP_LEVEL.search(match.group())
            ):
                parts += [text[done : first + match.start()], replacement]
                done = first + match.end()
            at = text.find("@", max(at + 1, done))
        return "".join([*parts, text[done:]])

    return rewrite


# IP addresses. Numbers of sections and versions have the same form, but parts that are seldom above 100. Of
# random addresses only 2% have no part above 100, and an address is often named as such.
_NUMBERING = re.compile(
    r"(?:§+|\b(?:sections?|sec|articles?|art|clauses?|paragraphs?|para|chapters?|rules?|exhibits?|versions?|ver|v|table|figure"
    r"|release|oid))[\s.:]*$",
    re.IGNORECASE,
)
_ADDRESS = re.compile(r"\b(?:ip|ipv4|ipv6|address|host|server|gateway|dns|ping|subnet)\b", re.IGNORECASE)
_IP6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{6,39}(?![\w:])")


def _ips(_: list[str]) -> _Rewrite:
    from datatrove.pipeline.formatters import PIIFormatter

    version_4 = _checked(PIIFormatter().ip_replacer.regex, _ip4)
    version_6 = _checked(_IP6, lambda match: _whole(match, _is_public(match.group())))
    return lambda text, replacement: version_6(version_4(text, replacement), replacement)


def _ip4(match: re.Match[str]) -> slice | None:
    found, text = match.group(), match.string
    inside = re.match(r"\w|\.\d", text[match.end() : match.end() + 2]) or re.search(
        r"[\w.]$", _before(match, 1)
    )
    if inside or _NUMBERING.search(_before(match, 20)) or not _is_public(found):
        return None
    return _whole(match, max(map(int, found.split("."))) >= 100 or _ADDRESS.search(_before(match, 40)))


def _is_public(address: str) -> bool:
    """Return True for a valid address that is routed on the internet, and identifies a machine."""
    try:
        return address.count(":") != 1 and ipaddress.ip_address(address).is_global
    except ValueError:
        return False


# Phone numbers: libphonenumber knows the plans of all countries, and which groups of digits are written.
_DIALLED = re.compile(
    r"(?<![\w.,/$€£§#+-])(?:\+ ?|\(\+?)?\d(?:[ \u00a0().\-\u2013/]{0,3}\d){6,14}"
    r"(?!\w|[.,/\-\u2013]\d|-[A-Za-z])"
)
_PHONE = re.compile(r"\b(?:tele?phone|phone|tel|fax|mobile|cell|call|dial|hotline)\b\D{0,20}$", re.IGNORECASE)
_OTHER_NUMBER = re.compile(
    r"(?:§+|\b(?:sections?|sec|isbn(?:-1[03])?|issn|pmid|pmc|doi|nos?|number|docket|case|patent|ndc|cas|serial|accounts?|acct"
    r"|cusip|file|claim|id|stat|reg|rep|c\.?f\.?r|u\.?s\.?c|d?fars?))[\s.:#()]*$",
    re.IGNORECASE,
)


def _phones(regions: list[str]) -> _Rewrite:
    from phonenumbers import Leniency, PhoneNumberMatcher

    def check(match: re.Match[str]) -> slice | None:
        found, before = match.group(), _before(match, 30)
        named = _PHONE.search(before)
        mixed = "." in found and "-" in found  # as in 48 CFR 252.227-7015
        if not named and (found.isdigit() or mixed or _OTHER_NUMBER.search(before)):
            return None
        for region in regions or ["ZZ"]:
            for number in PhoneNumberMatcher(found, region, leniency=Leniency.STRICT_GROUPING):
                if number.start <= 1:
                    alone = found[0] == "(" and ")" not in found  # a bracket around the number, or more
                    return slice(max(number.start, alone), number.end)
        return None

    return _checked(_DIALLED, check)


_SSN = re.compile(
    r"(?<![\w.\-\u2013/$])(?:\d{3}-\d{2}-\d{4}|\d{3} \d{2} \d{4}|\d{9})(?![\w]|[.,\-\u2013/]\d)"
)
_SSN_NAME = re.compile(r"\b(?:ssn|social security)\b\D{0,30}$", re.IGNORECASE)


def _ssns(_: list[str]) -> _Rewrite:
    from stdnum.us import ssn

    def check(match: re.Match[str]) -> slice | None:
        found = match.group()
        named = "-" in found or _SSN_NAME.search(_before(match, 50))
        return _whole(match, named and ssn.is_valid(found.replace(" ", "-")))

    return _checked(_SSN, check)


_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}")


def _ibans(_: list[str]) -> _Rewrite:
    from stdnum import iban

    def check(match: re.Match[str]) -> slice | None:
        found = match.group()
        after = match.string[match.end() : match.end() + 1]
        ends = [len(found)] if not after.isalnum() else []
        ends += [
            at for at in range(len(found) - 1, 14, -1) if found[at] == " "
        ]  # a word in capitals may follow
        return next((slice(0, end) for end in ends if iban.is_valid(found[:end])), None)

    return _checked(_IBAN, check)


# Card numbers in their usual groups, or without any, that begin like those of an issuer.
_CARD = re.compile(
    r"(?<![\w.,/\-\u2013$])"
    r"(?:\d{4}([ -]?)\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?|3\d{3}([ -]?)\d{6}\2\d{4,5})"
    r"(?!\w|[.,/\-\u2013]\d)"
)
_ISSUER = re.compile(
    r"4|5[1-5]|2(?:22[1-9]|2[3-9]|[3-6]|7[01]|720)|3[47]|3(?:0[0-5]|[68])|35(?:2[89]|[3-8])|6(?:011|4[4-9]|5)|62"
)


def _cards(_: list[str]) -> _Rewrite:
    from stdnum import luhn

    def check(match: re.Match[str]) -> slice | None:
        digits = re.sub(r"\D", "", match.group())
        return _whole(match, _ISSUER.match(digits) and luhn.is_valid(digits))

    return _checked(_CARD, check)


# In this order: cards and accounts hold what looks like a phone number.
_REWRITES: dict[Kind, Callable[[list[str]], _Rewrite]] = {
    "email": _emails,
    "iban": _ibans,
    "card": _cards,
    "ssn": _ssns,
    "ip": _ips,
    "phone": _phones,
}
