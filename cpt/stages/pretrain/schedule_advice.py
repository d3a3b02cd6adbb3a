"""Say where a schedule departs from what its paper did, or would not work for the model at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.formatting import plural
from cpt.stages.base import Artifact
from cpt.training.schedules import Infinite, Power, Reuse, ScheduleConfig
from cpt.training.schedules.phases import border, enough_warmup

if TYPE_CHECKING:
    from cpt.stages.pretrain.config import PretrainConfig
    from cpt.stages.pretrain.mixture import Mixture

_ONE_BLEND = (
    "the blend stays the same; `reuse` as published changes it where the rate has fallen to a fifth "
    "(mixture: a phase with until: rate/5)"
)

_RATE, _PUBLISHED = "rate/", 1 / 5
"""Beginning of a phase's `until` that names a fall of the rate, and the published fall."""

_USUAL, _HIGH = 3e-4, 1e-3
"""Highest usual rate of continued training, and the highest that is not warned of."""

_MUP = ("dim_model_base", "logits_scaling", "mup_base_hidden_size")
"""Settings of a model that was trained in the maximal update parametrization, where they are not 1."""

_SHORT = 10
"""Fewest steps of a run that is told to warm up: shorter ones are trials."""

_LOOKS = 200
"""Steps of a run at which its rate is read."""

_SHARES = 1 << 20
"""Steps of a run in which shares of it are exact enough."""

_SAME = 1.05
"""Ratio of two rates below which one goes on at the other."""


def schedule_advice(
    config: PretrainConfig, inputs: Mapping[str, Artifact], steps: int, tokens: int
) -> list[str]:
    """Return advice on the schedule, for `cpt plan` and the log of a run.

    Args:
        inputs: Finished inputs; the model's width is read from it.
        steps, tokens: Length of the run.
    """
    advice = warmup_advice(config.schedule, steps)
    if isinstance(config.schedule, Reuse):
        return advice + reuse_advice(config.schedule, config.mixture or (), steps)
    if isinstance(config.schedule, Power) and "model" in inputs:
        return advice + power_advice(config.for_tokens(tokens).schedule, inputs["model"].path("model"))
    return advice


def warmup_advice(schedule: ScheduleConfig, steps: int) -> list[str]:
    """Return a warning where a warm-up is so short that the first step has the full rate.

    AdamW's first steps move every weight by the whole rate, whatever its gradient is.

    Args:
        steps: Number of steps of the run.
    """
    share = schedule.warmup_share
    if share == 0 or steps < _SHORT or border(share, steps) > 1:
        return []
    offered = enough_warmup(steps)
    return [
        f"warmup: {share:g} of {plural(steps, 'step')} is none: the first step has the full rate already. "
        f"Some runs break so. {round(offered * steps)} steps are warmup: {offered:g}"
    ]


def reuse_advice(schedule: Reuse, mixture: Sequence[Mixture], steps: int) -> list[str]:
    """Return a warning where the blend stays the same, or where the rate never gets to where it would change.

    Args:
        mixture: Phases of the mixture; none or one: one blend.
        steps: Number of steps of the run.
    """
    if len(mixture) > 1:
        ends = [str(phase.until) for phase in mixture if str(phase.until).startswith(_RATE)]
        return [said for end in ends if (said := _too_late(schedule, end, steps))]
    if schedule.share_at(_PUBLISHED) is None:
        return [
            f"the rate falls to {schedule.min_ratio:.3g} of its start and never to a fifth, where `reuse` as "
            "published changes the blend: it falls to a hundredth (min_ratio: 0.01)"
        ]
    return [_too_late(schedule, f"{_RATE}5", steps) or _ONE_BLEND]


def _too_late(schedule: Reuse, end: str, steps: int) -> str:
    """Return a warning if no step is left after the end of a phase; empty if there is one."""
    share = schedule.share_at(1 / float(end.removeprefix(_RATE)))
    if share is None or round(share * steps) < steps:  # as phases are placed in a run
        return ""
    return (
        f"no step is left after {end}: the rate gets there after {share:.0%} of the run, which has "
        f"{plural(steps, 'step')}. Train longer, or let it fall further (min_ratio)"
    )


def power_advice(schedule: ScheduleConfig, model: Path) -> list[str]:
    """Return a warning where the power schedule's rate is one for models in muP, and this model is none.

    The published constants (arXiv 2408.13359: a 4.6, peak 0.02) are divided by width / 256 in muP, for the
    matrices inside the layers (Yang et al., arXiv 2203.03466, table 8), and are for training from scratch.
    Also that quotient, 0.0089, destroyed a model of 135M parameters within nine steps
    (benchmarks/results/decision_kinds.json). So the rates of continued training are offered, in the published
    ratio of `peak` and `a`.

    Args:
        schedule: Power schedule of a run.
        model: Folder of the model.
    """
    from cpt.models.loading import settings

    found = settings(model).get_text_config()
    if any(getattr(found, name, 1) not in (None, 1) for name in _MUP):
        return []
    highest = max(schedule.rate(done, _LOOKS) for done in range(_LOOKS))
    if highest <= _HIGH:
        return []
    fields = Power.model_fields
    offered = f"peak: {_USUAL:g}, a: {fields['a'].default * _USUAL / fields['peak'].default:.2g}"
    return [
        f"the power schedule reaches a rate of {highest:.2g}. Its published constants (peak 0.02) are for "
        "models in muP, and destroyed one of 135M parameters in nine steps; 0.0089 did, too. Usual are "
        f"1e-4 to 3e-4: {offered}"
    ]


def continued_advice(config: PretrainConfig, earlier: PretrainConfig | None) -> list[str]:
    """Return a warning where an infinite schedule does not go on at the rate of the training before.

    Args:
        earlier: Settings of the training that made the model; None where it comes from elsewhere.
    """
    schedule = config.schedule
    if not isinstance(schedule, Infinite):
        return []
    if earlier is None:
        elsewhere = (
            "`continues` begins at the constant rate, without re-warming: that is for a model from before an "
            "anneal, and this one comes from no pretrain stage of the recipe. Leave `continues` out unless "
            "it is such a checkpoint"
        )
        return [elsewhere] if schedule.continues else []
    name, its = earlier.name or "pretrain", _rate_where_kept(config, earlier)
    if its is None:
        return []
    own, at = schedule.highest, _constant_at(schedule, its)
    if not schedule.continues:
        goes_on = config.start is not None and config.start.checkpoint == "pre-anneal"
        again = (
            f"the rate rises to {own:g} once more, and {name} kept its model before the anneal at {its:g}: "
            f"to go on there, schedule: {{kind: infinite, continues: true, {at}}}"
        )
        return [again] if goes_on and earlier.schedule.kind == "infinite" and own > _SAME * its else []
    if max(own, its) <= _SAME * min(own, its):
        return []
    mend = f"set {at}" if at else "leave `continues` out"
    if config.start is None or config.start.checkpoint == "last":
        falls = earlier.planned_schedule.anneal_begins(_SHARES) is not None
        mend = "set start: {checkpoint: pre-anneal}" if falls else mend
        return [f"`continues` begins at a rate of {own:g}, but {name} ends at {its:g}: {mend}"]
    return [
        f"`continues` begins at a rate of {own:g}, but {name} kept its model before the anneal at {its:g}: "
        f"{mend}"
    ]


def _constant_at(schedule: Infinite, rate: float) -> str:
    """Return the settings of a schedule that begins at a rate; empty if none can."""
    if rate <= 0:
        return ""
    return f"constant: {rate:g}" + (f", floor: {rate / 10:g}" if rate < schedule.floor else "")


def _rate_where_kept(config: PretrainConfig, earlier: PretrainConfig) -> float | None:
    """Return the rate of a training at the model that a stage begins with; None where it is not known.

    It is not for milestones, and for a power law of tokens whose number follows from the corpus.
    """
    schedule = earlier.planned_schedule
    if schedule.kind == "power" and not earlier.tokens:
        return None
    total = earlier.most_tokens if schedule.unit == "tokens" else _SHARES
    checkpoint = "last" if config.start is None else config.start.checkpoint
    if checkpoint == "last":
        return schedule.rate(total - 1, total)
    begins = schedule.anneal_begins(total) if checkpoint == "pre-anneal" else None
    return None if begins is None else schedule.rate(begins - 1, total)
