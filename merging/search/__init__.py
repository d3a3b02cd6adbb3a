"""Search merge weights by evaluation: merges are tried in memory, and the best one is chosen.

    found = search(space, goal, evaluation, points=12, seed=17, log=file)
    request = space.request_at(found.chosen.values)

The caller measures merges (`Evaluation`): the search knows nothing of texts or tasks. A coarse grid comes
first. One weight is then refined by a line search, several by Bayesian optimisation (optuna's Gaussian
processes): of the gain where limits bound the rest, else of the Pareto front of gain and rise.
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
