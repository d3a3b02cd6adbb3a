"""Gates: limits on forgetting, their judgement, and the actions that follow."""

from cpt.monitor.gates.controller import Action, ControlState, DecisionPoint, decide
from cpt.monitor.gates.gate import Gate, Limit, acted_upon
from cpt.monitor.gates.judge import Judgement, judge, verdict

__all__ = [
    "Action",
    "ControlState",
    "DecisionPoint",
    "Gate",
    "Judgement",
    "Limit",
    "acted_upon",
    "decide",
    "judge",
    "verdict",
]
