"""Converts configuration classes to TOML and back: a table per class, a key per field.

A configuration is a frozen dataclass; its fields are numbers, texts, truth values, tuples of these, or further
configurations. A setting is named by its path, such as `encoder.objectives.margin`, which TOML writes as

    [encoder.objectives]
    margin = 0.5

TOML has no None: a setting without a value is written as a comment.
"""

from __future__ import annotations

import inspect
import json
import re
import textwrap
import tomllib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from model_behavior.errors import UsageError

_Config = TypeVar("_Config")

_COMMENT_WIDTH = 100
_KINDS: Mapping[type, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "not true or false"),
    int: ((int,), "not a whole number"),
    float: ((int, float), "not a number"),
    str: ((str,), "not a text"),
}
"""By type of a field: what TOML may give for it, and what is said of anything else."""

MOVED_OPTIONS: Mapping[str, str] = {
    "semantic-model": "text.reading.model",
    "prompt-tokens": "text.reading.prompt_tokens",
    "response-tokens": "text.reading.response_tokens",
    "pooling": "text.reading.pooling",
    "precision": "text.reading.precision",
    "tuning": "text.tuning.mode",
    "tuned-layers": "text.tuning.last_layers",
    "lora-rank": "text.tuning.lora_rank",
    "tuning-steps": "text.tuning.steps",
    "tuning-rounds": "text.tuning.rounds",
    "tuning-batch-size": "text.tuning.batch_size",
    "tuning-micro-batch": "text.tuning.micro_batch",
    "tuning-learning-rate": "text.tuning.learning_rate",
    "split-by": "split.by",
    "mask-self-naming": "encoder.preprocessing.filters.mask_self_naming",
    "no-mask-self-naming": "encoder.preprocessing.filters.mask_self_naming",
    "identity": "encoder.preprocessing.triplets.identity",
    "performance": "encoder.preprocessing.triplets.performance",
    "distance": "encoder.objectives.distance",
    "margin": "encoder.objectives.margin",
    "proxy-weight": "encoder.objectives.proxy",
    "contrastive-weight": "encoder.objectives.contrastive",
    "temperature": "encoder.objectives.temperature",
    "vote-weight": "encoder.objectives.vote",
    "compactness-weight": "encoder.objectives.compactness",
    "kl-weight": "encoder.objectives.kl",
    "dim": "encoder.projection.dim",
    "learning-rate": "encoder.optimisation.learning_rate",
}
"""Options of `train-encoder` in release 0.1, and the setting that each is now."""


@dataclass(frozen=True)
class Setting:
    """One field of a configuration or of a configuration in it.

    Attributes:
        key: path of the field, with dots.
        value: value of the field.
        kind: annotated type.
        description: entry of the field in its class's docstring.
    """

    key: str
    value: Any
    kind: Any
    description: str


def settings_of(config: Any, place: str = "") -> Iterator[Setting]:
    """All settings of a configuration, those of a table before those of the tables in it."""
    kinds, described = get_type_hints(type(config)), _describe_fields(type(config))
    inner = []
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            inner.append((value, f"{place}{field.name}."))
        else:
            yield Setting(place + field.name, value, kinds[field.name], described.get(field.name, ""))
    for value, inside in inner:
        yield from settings_of(value, inside)


def with_settings(config: _Config, changes: Mapping[str, Any]) -> _Config:
    """The configuration with other values of some settings, by their keys.

    Raises:
        UsageError: a value that its class refuses.
    """
    own = {key: value for key, value in changes.items() if "." not in key}
    for name in dict.fromkeys(key.partition(".")[0] for key in changes if "." in key):
        inside = {key.partition(".")[2]: value for key, value in changes.items() if key.startswith(f"{name}.")}
        own[name] = with_settings(getattr(config, name), inside)
    return replace(config, **own)  # type: ignore[type-var]


def read_toml(path: Path) -> dict[str, Any]:
    """The values in a file, with keys spelled as Python does.

    Raises:
        UsageError: it cannot be read, or is no TOML.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"--config {path}: {error}") from error
    return _underscored(values)


def read_settings(values: Mapping[str, Any], config: Any, others: Collection[str] = ()) -> dict[str, Any]:
    """The settings that the nested values of a file stand for, by their keys, checked by type.

    Args:
        values: tables and keys.
        config: configuration of the class that they are settings of.
        others: names that may have been meant by an unknown key, too.

    Raises:
        UsageError: an unknown key, or a value of another type.
    """
    known = {setting.key: setting for setting in settings_of(config)}
    found = {}
    for key, value in _flatten(values):
        if key in known:
            found[key] = _convert(key, value, known[key].kind)
        elif not any(other.startswith(f"{key}.") for other in known):
            raise UsageError(f"unknown setting {key}; nearest: {', '.join(nearest_keys([*known, *others], key))}")
        elif value != {}:
            raise UsageError(f"{key}: {_show(value)} is not a table")
    return found


def nearest_keys(known: Collection[str], key: str) -> list[str]:
    """Known keys whose last part is most like that of a key, those of a like path first."""
    from model_behavior.names import nearest  # it needs numpy, which the list of commands does without

    lasts = dict.fromkeys(other.rpartition(".")[2] for other in known)
    (last,) = nearest(lasts, key.rpartition(".")[2], 1)
    return nearest([other for other in known if other.rpartition(".")[2] == last], key)


def to_toml(config: Any, tables: Collection[str] | None = None) -> str:
    """The configuration as TOML, with the description of every setting.

    Args:
        config: configuration to write.
        tables: names of its fields to write; all by default.
    """
    lines: list[str] = []
    table = ""
    for setting in settings_of(config):
        if tables is not None and setting.key.partition(".")[0] not in tables:
            continue
        inside, _, name = setting.key.rpartition(".")
        if inside != table:
            table = inside
            lines += ["", *_comment(_summary(_find(config, table))), f"[{table}]"]
        lines += _comment(_explain(setting))
        lines.append(f"# {name} =" if setting.value is None else f"{name} = {_to_literal(setting.value)}")
    return "\n".join(lines).lstrip("\n") + "\n"


def check_moved(named: Mapping[str, str]) -> None:
    """Says where an option of an earlier release has gone.

    Args:
        named: names of options in any spelling, by how the user has written them.

    Raises:
        UsageError: one of them is a setting now.
    """
    for written, name in named.items():
        place = MOVED_OPTIONS.get(name.lower().replace("_", "-"))
        if place is not None:
            table, _, key = place.rpartition(".")
            raise UsageError(
                f"{written}: this is {place} in the configuration now. Fix: in a TOML file for --config, in the table "
                f"[{table}], {key} = VALUE; --show-config prints such a file"
            )


def _underscored(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key.replace("-", "_"): _underscored(value) if isinstance(value, dict) else value
        for key, value in values.items()
    }


def _flatten(values: Mapping[str, Any], place: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flatten(value, f"{place}{name}.")
        else:
            yield place + name, value


def _convert(key: str, value: Any, kind: Any) -> Any:
    """A value of a file as a field takes it."""
    options = [option for option in get_args(kind) if option is not NoneType]
    if get_origin(kind) is Literal:
        if value not in options or isinstance(value, bool):
            raise UsageError(f"{key}: {_show(value)} is not allowed; allowed: {', '.join(map(_show, options))}")
        return value
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise UsageError(f"{key}: {_show(value)} is not a list")
        return tuple(_convert(key, each, options[0]) for each in value)
    if options:  # or None
        return _convert(key, value, options[0])
    accepted, complaint = _KINDS[kind]
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise UsageError(f"{key}: {_show(value)} is {complaint}")
    return kind(value)


def _show(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)


def _to_literal(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_to_literal, value))}]"
    if isinstance(value, str):  # JSON writes strings as TOML does, but for the character that deletes
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _comment(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(text, _COMMENT_WIDTH)]


def _explain(setting: Setting) -> str:
    text = setting.description[:1].upper() + setting.description[1:]
    if get_origin(setting.kind) is Literal:
        text = f"{text.rstrip('.')}. Allowed: {', '.join(map(_show, get_args(setting.kind)))}."
    return text


def _find(config: Any, key: str) -> Any:
    for name in key.split("."):
        config = getattr(config, name)
    return config


def _summary(config: Any) -> str:
    return (inspect.getdoc(type(config)) or "").partition("\n")[0]


def _describe_fields(kind: type) -> dict[str, str]:
    """The entries of a docstring's section of attributes, each in one line."""
    section = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}
