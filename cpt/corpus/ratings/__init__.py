"""List the ratings of documents for selection, one file each: settings, and a function from texts to scores.

Bits per byte under an n-gram model are in `cpt.corpus.kneser_ney`, those under the base model in
`cpt.models.bits_per_byte`.
"""

from cpt.corpus.ratings.band import Band
from cpt.corpus.ratings.classifier import ClassifierSettings
from cpt.corpus.ratings.concepts import ConceptSettings
from cpt.corpus.ratings.dsir import DSIRSettings
from cpt.corpus.ratings.scores import PredictiveStrengthSettings, ScoreSettings

__all__ = [
    "Band",
    "ClassifierSettings",
    "ConceptSettings",
    "DSIRSettings",
    "PredictiveStrengthSettings",
    "ScoreSettings",
]
