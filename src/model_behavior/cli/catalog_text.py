"""What the catalog's commands print for people."""

from __future__ import annotations

from collections.abc import Sequence

from model_behavior.catalog.drift import DriftReport
from model_behavior.catalog.exemplars import SharedPrompt
from model_behavior.catalog.identification import Identification
from model_behavior.catalog.neighbours import Neighbourhood
from model_behavior.catalog.samples import Exemplar
from model_behavior.catalog.style_drivers import StyleDriver
from model_behavior.certainty import ModelCertainty, PlannedSize, RatingCertainty

_NOTE = "Figures of counts and sizes are geometric means: what is typical of a response, not the average."


def describe_neighbourhood(found: Neighbourhood, n_exemplars: int) -> str:
    """The model beside the average of the others and beside each neighbour, on the same prompt where there is one."""
    lines = [f"{found.model} ({found.responses:,} responses), against the average of the other models:"]
    lines += _drivers(found.drivers, "  no difference of style beyond chance")
    lines += _exemplars(found.model, found.exemplars[:n_exemplars])
    for rank, each in enumerate(found.neighbours, 1):
        lines += ["", f"{rank}. {each.model}: distance {each.distance:.3f}, {each.responses:,} responses"]
        lines += [f"   {found.model}, against {each.model}:"]
        lines += _drivers(each.drivers, "  no difference of style beyond chance")
        shared = each.shared[:n_exemplars]
        lines += _side_by_side(found.model, each.model, shared)
        lines += _exemplars(each.model, each.exemplars[: n_exemplars - len(shared)])
    return "\n".join([*lines, "", _NOTE])


def describe_certainty(certainty: Sequence[ModelCertainty], spread: Sequence[float]) -> str:
    """What was enrolled, how sure that is, and what more responses would buy."""
    lines = []
    for each, own in zip(certainty, spread, strict=True):
        lines.append(f"{each.model}: {each.responses:,} responses, spread {own:.3f}")
        if each.radius is not None:
            lines.append(f"  embedding: within {each.radius[0.95]:.3f} of its place, with a probability of 95 %")
        if each.rating is not None:
            rating = each.rating
            compared = f"{rating.compared:,} responses to prompts that voted models answered, too"
            lines.append(f"  rating: {rating.rating:.2f} +- {rating.half_width:.2f} (95 %), from {compared}")
            lines.append(f"  {_needed(rating)}")
        for k, size in each.planned.items():
            bought = [f"{name} {value}" for name, value in _bought(size) if value is not None]
            if bought:
                lines.append(f"  {k:>4} responses: {', '.join(bought)}")
    return "\n".join(lines)


def _needed(rating: RatingCertainty) -> str:
    floor = f"no number of responses goes below +-{rating.floor:.2f}, only votes do"
    if rating.needed is None:
        return f"+-{rating.wanted:.2f} is out of reach: {floor}"
    if rating.needed == 0:
        return f"no more responses needed for +-{rating.wanted:.2f}; {floor}"
    return f"about {rating.needed:,} more responses needed for +-{rating.wanted:.2f}; {floor}"


def _bought(size: PlannedSize) -> list[tuple[str, str | None]]:
    return [
        ("embedding within", None if size.radius is None else f"{size.radius:.3f}"),
        ("rating +-", None if size.half_width is None else f"{size.half_width:.2f}"),
        ("recognised in", None if size.recognition is None else f"{size.recognition:.0%} of cases"),
    ]


def describe_identification(name: str, found: Identification, top: int) -> str:
    """The likeliest models with their probabilities."""
    answer = found.likeliest or "none of the known models"
    lines = [f"{name}, {found.n_responses} responses: {answer}"]
    lines += [f"  {each.probability:6.1%}  {each.model}" for each in found.candidates[:top]]
    rest = sum(each.probability for each in found.candidates[top:])
    if len(found.candidates) > top:
        lines.append(f"  {rest:6.1%}  {len(found.candidates) - top} other known models")
    return "\n".join([*lines, f"  {found.none:6.1%}  none of them"])


def describe_drift(found: DriftReport) -> str:
    """The finding, what it rests on, and how many responses other effects would take."""
    verdict = "changed" if found.changed else "no change found"
    unit = "prompts" if found.by_prompt else "new responses"
    how = f"by prompt, on {found.shared_prompts} shared prompts" if found.by_prompt else "without regard to prompts"
    lines = [
        f"{found.model}: {verdict} (p = {found.p_value:.3g})",
        f"  effect: {found.effect:.2f} standard deviations of a response",
        f"  compared {how}: {found.n_new} new with {found.n_enrolled} enrolled responses",
    ]
    if found.effect > 0:
        lines.append(f"  {unit} needed to find this effect in 80 % of cases: {_number(found.needed_for_effect)}")
    sizes = ", ".join(f"{size:g}: {_number(needed)}" for size, needed in found.needed.items())
    lines.append(f"  {unit} needed by size of effect: {sizes}")
    if found.drivers:
        lines += ["  new responses, against the enrolled ones:", *_drivers(found.drivers, "")]
    if found.caution:
        lines.append(f"  caution: {found.caution}")
    return "\n".join(lines)


def _number(needed: int | None) -> str:
    return "more than the enrolled sample allows" if needed is None else f"{needed:,}"


def _drivers(drivers: Sequence[StyleDriver], otherwise: str) -> list[str]:
    return [f"   - {driver.text}" for driver in drivers] or [f" {otherwise}"]


def _exemplars(model: str, exemplars: Sequence[Exemplar]) -> list[str]:
    lines = []
    for exemplar in exemplars:
        lines += [f"   typical of {model}:", *_indent("asked", exemplar.prompt), *_indent("said ", exemplar.response)]
    return lines


def _side_by_side(a: str, b: str, shared: Sequence[SharedPrompt]) -> list[str]:
    lines = []
    for each in shared:
        lines += ["   asked of both:", *_indent("asked", each.prompt)]
        for model, response in ((a, each.response_a), (b, each.response_b)):
            lines += [f"   {model}:", *_indent("said ", response)]
    return lines


def _indent(who: str, text: str) -> list[str]:
    first, *rest = text.strip().splitlines() or [""]
    return [f"     {who} | {first}", *(f"           | {line}" for line in rest)]
