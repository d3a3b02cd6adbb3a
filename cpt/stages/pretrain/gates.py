"""Gates of a pretrain stage: what cannot work is found before it runs; how budgets stand, and what it made
of probes, after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.corpus.texts import has_texts
from cpt.errors import Problem
from cpt.monitor.gates.budget import Budget
from cpt.monitor.gates.control import fewest_rows, most_rows
from cpt.monitor.gates.gate import HALF, Gate, RaiseReplay, RollBack, Stop
from cpt.monitor.reading import Kind
from cpt.sources import DOMAIN
from cpt.stages.gates import require_held
from cpt.stages.pretrain.monitor_config import Monitor
from cpt.stages.pretrain.probe_texts import EARLY_END, HELD_OUT

if TYPE_CHECKING:
    from cpt.training.state import Result


@dataclass(frozen=True)
class Setting:
    """What gates are checked against.

    Attributes:
        probes: what is measured, by name.
        batch: sequences of a global batch; `rows` of them are replay text.
        has_replay: whether there is replay text; None while the corpus is not known.
    """

    probes: Mapping[str, Kind]
    batch: int
    rows: int
    has_replay: bool | None


def measured(monitor: Monitor, corpus: Path | None, new_tokens: bool) -> dict[str, Kind]:
    """What is measured, by name, as far as it is known.

    Args:
        corpus: its folder; None while it is not made: then it is taken to hold out some of every text.
        new_tokens: whether the model has any, or may have.
    """
    texts = [name for name in HELD_OUT if corpus is None or has_texts(corpus, name, "heldout")]
    found: dict[str, Kind] = dict.fromkeys([*texts, *monitor.texts], "text")
    found |= dict.fromkeys(monitor.tasks, "task")
    found |= {"drift": "drift"} if monitor.drift is not None else {}
    found |= {"early-end": "early-end"} if monitor.early_end is not None and texts else {}
    found |= {"weights": "weights"} if monitor.weights is not None else {}
    return found | ({"new-tokens": "new-tokens"} if new_tokens else {})


def may_replay(gates: Sequence[Gate]) -> bool:
    """Whether some gate may ask for replay text."""
    return any(_most(gate) is not None for gate in gates)


def least_rows(gates: Sequence[Gate], rows: int, batch: int) -> int:
    """The fewest replay rows that a batch can come to have, of `rows` at first."""
    given = [g.least for g in gates if isinstance(g, RaiseReplay) and g.least is not None]
    return min([rows, *(fewest_rows(least, batch) for least in given)])


def gate_problems(gates: Sequence[Gate], setting: Setting) -> list[Problem]:
    """What cannot work, or would have no effect."""
    counted = Counter((gate.budget.text, gate.action) for gate in gates)
    problems = [
        Problem(f"`{text}` has {count} gates that {action}", key="gates", hint="One is enough.")
        for (text, action), count in counted.items()
        if count > 1
    ]
    for number, gate in enumerate(gates):
        key = f"gates.{number}"
        problems += budget_problems(gate.budget, key, setting.probes)
        problems += _replay_problems(gate, key, setting)
        if isinstance(gate, Stop) and DOMAIN not in setting.probes:
            message = "the best point cannot be found: the corpus has no held-out domain text"
            problems.append(Problem(message, key=f"{key}.action", hint="Hold some out, or choose `fail`."))
    return problems + (no_replay_text(gates) if setting.has_replay is False else [])


def no_replay_text(gates: Sequence[Gate]) -> list[Problem]:
    """Gates that may ask for replay text, where the corpus has none, or will have none."""
    return [
        Problem(
            f"`{gate.budget}` may raise the replay share, but the corpus has no replay text",
            key=f"gates.{number}.action",
            hint="Give the corpus stage `replay:` (sources, or self_generated), or choose another action.",
        )
        for number, gate in enumerate(gates)
        if _most(gate) is not None
    ]


def budget_problems(
    budget: Budget, key: str, probes: Mapping[str, Kind], under: str = "monitor"
) -> list[Problem]:
    """Why a gate's budget cannot be watched.

    Args:
        key: of the gate.
        under: setting under which more can be measured.
    """
    if budget.probe not in probes:
        near = get_close_matches(budget.probe.lower(), probes, n=1)
        known = ", ".join(f"`{name}`" for name in probes)
        hint = f"Did you mean `{near[0]}`?" if near else f"Measured are {known}; add others under `{under}`."
        message = f"no probe is called `{budget.probe}`, so `{budget}` cannot be watched"
        return [Problem(message, key=f"{key}.budget", hint=hint)]
    misfit = budget.misfit(probes[budget.probe])
    return (
        [Problem(f"`{budget}` does not go with its probe: {misfit}", key=f"{key}.budget")] if misfit else []
    )


def _replay_problems(gate: Gate, key: str, setting: Setting) -> list[Problem]:
    most, batch = _most(gate), setting.batch
    if most is None:
        return []
    problems = []
    rows = most_rows(most, batch)
    if rows <= setting.rows:
        message = f"{most:g} of {batch} sequences are {rows} rows, and the run begins with {setting.rows}"
        hint = "Raise `most`, use larger batches, or begin with less `replay`."
        problems.append(Problem(f"nothing is left to raise: {message}", key=f"{key}.most", hint=hint))
    least = gate.least if isinstance(gate, RaiseReplay) else None
    if least is not None and fewest_rows(least, batch) >= setting.rows:
        message = (
            f"{least:g} of {batch} sequences is no less than the {setting.rows} that the run begins with"
        )
        hint = "Leave `least` out: then the share is not lowered below `replay`."
        problems.append(Problem(message, key=f"{key}.least", hint=hint))
    return problems


def _most(gate: Gate) -> float | None:
    """The largest replay share that a gate may ask for, if it may for any."""
    if isinstance(gate, RaiseReplay):
        return gate.most
    if isinstance(gate, RollBack) and gate.then == "raise-replay":
        return gate.most or HALF
    return None


def probe_figures(gates: Sequence[Gate], result: Result, tolerance: float, stage: str = "") -> dict[str, Any]:
    """What a run made of its probes, for its summary: gates, stability, continual; why it ended early.

    Figures are of the readings up to the weights that are the result. A budget for which `fail` has ended the
    run is broken: it was shown to be, whatever the number of looks.
    """
    from cpt.monitor.continual import continual
    from cpt.monitor.gates import judge
    from cpt.monitor.stability import stability

    ended = result.ended or {}
    last = ended.get("result_step", result.steps)
    readings = [reading for reading in result.readings if reading.step <= last]
    judged = judge(gates, readings, 1.0, tolerance, stage=stage)
    if ended.get("action") == "fail":
        judged = [
            replace(j, verdict="broken", why=ended["why"]) if j.key == ended["key"] else j for j in judged
        ]
    return {
        "stability": {name: asdict(gap) for name, gap in stability(readings, tolerance).items()},
        "continual": {name: asdict(figures) for name, figures in continual(readings).items()},
        "gates": [judgement.as_json() for judgement in judged],
        "ended": result.ended,
    }


def require_budgets(metrics: Mapping[str, Any], monitor: Monitor, stage: str) -> None:
    """Raise if a budget is not held at the end of a run, unless its gate only warns.

    Raises:
        GateFailed: a budget is broken. GateNotShown: one is not shown to be held. Both name all of them.
    """

    def setting(probe: str) -> str:
        if probe in monitor.tasks:
            return f"{stage}.monitor.tasks.{probe}.items"
        if probe in monitor.texts:
            return f"{stage}.monitor.texts.{probe}.tokens"
        of_its_own = {"drift": "drift.tokens", EARLY_END: "early_end.tokens"}
        return f"{stage}.monitor.{of_its_own.get(probe, 'tokens')}"

    remedy = "Use more replay, a lower rate or fewer tokens"
    require_held(metrics, setting, remedy=remedy, kept="The result is kept.")
