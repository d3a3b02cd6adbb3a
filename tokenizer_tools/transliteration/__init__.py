"""Latin letters for text of any script (uroman), and tokens for such text (TransMI)."""

from tokenizer_tools.transliteration.romanise import Romaniser
from tokenizer_tools.transliteration.transmi import LatinToken, Transliteration, transliterate_tokenizer

__all__ = ["LatinToken", "Romaniser", "Transliteration", "transliterate_tokenizer"]
