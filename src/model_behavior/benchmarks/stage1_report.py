"""The report of the stage-1 benchmark, with how sure embeddings and "none of them" are, as Markdown with SVG plots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from model_behavior.benchmarks.certainty import CertaintyFigures, RegionFigures, UnknownFigures
from model_behavior.benchmarks.robustness import LanguageFigures, RobustnessFigures
from model_behavior.benchmarks.stage1 import DEFAULT, BenchmarkPlan, DatasetResult, NewModels, TopicShare
from model_behavior.catalog.placement import LEVELS
from model_behavior.evaluation.figures import Figure
from model_behavior.evaluation.plots import PlotTexts, draw_lines, draw_points
from model_behavior.evaluation.recognition import IDENTIFICATION_SIZES

_INTRODUCTION = """\
# Stage 1 on real votes

Written by `{command}`. Prompts are split before anything is fitted; {share}
of them are measured on, with {seeds} seeds, each its own split and training. A cell is the mean over the seeds,
[the 95 % bootstrap interval of the first seed, clustered by prompt] and ± the standard deviation over seeds.

- *Triplet accuracy*: share of triplets of decided votes with d(anchor, positive) < d(anchor, negative), and by kind of
  positive. Chance is 0.5.
- *Balanced*: triplets whose positive and negative answer one prompt and the anchor another, of every vote, draws as a
  half: what the embedding knows of the model where topic helps neither side. Chance is 0.5.
- *Identification @k*: nearest model centroid (training responses) for the mean of k validation responses. The rows of
  the default's parts measure the same embeddings by the columns of one part alone; `identify` uses more than centroids.
- *Family @k*: the same, where a model of the right family is right.
- *Distance* and *effective rank*: mean cosine distance and spread over dimensions of validation embeddings.
- *Prompt share*, *model share*: how much of their variance the prompt, or the model, explains.
- *Seconds*: of training with cached features.
- *Topic share*: of the variance of standardised style features between validation responses, what the prompt explains,
  before and after what the prompt predicts is subtracted.
- *Votes read out*: share of decided votes called rightly from the quality of the two responses' embeddings, which see
  the responses; then of those whose lengths differ by at most 10 %; then the mean of the shares among votes that the
  longer and that the shorter response won, which is 0.5 for length alone.
- *New LLMs*: {held_out} of the LLMs, in whole families, held out of both stages and enrolled from k of their responses
  to training prompts. Spearman's correlation of predicted ratings with Bradley-Terry ratings from all votes; accuracy
  on votes on new prompts between a new and a known LLM, beside Bradley-Terry that has seen their votes (oracle).
- *Regions*: where the embeddings of new LLMs lie by k responses, against the mean of their responses to the other half
  of the prompts. Share of regions of 50, 80 and 95 % that hold it; radius of those of 95 %; mean square error of the
  shrunk embedding over that of the plain mean; square error of the plain mean over that of independent responses.
- *None of them*: identification from k responses with half of the weight on known LLMs and half on new ones, the known
  ones' and the new ones' responses to the same prompts, which nothing was fitted to. Always saying 0.5 gives a log loss
  of 0.693 and a Brier score of 0.25.
- *Changed responses* (`--robustness`, the first seed): 32 responses of known and of new LLMs to validation prompts,
  changed as a harness may. Share of known LLMs that are likeliest among the known ones; mean probability of "none of
  them" for known and for new LLMs; share of known LLMs that are named at all, be it with a shift; share of new LLMs for
  which a known one is named with a shift.
- *Languages* (`--languages`): the synthetic arena in other words, two epochs of training each, all responses to new
  prompts.

The epoch is chosen by triplet accuracy on the same validation prompts, which flatters the trained rows a little (one
choice among {epochs} epochs of one run).
"""


def write_stage1_report(
    results: Iterable[DatasetResult],
    plan: BenchmarkPlan,
    command: str,
    languages: Mapping[str, LanguageFigures] | None = None,
) -> tuple[str, Mapping[str, str]]:
    """The Markdown, and the SVG text of each picture by the file name that the Markdown refers to."""
    parts = [
        _INTRODUCTION.format(
            command=command,
            share=f"{plan.validation_fraction:.0%}",
            held_out=f"{plan.held_out_share:.0%}",
            seeds=plan.seeds,
            epochs=plan.epochs,
        )
    ]
    pictures: dict[str, str] = {}
    for result in results:
        drawn = _draw(result)
        pictures |= drawn
        parts += _write_dataset(result)
        parts += [*_write_topic(result.topic), *_write_readout(result), *_write_new_models(result.new_models)]
        parts += write_certainty([each.certainty for each in result.new_models])
        parts += write_robustness(next((each.robustness for each in result.new_models), {}))
        parts += [f"![{name}]({name})\n" for name in drawn]
    parts += write_languages(languages or {})
    return "\n".join(parts), pictures


def write_certainty(seeds: Sequence[CertaintyFigures]) -> list[str]:
    """Both tables, means and standard deviations over the seeds; nothing where no seed has figures."""
    return [*_write_regions(seeds), *_write_unknown(seeds)]


def write_robustness(figures: Mapping[str, RobustnessFigures]) -> list[str]:
    """The table of changed responses; nothing where nothing was measured."""
    if not figures:
        return []
    columns = ("changed responses", "likeliest", "P(none), known", "P(none), new", "named at all", "wrongly, shifted")
    head = "| " + " | ".join([*columns, "n known, new"]) + " |"
    rows = [
        f"| {name} | {each.named:.2f} | {each.none_known:.2f} | {each.none_new:.2f} | {each.named_shifted:.2f} | "
        f"{each.wrongly_shifted:.2f} | {each.n[0]}, {each.n[1]} |"
        for name, each in figures.items()
    ]
    return [head, "|---" * 7 + "|", *rows, ""]


def write_languages(figures: Mapping[str, LanguageFigures]) -> list[str]:
    """The table of languages; nothing where nothing was measured."""
    if not figures:
        return []
    rows = [f"| {name} | {each.named:.2f} | {each.true:.2f} | {each.n} |" for name, each in figures.items()]
    head = ["## Languages", "", "| synthetic arena in | likeliest | mean P(true) | n LLMs |", "|---" * 4 + "|"]
    return [*head, *rows, ""]


def _write_dataset(result: DatasetResult) -> list[str]:
    sizes = [k for k in IDENTIFICATION_SIZES if any(k in m.figures[0].identification for m in result.methods)]
    first = result.methods[0].figures[0]
    lines = [
        f"## {result.name}",
        "",
        f"{result.n_votes:,} votes, {result.n_models} models, {result.n_prompts:,} prompts after filtering; "
        f"n = {first.triplet['all'].n:,} triplets of decided votes"
        + "".join(f", {first.identification[k].n:,} draws at k = {k}" for k in sizes)
        + f" (first seed); chance of identification {1 / first.n_models:.3f}.",
        "",
        "| method | triplet acc. | identity | performance | balanced | "
        + " | ".join([*(f"ident. @{k}" for k in sizes), *(f"family @{k}" for k in sizes)])
        + " | distance | eff. rank | prompt share | model share | seconds |",
        "|---" * (10 + 2 * len(sizes)) + "|",
    ]
    for method in result.methods:
        cells = [_cell([f.triplet[kind] for f in method.figures]) for kind in ("all", "identity", "performance")]
        cells.append(_cell([f.balanced for f in method.figures]))
        cells += [_cell([f.identification[k] for f in method.figures if k in f.identification]) for k in sizes]
        cells += [_cell([f.family[k] for f in method.figures if k in f.family]) for k in sizes]
        for values in (
            [f.mean_distance for f in method.figures],
            [f.effective_rank for f in method.figures],
            [f.prompt_share for f in method.figures],
            [f.model_share for f in method.figures],
        ):
            cells.append(f"{np.mean(values):.2f}")
        cells.append("" if method.seconds is None else f"{method.seconds:.0f}")
        lines.append(f"| {method.method} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _write_topic(topic: Sequence[TopicShare]) -> list[str]:
    before, after = _spread([each.before for each in topic]), _spread([each.after for each in topic])
    return [f"Topic share of style features: {before} before, {after} after its removal.", ""]


def _write_readout(result: DatasetResult) -> list[str]:
    lines = ["| votes read out | all | within 10 % of length | longer and shorter balanced |", "|---|---|---|---|"]
    for method in result.methods:
        if method.readout:
            columns = (
                [each.accuracy for each in method.readout],
                [each.length_control.matched for each in method.readout],
                [each.length_control.balanced for each in method.readout],
            )
            cells = (f"{_cell(column)}, n = {column[0].n:,}" for column in columns)
            lines.append(f"| {method.method} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _write_new_models(seeds: Sequence[NewModels]) -> list[str]:
    if not seeds:
        return []
    lines = [
        f"New LLMs: {', '.join(str(len(seed.held_out)) for seed in seeds)} of them, by seed.",
        "",
        "| responses enrolled | Spearman of ratings | votes, accuracy |",
        "|---|---|---|",
    ]
    for k in sorted(seeds[0].by_responses):
        figures = [seed.by_responses[k] for seed in seeds]
        correlation, accuracy = _spread([each.correlation for each in figures]), [each.votes for each in figures]
        n = f", n = {accuracy[0].accuracy.n:,}" if accuracy[0] is not None else ""
        lines.append(f"| {k} | {correlation} | {_spread([each.accuracy for each in figures])}{n} |")
    oracle = [seed.oracle.accuracy for seed in seeds if seed.oracle is not None]
    return [*lines, f"| oracle | 1 | {_cell(oracle)} |", ""]


def _write_regions(seeds: Sequence[CertaintyFigures]) -> list[str]:
    by_size: dict[int, list[RegionFigures]] = {}
    for seed in seeds:
        for k, figures in seed.regions.items():
            by_size.setdefault(k, []).append(figures)
    if not by_size:
        return []
    levels = " | ".join(f"holds, of {level:.0%}" for level in LEVELS)
    lines = [
        f"| regions of new LLMs | {levels} | radius | error, shrunk / plain | error / independent | n |",
        "|---" * (5 + len(LEVELS)) + "|",
    ]
    for k, found in sorted(by_size.items()):
        cells = [_spread([each.coverage[level] for each in found]) for level in LEVELS]
        cells.append(_spread([each.radius for each in found]))
        cells.append(_spread([each.shrunk_error / each.plain_error for each in found]))
        cells.append(_spread([each.variance_ratio for each in found]))
        lines.append(f"| {k} | " + " | ".join(cells) + f" | {found[0].n} |")
    topics = [seed.topic_correlation for seed in seeds if np.isfinite(seed.topic_correlation)]
    note = f"Correlation of responses to one topic: {_spread(topics)}." if topics else ""
    return [*lines, "", *([note, ""] if note else [])]


def _write_unknown(seeds: Sequence[CertaintyFigures]) -> list[str]:
    rows: list[str] = []
    for label, column in (
        ("style and embedding", [seed.unknown for seed in seeds]),
        ("style alone", [seed.unknown_by_style for seed in seeds]),
    ):
        sizes = sorted({k for seed in column for k in seed})
        rows += [_write_row(f"{label}, {k}", [seed[k] for seed in column if k in seed]) for k in sizes]
    if not rows:
        return []
    head = "| none of them | recognised | log loss | Brier | ECE | false known | false unknown | n known, new |"
    return [head, "|---" * 8 + "|", *rows, ""]


def _write_row(label: str, figures: Sequence[UnknownFigures]) -> str:
    columns = (
        [each.recognised for each in figures],
        [each.log_loss for each in figures],
        [each.brier for each in figures],
        [each.calibration_error for each in figures],
        [each.false_known for each in figures],
        [each.false_unknown for each in figures],
    )
    known, new = figures[0].n
    return f"| {label} | " + " | ".join(map(_spread, columns)) + f" | {known}, {new} |"


def _draw(result: DatasetResult) -> dict[str, str]:
    pictures = {}
    lines = {
        method.method: [
            (float(k), float(np.mean([f.identification[k].value for f in method.figures if k in f.identification])))
            for k in IDENTIFICATION_SIZES
            if any(k in f.identification for f in method.figures)
        ]
        for method in result.methods
        if method.seconds is None or method.method == DEFAULT
    }
    if any(lines.values()):
        texts = PlotTexts(f"{result.name}: identification", "responses", "share right", log_x=True)
        pictures[f"stage1-{result.name}-identification.svg"] = draw_lines(lines, texts)
    if result.new_models:
        ratings = [
            (float(k), float(np.mean([seed.by_responses[k].correlation for seed in result.new_models])))
            for k in sorted(result.new_models[0].by_responses)
        ]
        if np.isfinite([y for _, y in ratings]).any():
            texts = PlotTexts(f"{result.name}: ratings of new LLMs", "responses enrolled", "Spearman", log_x=True)
            pictures[f"stage1-{result.name}-new-models.svg"] = draw_lines({DEFAULT: ratings}, texts)
    if result.model_map:
        title = f"{result.name}: LLMs by what they answer, first two principal axes, coloured by family"
        pictures[f"stage1-{result.name}-map.svg"] = draw_points(result.model_map, title)
    return pictures


def _cell(figures: Sequence[Figure]) -> str:
    if not figures:
        return "-"
    values = [figure.value for figure in figures]
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    interval = f" [{figures[0].low:.3f}, {figures[0].high:.3f}]" if np.isfinite(figures[0].low) else ""
    return f"{np.mean(values):.3f}{interval}{spread}"


def _spread(values: Sequence[float]) -> str:
    spread = f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ""
    return f"{np.mean(values):.3f}{spread}"
