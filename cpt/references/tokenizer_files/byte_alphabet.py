"""GPT-2's alphabet: a printable character for every byte. Byte-level tokenizers spell their tokens in it."""

from __future__ import annotations

from functools import cache


@cache
def byte_alphabet() -> str:
    """The character of each byte: itself where it is printable in Latin-1, else one from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in printable else next(others)) for byte in range(256))


@cache
def _from_latin_1() -> dict[int, str]:
    return dict(enumerate(byte_alphabet()))


def spell(token: bytes) -> str:
    """A token's bytes in the alphabet."""
    return token.decode("latin-1").translate(_from_latin_1())
