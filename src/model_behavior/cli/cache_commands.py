"""`model-behavior cache`."""

from __future__ import annotations

import typer

from model_behavior.cli.console import print_result
from model_behavior.cli.options import CacheFolder, Json, open_cache
from model_behavior.preprocessing.cache import CacheInfo

app = typer.Typer(no_args_is_help=True, help="Look at the cache of text features and triplets, or empty it.")


@app.command(epilog="Example: `model-behavior cache info --json`")
def info(cache: CacheFolder = None, json: Json = False) -> None:
    """Show where the cache is and what is in it."""
    _print(open_cache(cache).info(), json, "in the cache")


@app.command(epilog="Example: `model-behavior cache clear`")
def clear(cache: CacheFolder = None, json: Json = False) -> None:
    """Remove every entry; nothing but time is lost."""
    _print(open_cache(cache).clear(), json, "removed")


def _print(info: CacheInfo, as_json: bool, what: str) -> None:
    value = {"path": str(info.path), "entries": dict(info.entries), "bytes": dict(info.bytes)}
    total = f"{sum(info.entries.values()):,} entries, {sum(info.bytes.values()) / 1e6:,.1f} MB {what}"
    lines = [f"{info.path}: {total}"]
    lines += [f"  {kind}: {n:,} entries, {info.bytes[kind] / 1e6:,.1f} MB" for kind, n in sorted(info.entries.items())]
    print_result(value, as_json, "\n".join(lines))
