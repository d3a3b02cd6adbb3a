"""What the controller changed: the share of replay and the factor of the learning rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.ticker import FuncFormatter, MaxNLocator

from cpt.formatting import fixed, percent
from cpt.report.schema import Action, ControlPoint
from cpt.report.theme import ROUND_STEPS, canvas, colour, label_axes, mark_actions, to_svg, token_axis


def replay_share(points: Sequence[ControlPoint], actions: Sequence[Action]) -> str | None:
    """Share of replay in the batch against tokens; None if it never changed."""
    curve = [(point.tokens, point.replay_share) for point in points if point.replay_share is not None]
    acted = [action.tokens for action in actions if "replay" in action.action]
    return _steps(
        "replay-share",
        "Replay share",
        "share of the batch",
        curve,
        acted,
        "replay",
        lambda share: percent(share, 0),
    )


def rate_factor(points: Sequence[ControlPoint], actions: Sequence[Action]) -> str | None:
    """Factor of the learning rate against tokens; None if it was never lowered."""
    curve = [(point.tokens, point.rate_factor) for point in points if point.rate_factor is not None]
    acted = [action.tokens for action in actions if "rate" in action.action]
    return _steps(
        "rate-factor",
        "Factor of the learning rate",
        "times the schedule's rate",
        curve,
        acted,
        "ink",
        lambda f: fixed(f, 2),
    )


def _steps(
    key: str,
    title: str,
    axis: str,
    curve: Sequence[tuple[int, float]],
    acted: Sequence[int],
    role: str,
    words: Callable[[float], str],
) -> str | None:
    """A piecewise constant curve from zero, a triangle where the controller acted."""
    if len({value for _, value in curve}) < 2:
        return None
    tokens, values = zip(*curve, strict=True)
    with canvas(190) as (figure, axes):
        axes.step(tokens, values, where="post", color=colour(role))
        axes.fill_between(tokens, 0, values, step="post", color=colour(role), alpha=0.15, linewidth=0)
        axes.set_ylim(0, 1.15 * max(values) or 1.0)
        axes.set_xlim(0, tokens[-1])
        mark_actions(axes, acted)
        token_axis(axes, tokens[-1])
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=ROUND_STEPS))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: words(value)))
        label_axes(axes, "tokens trained", axis)
        ends = f"From {words(values[0])} to {words(values[-1])}"
        return to_svg(figure, key, title, f"{ends}, at most {words(max(values))}.")
