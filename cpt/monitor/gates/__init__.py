"""Gates: budgets of forgetting, whether they hold, and what is done about it."""

from cpt.monitor.gates.budget import Budget
from cpt.monitor.gates.control import Act, ControlState, Moment, decide
from cpt.monitor.gates.gate import Gate
from cpt.monitor.gates.judge import Judgement, judge, verdict

__all__ = ["Act", "Budget", "ControlState", "Gate", "Judgement", "Moment", "decide", "judge", "verdict"]
