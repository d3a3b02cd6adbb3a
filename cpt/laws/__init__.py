"""Mixture laws: predict losses by model size, tokens and replay, and advise how much replay to use.

Fit one on rows of small runs, then ask it:

    from cpt import laws

    law = laws.fit(laws.read_rows("rows.jsonl"))
    laws.predict(law, tokens=2e7, replay=0.1).losses["domain"]
    laws.advise(law, tokens=2e7, limit="general <= +0.01").replay
    laws.write_law(law, "law.json")

`cpt.recipe.law_rows` reads rows from finished runs.
"""

from cpt.laws.advise import Advice, advise
from cpt.laws.domains import probe_of
from cpt.laws.fit import fit
from cpt.laws.law import DomainProbe, Estimate, Law, LawWarning, read_law, write_law
from cpt.laws.predict import Prediction, predict
from cpt.laws.rows import Row, read_rows

__all__ = [
    "Advice",
    "DomainProbe",
    "Estimate",
    "Law",
    "LawWarning",
    "Prediction",
    "Row",
    "advise",
    "fit",
    "predict",
    "probe_of",
    "read_law",
    "read_rows",
    "write_law",
]
