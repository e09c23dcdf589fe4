"""What `route` and `calibrate-threshold` print for people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from model_behavior.evaluation.figures import Figure
from model_behavior.evaluation.routing import RoutingFigures
from model_behavior.evaluation.routing_page import describe_shares
from model_behavior.routing.gap_recovery import GapCurve, average_gap_recovered, thresholds_of_levels
from model_behavior.routing.router import Choice, Router
from model_behavior.routing.traffic import OperatingPoint, Traffic

_SHOWN_ALTERNATIVES = 3
_PROMPT_WIDTH = 60


def describe_choices(router: Router, prompts: Sequence[str], choices: Sequence[Choice]) -> str:
    """One prompt with its alternatives; of several prompts one line each, and what they cost together."""
    if len(choices) == 1:
        (choice,) = choices
        lines = [f"{choice.model}: {_quality(choice.win_rate, router)}, cost {choice.cost:g}"]
        others = choice.alternatives[:_SHOWN_ALTERNATIVES]
        lines += [f"  instead of {each.model}: {each.win_rate:.3f}, cost {each.cost:g}" for each in others]
        left_out = len(choice.alternatives) - len(others)
        return "\n".join([*lines, f"  and {left_out} other candidates"] if left_out else lines)
    lines = [f"{choice.model}\t{_shorten(prompt)}" for prompt, choice in zip(prompts, choices, strict=True)]
    shares = {name: count / len(choices) for name, count in Counter(each.model for each in choices).items()}
    cost = sum(choice.cost for choice in choices) / len(choices)
    win_rate = sum(choice.win_rate for choice in choices) / len(choices)
    summary = f"{len(choices):,} prompts: mean cost {cost:.6g}, mean {_quality(win_rate, router)}"
    return "\n".join([*lines, "", summary, f"calls: {describe_shares(shares)}"])


def describe_calibration(
    traffic: Traffic, chosen: OperatingPoint, gap: GapCurve, figures: RoutingFigures | None
) -> str:
    """The threshold and what it means."""
    router, cut = traffic.router, traffic.win_rate_cut(chosen.threshold)
    best, cheapest = traffic.describe(0.0), traffic.describe(math.inf)
    lines = [
        f"threshold {chosen.threshold:.6g}: a dearer model is called where it adds this much win rate per unit of cost",
        *(
            []
            if cut is None
            else [f"  that is: the dearer one where its win rate against the other is above {cut:.3f}"]
        ),
        f"on {len(traffic.prompts):,} prompts: mean cost {chosen.mean_cost:.6g}, {_quality(chosen.win_rate, router)}",
        f"  calls: {describe_shares(chosen.shares)}",
        f"  best mix at this cost without looking at the prompt: {chosen.blind_win_rate:.3f}",
        f"  best model on each prompt (threshold 0): {best.win_rate:.3f}, mean cost {best.mean_cost:.6g}",
        f"  cheapest model: {cheapest.win_rate:.3f}, mean cost {cheapest.mean_cost:.6g}",
    ]
    reached = ", ".join(f"CPT({level:.0%}) {share:.3f}" for level, share in thresholds_of_levels(gap).items())
    if math.isfinite(apgr := average_gap_recovered(gap)):
        lines.append(f"  expected, if the predictions hold: APGR {apgr:.3f} (random 0.5), {reached}")
    if figures is not None:
        cpt = ", ".join(f"CPT({level:.0%}) {_interval(figure)}" for level, figure in figures.cpt.items())
        lines += [
            f"measured on {figures.apgr.n:,} votes, the dearer side as the strong one:",
            f"  win rate of the dearer side {_interval(figures.strong_win_rate)}",
            f"  APGR {_interval(figures.apgr)} (random 0.5), {cpt}",
        ]
    return "\n".join(lines)


def _quality(win_rate: float, router: Router) -> str:
    return f"expected win rate {win_rate:.3f} against {router.reference}"


def _interval(figure: Figure) -> str:
    return f"{figure.value:.3f} [{figure.low:.3f}, {figure.high:.3f}]"


def _shorten(prompt: str) -> str:
    line = " ".join(prompt.split())
    return line if len(line) <= _PROMPT_WIDTH else f"{line[: _PROMPT_WIDTH - 1]}…"
