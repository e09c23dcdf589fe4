"""Configurations as TOML: what is written is read back, and what cannot be meant is said with its place."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model_behavior.cli.app import run
from model_behavior.cli.configuration import (
    MOVED_OPTIONS,
    Setting,
    read_settings,
    settings_of,
    to_toml,
    with_settings,
)
from model_behavior.errors import UsageError
from model_behavior.pipeline import TrainingConfig

DEFAULT = TrainingConfig()
SETTINGS = {setting.key: setting for setting in settings_of(DEFAULT)}


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type."""
    options = [option for option in get_args(kind) if option is not NoneType]
    if get_origin(kind) is Literal:
        return st.sampled_from(options)
    if get_origin(kind) is tuple:
        return st.lists(values_of(options[0]), max_size=3).map(tuple)
    if options:
        return values_of(options[0])
    texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
    return {bool: st.booleans(), int: st.integers(8, 10**9), float: st.floats(0.125, 0.875), str: texts}[kind]


changes = st.lists(st.sampled_from(sorted(SETTINGS)), unique=True).flatmap(
    lambda keys: st.fixed_dictionaries({key: values_of(SETTINGS[key].kind) for key in keys})
)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(changes)
def test_what_is_written_is_read_back(changed: dict[str, Any]) -> None:
    changed.pop("text.tuning.rounds", None)  # at most the steps
    config = with_settings(DEFAULT, changed)
    read = read_settings(tomllib.loads(to_toml(config)), DEFAULT)
    assert with_settings(DEFAULT, read) == config
    assert {setting.key: setting.value for setting in settings_of(config)} | changed == {
        setting.key: setting.value for setting in settings_of(config)
    }


@settings(deadline=None, max_examples=40)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_is_written_as_toml_has_it(text: str) -> None:
    config = with_settings(DEFAULT, {"text.reading.model": text, "split.held_out_models": (text, "x")})
    assert with_settings(DEFAULT, read_settings(tomllib.loads(to_toml(config)), DEFAULT)) == config


def test_every_setting_is_written_once_with_its_description() -> None:
    lines = to_toml(DEFAULT).splitlines()
    for setting in SETTINGS.values():
        assert setting.description, setting.key
        name = setting.key.rpartition(".")[2]
        table = setting.key.rpartition(".")[0]
        start = lines.index(f"[{table}]") if table else 0
        assert any(line.startswith((f"{name} = ", f"# {name} =")) for line in lines[start:]), setting.key
    assert lines.count("# learning_rate =") == 1, "what is not set is a comment"
    assert lines[lines.index("learning_rate = 0.001") - 1].startswith("# ")
    assert '# Pooling of the token vectors into one vector. Allowed: "mean", "cls", "max".' in lines


def test_a_setting_that_is_none_by_default_can_be_set() -> None:
    key = "text.tuning.learning_rate"
    assert SETTINGS[key].value is None
    read = read_settings({"text": {"tuning": {"learning_rate": 1}}}, DEFAULT)
    assert read == {key: 1.0} and isinstance(read[key], float)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": {"objectives": {"margin": "a"}}}, 'encoder.objectives.margin: "a" is not a number'),
        ({"epochs": 1.5}, "epochs: 1.5 is not a whole number"),
        ({"epochs": True}, "epochs: true is not a whole number"),
        ({"scorer": {"offset": {"learn_slopes": 1}}}, "scorer.offset.learn_slopes: 1 is not true or false"),
        ({"text": {"reading": {"model": 3}}}, "text.reading.model: 3 is not a text"),
        ({"text": {"encoders": "style"}}, 'text.encoders: "style" is not a list'),
        ({"text": {"encoders": ["style", 1]}}, "text.encoders: 1 is not a text"),
        ({"split": {"by": "vote"}}, 'split.by: "vote" is not allowed; allowed: "prompt", "random"'),
        ({"encoder": 3}, "encoder: 3 is not a table"),
        ({"epochs": {"of": 3}}, "unknown setting epochs.of"),
        ({"encoder": {"objectives": {"margn": 1}}}, "unknown setting encoder.objectives.margn; nearest: encoder.obj"),
        ({"nonsense": {}}, "unknown setting nonsense; nearest: "),
    ],
)
def test_values_that_cannot_be_meant(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_settings(values, DEFAULT)
    assert str(caught.value).startswith(message)


def show(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    capsys.readouterr()
    assert run([*map(str, arguments), "--show-config"]) == 0
    return capsys.readouterr().out


def configured(text: str) -> TrainingConfig:
    return with_settings(DEFAULT, read_settings(tomllib.loads(text), DEFAULT))


def test_show_config_overlays_file_environment_and_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert configured(show(capsys, "train")) == DEFAULT
    file = tmp_path / "config.toml"
    file.write_text("epochs = 2\nscorer_epochs = 3\nseed = 4\nbatch_size = 5\n[encoder.objectives]\nmargin = 0.25\n")
    monkeypatch.setenv("MODEL_BEHAVIOR_TRAIN_EPOCHS", "6")
    monkeypatch.setenv("MODEL_BEHAVIOR_TRAIN_BATCH_SIZE", "7")
    shown = show(capsys, "train", "--config", file, "--epochs", 8, "--encoder", "style", "--hold-out", "a", "--seed", 9)
    expected = with_settings(
        replace(DEFAULT, epochs=8, batch_size=7).with_seed(9),
        {
            "scorer.schedule.epochs": 3,
            "encoder.objectives.margin": 0.25,
            "text.encoders": ("style",),
            "split.held_out_models": ("a",),
        },
    )
    assert configured(shown) == expected
    monkeypatch.undo()
    (tmp_path / "shown.toml").write_text(shown)
    assert show(capsys, "train", "--config", tmp_path / "shown.toml") == shown


def test_every_training_takes_the_whole_file_and_shows_its_part(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "all.toml").write_text(show(capsys, "train", "--epochs", 3, "--scorer-epochs", 4))
    stage1 = tomllib.loads(show(capsys, "train-encoder", "--config", tmp_path / "all.toml"))
    stage2 = tomllib.loads(show(capsys, "train-scorer", "--config", tmp_path / "all.toml"))
    assert stage1["epochs"] == 3 and "scorer" not in stage1
    assert list(stage2) == ["scorer"] and stage2["scorer"]["schedule"]["epochs"] == 4
    shorter = tomllib.loads(show(capsys, "train-scorer", "--config", tmp_path / "all.toml", "--epochs", 2))
    assert shorter["scorer"]["schedule"]["epochs"] == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", "unknown setting epoch; nearest: epochs"),
        (
            "[encoder.objectiv]\nmargin = 3",
            "unknown setting encoder.objectiv.margin; nearest: encoder.objectives.margin",
        ),
        ("margin = 3", "margin: this is encoder.objectives.margin in the configuration now"),
        ("kl-weight = 3", "kl_weight: this is encoder.objectives.kl in the configuration now"),
        (
            "[encoder.preprocessing.triplets]\nidentity = -1",
            "identity=-1.0 and performance=0.2: both must be",
        ),
        ("epochs = [", "Invalid value"),
    ],
)
def test_a_file_that_cannot_be_meant_is_named(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.toml").write_text(text)
    assert run(["train-encoder", "--show-config", "--config", str(tmp_path / "c.toml")]) == 2
    assert f"error: --config {tmp_path / 'c.toml'}: {message}" in capsys.readouterr().err


def test_options_of_the_earlier_release_say_where_they_went(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(MOVED_OPTIONS.values()) <= set(SETTINGS)
    for option, place in MOVED_OPTIONS.items():
        assert run(["train-encoder", "votes.csv", "--output", "e", f"--{option}", "1"]) == 2
        assert f"--{option}: this is {place} in the configuration now" in capsys.readouterr().err
    monkeypatch.setenv("MODEL_BEHAVIOR_TRAIN_ENCODER_KL_WEIGHT", "0.1")
    assert run(["train-encoder", "votes.csv", "--output", "e"]) == 2
    said = capsys.readouterr().err
    assert "$MODEL_BEHAVIOR_TRAIN_ENCODER_KL_WEIGHT: this is encoder.objectives.kl" in said


def test_other_commands_take_flat_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.toml").write_text("bach_size = 3")
    assert run(["encode", "a", "b", "--output", "c", "--config", str(tmp_path / "c.toml")]) == 2
    assert "unknown setting bach_size; nearest: batch_size" in capsys.readouterr().err


def test_a_setting_is_described_by_its_class() -> None:
    assert SETTINGS["epochs"] == Setting("epochs", 10, int, "passes of stage 1 over the training votes.")
