"""Weights chosen by evaluation: merges are tried in memory, and the best one is named.

    found = search(space, goal, evaluation, points=12, seed=17, log=file)
    request = space.request_at(found.chosen.values)

What is measured comes from outside (`Evaluation`): here nothing is known of texts or tasks. A coarse grid
comes first. One weight is then refined by a line search, several by Bayesian optimisation (optuna's
Gaussian processes): of the gain where budgets bound the rest, else of the front of gain and rise.
"""

from merging.search.run import Evaluation, SearchResult, search
from merging.search.space import AtBound, Dimension, Space, search_space
from merging.search.trials import Change, Choice, Goal, Limit, Measurement, Trial, choose, knee, pareto_front

__all__ = [
    "AtBound",
    "Change",
    "Choice",
    "Dimension",
    "Evaluation",
    "Goal",
    "Limit",
    "Measurement",
    "SearchResult",
    "Space",
    "Trial",
    "choose",
    "knee",
    "pareto_front",
    "search",
    "search_space",
]
