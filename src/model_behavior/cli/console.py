"""Output of the command line: progress, tables, warnings and errors on stderr; results on stdout."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO, final

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from model_behavior.cli.entry import raise_lost_interrupt
from model_behavior.data.canonical_text import describe_changes

if TYPE_CHECKING:  # names of types alone: the list of commands is printed without loading what they need
    from model_behavior.data.canonical_text import Changes
    from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
    from model_behavior.data_models.training_log import EpochLog
    from model_behavior.data_models.votes import FilterReport, LoadReport, SourceReport

_SHOWN_SOURCES = 20  # of more, the sums are shown
_REDRAW_SECONDS = 0.2  # on a terminal
_LINE_SECONDS = 10.0  # in a log file, where every redraw stays
_SILENT_SECONDS = 2.0  # shorter tasks need no progress
_OBEYED = re.compile(
    "[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff]"
)


@final
class _SafeConsole(Console):
    """A console on which texts of files and of other programs do nothing but appear."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As the base, with control characters in texts made visible."""
        super().print(*(make_visible(each) if isinstance(each, str) else each for each in objects), **options)


def stderr() -> Console:
    """To print a line: clears the bar. Made at each use, so that it writes to the stderr of that moment."""
    clear_bar()
    return _SafeConsole(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def make_visible(text: str) -> str:
    """The text with what a terminal would obey (or could not write) as escapes such as `\\u001b`, valid in JSON, too.

    These are control characters but for new line and tab, marks that reorder a line, and halves of surrogate pairs.
    """
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def print_result(value: Any, as_json: bool, text: str) -> None:
    """The one result of a command: JSON, or plain text."""
    clear_bar()
    out = json.dumps(_without_nan(value), indent=2, ensure_ascii=False, allow_nan=False) if as_json else text
    sys.stdout.write(make_visible(out) + "\n")


def _without_nan(value: Any) -> Any:
    """JSON has no NaN and no infinity; a figure that is undefined is null."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def show_warnings() -> None:
    """Makes library warnings one readable line each."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        del category, filename, lineno, file, line
        stderr().print(f"warning: {message}", markup=False, style="yellow")

    warnings.showwarning = show


def counted(number: int, noun: str) -> str:
    """A number with its noun: "1 entry", "2,000 entries"."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def print_load_report(report: LoadReport) -> None:
    """Rows used and skipped of every source, or of all together where there are many."""
    console = stderr()
    for source in report.sources if len(report.sources) <= _SHOWN_SOURCES else [_sum_reports(report.sources)]:
        skipped = ", ".join(f"{count:,} {reason}" for reason, count in sorted(source.skipped.items()))
        tail = f"; skipped {skipped}" if skipped else ""
        console.print(
            f"{source.source}: {source.format}, {source.used:,} of {source.rows:,} rows used{tail}", markup=False
        )
        for note in source.notes:
            console.print(f"  {note}", markup=False)
        for warning in source.warnings:
            console.print(f"warning: {warning}", markup=False, style="yellow")
    for names in report.similar_names:
        listed = ", ".join(map(repr, names))
        console.print(
            f"warning: names that look alike, read as different models: {listed}", markup=False, style="yellow"
        )


def _sum_reports(sources: Sequence[SourceReport]) -> SourceReport:
    """Counts of many sources together; what is noted of several of them is noted once."""
    skipped: Counter[str] = Counter()
    for each in sources:
        skipped.update(each.skipped)
    return replace(
        sources[0],
        source=f"{len(sources)} files",
        format=", ".join(sorted({each.format for each in sources})),
        rows=sum(each.rows for each in sources),
        used=sum(each.used for each in sources),
        skipped=skipped,
        warnings=tuple(dict.fromkeys(text for each in sources for text in each.warnings)),
        notes=tuple(dict.fromkeys(text for each in sources for text in each.notes)),
    )


def print_changes(changes: Changes) -> None:
    """What of the responses was made canonical before anything was counted."""
    if text := describe_changes(changes):
        stderr().print(f"canonical text: {text} responses", markup=False)


def print_notes(notes: Sequence[str]) -> None:
    """What to know of the votes before believing the ratings, on stderr."""
    for note in notes:
        stderr().print(f"note: {note}", markup=False)


def print_filter_report(report: FilterReport) -> None:
    """Votes kept and removed."""
    removed = ", ".join(f"{count:,} {reason}" for reason, count in report.removed.items() if count)
    console = stderr()
    tail = f"; removed {removed}" if removed else ""
    console.print(f"filters: {report.votes_after:,} of {report.votes_before:,} votes kept{tail}", markup=False)
    if report.rare_models:
        console.print(f"filters: rare models left out: {', '.join(report.rare_models)}", markup=False)
        console.print("filters: --min-comparisons  models   votes", style="bold")
        for each in report.thresholds:
            console.print(f"filters: {each.votes_per_model:>17}  {each.models:>6,}  {each.votes:>6,}")
    print_changes(report.canonicalised)
    if report.masked_responses:
        console.print(f"filters: self-naming masked in {counted(report.masked_responses, 'response')}", markup=False)


@final
class Progress:
    """How far a task is: a bar on a terminal, a line now and then in a log file; nothing of short tasks."""

    def __init__(self) -> None:
        self._task = ""
        self._started = self._drawn = 0.0
        self._first = self._done = 0

    def show(self, task: str, done: int, total: int | None) -> None:
        """`done` of `total` units of `task` are finished."""
        raise_lost_interrupt()
        now = time.monotonic()
        if task != self._task or done < self._done:
            clear_bar()
            self._task, self._started, self._drawn, self._first, self._done = task, now, now, done, done
            return
        self._done = done
        terminal = sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
        pause = _REDRAW_SECONDS if terminal else _LINE_SECONDS
        if done == self._first or now - self._started < _SILENT_SECONDS or now - self._drawn < pause:
            return
        self._drawn = now
        figures = self._describe(done, total, now - self._started)
        if terminal:
            _draw_bar(task, done, total, figures)
        else:
            stderr().print(f"{task}: {figures}", markup=False)

    def _describe(self, done: int, total: int | None, seconds: float) -> str:
        rate = (done - self._first) / max(seconds, 1e-9)
        shown = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        if total is None:
            return f"{done:,} ({shown}/s)"
        left = (total - done) / rate if rate > 0 else float("inf")
        remaining = f"{left:.0f} s left" if left < 120 else f"{left / 60:.0f} min left" if left < 1e6 else "starting"
        return f"{done:,} of {total:,} ({shown}/s, {remaining})"


_bar: Bar | None = None  # on the terminal now


def _draw_bar(task: str, done: int, total: int | None, figures: str) -> None:
    global _bar
    if _bar is None or _bar.tasks[0].description != task:
        clear_bar()
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), TextColumn("{task.fields[figures]}"))
        console = Console(stderr=True, highlight=False, emoji=False)
        # Drawn when it is told to, without a thread; what others print on stderr meanwhile stands above it.
        _bar = Bar(*columns, console=console, auto_refresh=False, transient=True, redirect_stdout=False)
        _bar.add_task(task, completed=done, total=total, figures=figures)
        _bar.start()
    _bar.update(_bar.task_ids[0], completed=done, total=total, figures=figures, refresh=True)


def clear_bar() -> None:
    """Takes the bar off the terminal; the next step of its task draws it again."""
    global _bar
    if _bar is not None:
        _bar.stop()
        _bar = None


@final
class ConsoleMonitor:
    """Draws training on stderr: what was filtered, progress, one row per epoch."""

    def __init__(self) -> None:
        self._progress = Progress()
        self._header_shown = False

    def on_prepared(self, prepared: PreprocessedBehaviorEncoderData) -> None:
        """Prints the filter report and the sizes of the split."""
        print_filter_report(prepared.filter_report)
        split = prepared.split
        held_out = f", {len(split.held_out):,} with held-out models" if len(split.held_out) else ""
        stderr().print(f"split: {len(split.train):,} training and {len(split.validation):,} validation votes{held_out}")
        skipped = prepared.validation_triplets.skipped
        if skipped:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in skipped.items())
            stderr().print(f"validation triplets not formed: {reasons}", markup=False)

    def on_progress(self, task: str, done: int, total: int) -> None:
        """Draws the progress."""
        self._progress.show(task, done, total)

    def on_tuning_round(self, log: EpochLog) -> None:
        """Prints one line."""
        stderr().print(
            f"fine-tuning, round {log.epoch}: train loss {log.train_loss:.4f}, val. loss {log.validation_loss:.4f}, "
            f"triplet acc. {log.triplet_accuracy:.3f}, balanced {_figure(log.balanced_accuracy)}, "
            f"ident.@8 {_figure(log.identification)}, "
            f"distance {log.mean_distance:.3f}, {log.seconds:.1f} s"
        )

    def on_epoch(self, log: EpochLog) -> None:
        """Prints one row of the table."""
        console = stderr()
        if not self._header_shown:
            skipped = ", ".join(f"{count:,} {reason}" for reason, count in log.skipped.items())
            console.print(f"triplets: {log.n_triplets:,} per epoch" + (f"; not formed: {skipped}" if skipped else ""))
            console.print(
                f"{'epoch':>5}  {'train loss':>10}  {'val. loss':>9}  {'triplet acc.':>12}  {'identity':>8}  "
                f"{'perform.':>8}  {'balanced':>8}  {'ident.@8':>8}  {'distance':>8}  {'seconds':>7}",
                style="bold",
            )
            self._header_shown = True
        console.print(
            f"{log.epoch:>5}  {log.train_loss:>10.4f}  {log.validation_loss:>9.4f}  {log.triplet_accuracy:>12.3f}  "
            f"{_figure(log.accuracy_by_kind.get('identity')):>8}  "
            f"{_figure(log.accuracy_by_kind.get('performance')):>8}  "
            f"{_figure(log.balanced_accuracy):>8}  {_figure(log.identification):>8}  "
            f"{log.mean_distance:>8.3f}  {log.seconds:>7.1f}"
        )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
