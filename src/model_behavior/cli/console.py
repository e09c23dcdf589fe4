"""What a person sees: progress, tables, warnings and errors on stderr; results on stdout."""

from __future__ import annotations

import json
import math
import sys
import time
import warnings
from typing import Any, TextIO, final

from rich.console import Console

from model_behavior.cli.entry import raise_lost_interrupt
from model_behavior.data_models.behavior_encoder_types import PreprocessedBehaviorEncoderData
from model_behavior.data_models.training_log import EpochLog
from model_behavior.data_models.votes import FilterReport, LoadReport

_REDRAW_SECONDS = 0.2  # on a terminal
_LINE_SECONDS = 10.0  # in a log file, where every redraw stays
_SILENT_SECONDS = 2.0  # shorter tasks need no progress


def stderr() -> Console:
    """Made at each use, so that it writes to the stderr of that moment."""
    return Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def print_result(value: Any, as_json: bool, text: str) -> None:
    """The one result of a command: JSON, or plain text."""
    out = json.dumps(_without_nan(value), indent=2, ensure_ascii=False, allow_nan=False) if as_json else text
    sys.stdout.write(out + "\n")


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


def print_load_report(report: LoadReport) -> None:
    """Rows used and skipped of every source."""
    console = stderr()
    for source in report.sources:
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


def print_filter_report(report: FilterReport) -> None:
    """Votes kept and removed."""
    removed = ", ".join(f"{count:,} {reason}" for reason, count in report.removed.items() if count)
    console = stderr()
    tail = f"; removed {removed}" if removed else ""
    console.print(f"filters: {report.votes_after:,} of {report.votes_before:,} votes kept{tail}", markup=False)
    if report.rare_models:
        console.print(f"filters: rare models left out: {', '.join(report.rare_models)}", markup=False)
    if report.masked_responses:
        console.print(f"filters: self-naming masked in {report.masked_responses:,} responses", markup=False)


@final
class Progress:
    """A line with the rate and the time left: redrawn on a terminal, repeated now and then in a log file."""

    def __init__(self) -> None:
        self._task = ""
        self._started = self._drawn = 0.0
        self._first = 0
        self._open_line = False

    def show(self, task: str, done: int, total: int | None) -> None:
        """`done` of `total` units of `task` are finished."""
        raise_lost_interrupt()
        now = time.monotonic()
        if task != self._task or done < self._first:
            self.close()
            self._task, self._started, self._drawn, self._first = task, now, now, done
            return
        terminal = sys.stderr.isatty()
        pause = _REDRAW_SECONDS if terminal else _LINE_SECONDS
        if done == self._first or now - self._started < _SILENT_SECONDS or now - self._drawn < pause:
            return
        self._drawn = now
        line = self._describe(done, total, now - self._started)
        sys.stderr.write(f"\r\x1b[2K{line}" if terminal else f"{line}\n")
        sys.stderr.flush()
        self._open_line = terminal

    def close(self) -> None:
        """Clears the line, so that other output can follow."""
        if self._open_line:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
        self._open_line, self._task = False, ""

    def _describe(self, done: int, total: int | None, seconds: float) -> str:
        rate = (done - self._first) / max(seconds, 1e-9)
        shown = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        if total is None:
            return f"{self._task}: {done:,} ({shown}/s)"
        left = (total - done) / rate if rate > 0 else float("inf")
        remaining = f"{left:.0f} s left" if left < 120 else f"{left / 60:.0f} min left" if left < 1e6 else "starting"
        return f"{self._task}: {done:,} of {total:,} ({shown}/s, {remaining})"


@final
class ConsoleMonitor:
    """Draws training on stderr: what was filtered, progress, one row per epoch."""

    def __init__(self) -> None:
        self._progress = Progress()
        self._header_shown = False

    def on_prepared(self, prepared: PreprocessedBehaviorEncoderData) -> None:
        """Prints the filter report and the sizes of the split."""
        self._progress.close()
        print_filter_report(prepared.filter_report)
        split = prepared.split
        held_out = f", {len(split.held_out):,} with held-out models" if len(split.held_out) else ""
        stderr().print(f"split: {len(split.train):,} training and {len(split.validation):,} validation votes{held_out}")
        skipped = prepared.validation_triplets.skipped
        if skipped:
            reasons = ", ".join(f"{count:,} {reason}" for reason, count in skipped.items())
            stderr().print(f"validation triplets not formed: {reasons}", markup=False)

    def on_progress(self, task: str, done: int, total: int) -> None:
        """Redraws the progress line."""
        self._progress.show(task, done, total)

    def close(self) -> None:
        """Clears the progress line."""
        self._progress.close()

    def on_tuning_round(self, log: EpochLog) -> None:
        """Prints one line."""
        self._progress.close()
        stderr().print(
            f"fine-tuning, round {log.epoch}: train loss {log.train_loss:.4f}, val. loss {log.validation_loss:.4f}, "
            f"triplet acc. {log.triplet_accuracy:.3f}, ident.@8 {_figure(log.identification)}, "
            f"distance {log.mean_distance:.3f}, {log.seconds:.1f} s"
        )

    def on_epoch(self, log: EpochLog) -> None:
        """Prints one row of the table."""
        self._progress.close()
        console = stderr()
        if not self._header_shown:
            skipped = ", ".join(f"{count:,} {reason}" for reason, count in log.skipped.items())
            console.print(f"triplets: {log.n_triplets:,} per epoch" + (f"; not formed: {skipped}" if skipped else ""))
            console.print(
                f"{'epoch':>5}  {'train loss':>10}  {'val. loss':>9}  {'triplet acc.':>12}  {'identity':>8}  "
                f"{'perform.':>8}  {'ident.@8':>8}  {'distance':>8}  {'seconds':>7}",
                style="bold",
            )
            self._header_shown = True
        console.print(
            f"{log.epoch:>5}  {log.train_loss:>10.4f}  {log.validation_loss:>9.4f}  {log.triplet_accuracy:>12.3f}  "
            f"{_figure(log.accuracy_by_kind.get('identity')):>8}  "
            f"{_figure(log.accuracy_by_kind.get('performance')):>8}  "
            f"{_figure(log.identification):>8}  {log.mean_distance:>8.3f}  {log.seconds:>7.1f}"
        )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
