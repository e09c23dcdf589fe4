"""`model-behavior serve` and `create-key`."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from model_behavior.cli.configuration import read_settings, read_toml, with_settings
from model_behavior.cli.console import counted, make_visible, print_result, stderr
from model_behavior.cli.options import RUNNING, ArtifactFolder, BackendChoice, Json, names_of_options, set_defaults
from model_behavior.errors import MissingExtraError, UsageError
from model_behavior.models.behavior.text.execution import BACKEND_VARIABLE
from model_behavior.routing.costs import load_costs
from model_behavior.serving.keys import KeyRing, add_key, key_of_secret, make_key
from model_behavior.serving.service import Service, ServiceConfig
from model_behavior.serving.settings import Limits, ServeSettings
from model_behavior.serving.upstreams import Upstreams, load_upstreams
from model_behavior.serving.workers import inherited

_LIMITS = Limits()
_SETTINGS = ServeSettings()
_REFRESH_SECONDS = 1.0  # of one worker, for changes that another one has made
_ACCESS, _LIMITS_PANEL = "Access", "Limits"
_LIMITS_OF_FILE = f"{__name__}.limits"


def load_serve_config(context: typer.Context, path: Path | None) -> Path | None:
    """Takes from a TOML file values of the command's options, and of `Limits` in the table `limits`."""
    if path is None:
        return None
    values = read_toml(path)
    table = values.pop("limits", {})
    try:
        limits = read_settings(table, _LIMITS) if isinstance(table, dict) else {}
        with_settings(_LIMITS, limits)
    except UsageError as error:
        raise UsageError(f"--config {path}: [limits] {error}") from error
    options = names_of_options(context)
    set_defaults(context, path, {**values, **{name: limits.pop(name) for name in list(limits) if name in options}})
    context.meta[_LIMITS_OF_FILE] = limits  # those that are no options
    return path


def serve(
    context: typer.Context,
    folder: ArtifactFolder,
    host: Annotated[str, typer.Option(help="Address to listen on; any but a local address requires keys.")] = (
        _SETTINGS.host
    ),
    port: Annotated[int, typer.Option(help="Port; 0 for any free one.")] = _SETTINGS.port,
    costs: Annotated[Path | None, typer.Option(help="File with each model's cost per request, as for route.")] = None,
    upstreams: Annotated[
        Path | None, typer.Option(help="TOML file of OpenAI-compatible services for chat completions.")
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of hashed API keys, see create-key; read again when it changes.", rich_help_panel=_ACCESS
        ),
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            help="Admin key; safer in $MODEL_BEHAVIOR_SERVE_API_KEY than as an option.", rich_help_panel=_ACCESS
        ),
    ] = None,
    body_bytes: Annotated[
        int, typer.Option(help="Maximum size of a JSON body, in bytes.", rich_help_panel=_LIMITS_PANEL)
    ] = _LIMITS.body_bytes,
    upload_bytes: Annotated[
        int, typer.Option(help="Maximum size of an uploaded file, in bytes.", rich_help_panel=_LIMITS_PANEL)
    ] = _LIMITS.upload_bytes,
    upload_rows: Annotated[
        int, typer.Option(help="Maximum number of rows in an uploaded file.", rich_help_panel=_LIMITS_PANEL)
    ] = _LIMITS.upload_rows,
    batch: Annotated[
        int, typer.Option(help="Maximum number of texts or votes per request.", rich_help_panel=_LIMITS_PANEL)
    ] = _LIMITS.batch,
    tokens: Annotated[
        int, typer.Option(help="Maximum number of tokens per request.", rich_help_panel=_LIMITS_PANEL)
    ] = (_LIMITS.tokens),
    requests_per_second: Annotated[
        float,
        typer.Option(
            help="Rate limit per client, in requests per second; bursts of twice as many are allowed.",
            rich_help_panel=_LIMITS_PANEL,
        ),
    ] = _LIMITS.requests_per_second,
    queue: Annotated[
        int, typer.Option(help="Maximum number of waiting quick requests.", rich_help_panel=_LIMITS_PANEL)
    ] = _LIMITS.queue,
    wait_seconds: Annotated[
        float,
        typer.Option(
            help="Longest expected wait of a quick request, in seconds; beyond it the answer is 503.",
            rich_help_panel=_LIMITS_PANEL,
        ),
    ] = _LIMITS.wait_seconds,
    slow_queue: Annotated[
        int, typer.Option(help="Maximum number of waiting slow requests.", rich_help_panel=_LIMITS_PANEL)
    ] = _LIMITS.slow_queue,
    connections: Annotated[
        int, typer.Option(help="Maximum number of open connections.", rich_help_panel=_LIMITS_PANEL)
    ] = _LIMITS.connections,
    shutdown_seconds: Annotated[
        int,
        typer.Option(
            min=0, help="Grace period for open requests after Ctrl-C, in seconds.", rich_help_panel=_LIMITS_PANEL
        ),
    ] = _SETTINGS.shutdown_seconds,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            help="Worker processes, which share address, catalog and limits.",
            rich_help_panel=RUNNING,
        ),
    ] = 1,
    backend: BackendChoice = "auto",
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Log every request, without texts.", rich_help_panel=RUNNING)
    ] = False,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="TOML file with values for these options, and for every limit in its table [limits].",
            is_eager=True,
            callback=load_serve_config,
            rich_help_panel=RUNNING,
        ),
    ] = None,
) -> None:
    """Serve the web page, the API and routed chat completions; stop with Ctrl-C."""
    try:
        from model_behavior.serving.app import run_server
    except ImportError as error:
        raise MissingExtraError("serve", "serve") from error
    own = inherited()
    if backend != "auto":
        os.environ[BACKEND_VARIABLE] = backend  # of every artifact that the service reads, now and after a change
    ring = KeyRing([] if api_key is None else [key_of_secret(api_key)], keys)
    settings = ServeSettings(
        host=host,
        port=port,
        keys=ring,
        limits=Limits(
            body_bytes=body_bytes,
            upload_bytes=upload_bytes,
            upload_rows=upload_rows,
            batch=batch,
            tokens=tokens,
            requests_per_second=requests_per_second,
            queue=queue,
            wait_seconds=wait_seconds,
            slow_queue=slow_queue,
            connections=connections,
            **context.meta.get(_LIMITS_OF_FILE, {}),
        ),
        upstreams=Upstreams() if upstreams is None else load_upstreams(upstreams),
        shutdown_seconds=shutdown_seconds,
        refresh_seconds=_SETTINGS.refresh_seconds if workers == 1 else _REFRESH_SECONDS,
        shared=None if own is None else own.shared,
        metrics=None if own is None else own.metrics,
    )
    if workers > 1 and own is None:
        _run_workers(workers, settings)
        return
    _log_to_stderr(logging.INFO if verbose else logging.WARNING)
    priced = {} if costs is None else dict(load_costs(costs).per_request)
    service = Service(
        folder,
        ServiceConfig(
            costs={**priced, **settings.upstreams.costs},
            upstreams=frozenset(settings.upstreams.models),
            chat_models=settings.upstreams.accepted,
            max_rows=upload_rows,
        ),
    )
    known = service.snapshot.rows
    if own is not None:
        run_server(service, settings, lambda _: own.tell(), own.listener)
        return
    run_server(
        service,
        settings,
        lambda address: stderr().print(f"{address}: {counted(len(known), 'model')}. Ctrl-C stops.", markup=False),
    )


def _run_workers(number: int, settings: ServeSettings) -> None:
    """Runs this command in several processes; ends with their status."""
    from model_behavior.serving.app import address_of, listen
    from model_behavior.serving.workers import Workers

    if os.name == "nt":
        raise UsageError("--workers needs Linux or macOS. Fix: several services behind a load balancer")
    with listen(settings) as listener:
        address = address_of(listener)
        status = Workers(number, sys.argv[1:], listener, settings.shutdown_seconds).run(
            lambda: stderr().print(f"{address}: {number} workers. Ctrl-C stops.", markup=False)
        )
    raise typer.Exit(status)


class _SafeFormatter(logging.Formatter):
    """Lines of the log with control characters in names made visible."""

    def format(self, record: logging.LogRecord) -> str:
        """As the base."""
        return make_visible(super().format(record))


def _log_to_stderr(level: int) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_SafeFormatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=level, handlers=[handler])
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs addresses


def create_key(
    file: Annotated[Path, typer.Argument(metavar="KEYS", help="TOML file to add the key's hash to.")],
    name: Annotated[str, typer.Option(help="Name of the key's user.")],
    scope: Annotated[
        Literal["read", "admin"], typer.Option(help="Rights of the key; admin may also add and remove models.")
    ] = "read",
    json: Json = False,
) -> None:
    """Create an API key for `serve`; it is shown once, and only its hash is stored."""
    secret, key = make_key(name, scope)
    add_key(file, key)
    print_result({"name": name, "scope": scope, "key": secret}, json, secret)
