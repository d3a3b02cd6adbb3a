"""Evaluate models on suites of benchmarks through lm-eval, and compare them item by item.

Two calls do what `cpt eval run` and `cpt eval compare` do:

    import evals

    base = evals.evaluate("org/base", suites=["medical:quick"], data="benchmarks")
    adapted = evals.evaluate("runs/medical/merge/model", suites=["medical:quick"], data="benchmarks")
    print(evals.compare(base, adapted).averages[0].verdict)
"""

from evals.api import compare, evaluate

__all__ = ["compare", "evaluate"]
