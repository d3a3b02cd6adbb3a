"""Gates: forgetting budgets, their judgement, and the actions that follow."""

from cpt.monitor.gates.controller import Action, ControlState, DecisionPoint, decide
from cpt.monitor.gates.gate import Budget, Gate, acted_upon
from cpt.monitor.gates.judge import Judgement, judge, verdict

__all__ = [
    "Action",
    "Budget",
    "ControlState",
    "DecisionPoint",
    "Gate",
    "Judgement",
    "acted_upon",
    "decide",
    "judge",
    "verdict",
]
