"""Artifacts go to a Hub and come back: a real client talks to a server that speaks the Hub's API."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

from model_behavior import Artifact, TrainingConfig, ValidationSplit, train_encoder
from model_behavior.artifact.config_file import digest, write_config
from model_behavior.artifact.exchange import is_segment
from model_behavior.artifact.folder import WRITTEN
from model_behavior.data.arena import Arena
from model_behavior.errors import ArtifactError, MissingExtraError, UsageError
from model_behavior.models.behavior.text.registry import TextConfig
from tests.artifact.hub_client import Loaded, describe, follow, load, push, set_environment
from tests.artifact.hub_server import HubServer, Repository
from tests.conftest import held_out_rows

TOKEN, OTHER = "hf_writes", "hf_reads"
CONFIG = TrainingConfig(TextConfig(("style",)), split=ValidationSplit(0.3), epochs=1)


@dataclass(frozen=True)
class Client:
    """Another process, which talks to the Hub.

    Attributes:
        pool: the process.
        home: folder of its cache.
    """

    pool: ProcessPoolExecutor
    home: Path

    def load(self, address: str, token: str | None = TOKEN) -> Loaded:
        return self.pool.submit(load, address, token).result()

    def push(self, folder: Path, name: str, **options: object) -> str:
        return self.pool.submit(push, folder, name, {"token": TOKEN, **options}).result()

    def downloaded(self, name: str) -> set[str]:
        """The files of a repository that are in the cache."""
        folder = self.home / "hub" / f"models--{name.replace('/', '--')}" / "snapshots"
        return {
            str(path.relative_to(folder).as_posix().partition("/")[2]) for path in folder.rglob("*") if path.is_file()
        }


WITH_TEXTS = {"prompts.json", "prompts.safetensors"}  # files that are whole texts: pushed if texts are


def start_client(hub: HubServer, home: Path, **environment: str) -> Client:
    """A process with this environment; it gets nothing of ours that speaks of the Hub."""
    settings = {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1", **environment}
    return Client(ProcessPoolExecutor(1, get_context("spawn"), set_environment, (settings,)), home)


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    server = HubServer({TOKEN: "lab", OTHER: "guest"})
    yield server
    server.close()


@pytest.fixture(scope="module")
def client(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
            patch.delenv(name)
        started = start_client(hub, tmp_path_factory.mktemp("home"))
        with started.pool:
            yield started


@pytest.fixture(scope="module")
def both(scored_arena: Path, arena: Arena) -> Artifact:
    return Artifact.load(scored_arena / "a").onboard(arena.held_out_responses)


@pytest.fixture(scope="module")
def folder(both: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "arena"
    both.save(path)
    return path


@pytest.fixture(scope="module")
def expected(folder: Path) -> Loaded:
    return describe(Artifact.load(folder))


def assert_same(found: Loaded, expected: Loaded) -> None:
    assert found.ranks == expected.ranks and found.names == expected.names
    np.testing.assert_array_equal(found.embeddings, expected.embeddings)
    np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-6)


def put(hub: HubServer, name: str, files: Mapping[str, bytes], private: bool = False) -> Repository:
    """A repository that somebody has filled otherwise."""
    hub.repositories[name] = Repository(private)
    hub.repositories[name].commit(files)
    return hub.repositories[name]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def names_of(files: Iterable[str]) -> set[str]:
    """Names of files; segments, which are named after their content, are one."""
    return {"a segment" if is_segment(name) else name for name in files}


def test_what_is_pushed_is_what_is_loaded(hub: HubServer, client: Client, folder: Path, expected: Loaded) -> None:
    address = client.push(folder, "lab/same")
    repository = hub.repositories["lab/same"]
    assert address == f"{hub.address}/lab/same/commit/{repository.head}"
    assert repository.private and len(repository.commits) == 2  # the Hub's first one, and ours
    assert names_of(repository.files) == {".gitattributes", *names_of(contents(folder)) - WITH_TEXTS}
    found = client.load("hf://lab/same")
    assert_same(found, expected)
    assert client.push(folder, "lab/same") == address  # nothing has changed: no new commit


def test_no_text_goes_along_unless_asked(
    hub: HubServer, client: Client, folder: Path, expected: Loaded, arena: Arena
) -> None:
    client.push(folder, "lab/bare", private=False)
    client.push(folder, "lab/full", texts=True)
    bare, full = (
        b"\n".join(hub.repositories[name].files.values()).decode("utf-8", "ignore") for name in ("lab/bare", "lab/full")
    )
    rows = held_out_rows(arena)
    probes = [json.dumps(row[part], ensure_ascii=False)[1:40] for row in rows for part in ("prompt", "response")]
    assert sum(probe in full for probe in probes) > 20
    assert not any(probe in bare for probe in probes)
    assert client.load("hf://lab/bare", token=None).texts == 0
    assert client.load("hf://lab/full").texts == expected.texts > 0


def test_a_later_push_leaves_nothing_of_ours_behind_and_all_that_is_not(
    hub: HubServer, client: Client, both: Artifact, folder: Path, tmp_path: Path, expected: Loaded
) -> None:
    client.push(folder, "lab/later")
    repository = hub.repositories["lab/later"]
    first = repository.head
    repository.commit({**repository.files, "LICENSE": b"mine", "plots/map.png": b"mine"})
    replace(both, scorer=None, revisions={}).save(tmp_path / "arena")
    client.push(tmp_path / "arena", "lab/later")
    scorers = {f"{name}.{ending}" for name in ("scorer", "scorer-training") for ending in ("safetensors", "json")}
    assert names_of(contents(folder)) - names_of(repository.files) - WITH_TEXTS == {
        *scorers,
        "revisions.json",
        "votes.safetensors",
    }
    assert names_of(repository.files) - names_of(contents(folder)) == {".gitattributes", "LICENSE", "plots/map.png"}
    assert client.load("hf://lab/later").ranks is None
    assert_same(client.load(f"hf://lab/later@{first}"), expected)


def test_an_edited_card_is_kept_while_the_encoder_is_the_same(
    hub: HubServer, client: Client, folder: Path, arena: Arena, tmp_path: Path
) -> None:
    client.push(folder, "lab/card")
    repository = hub.repositories["lab/card"]
    repository.commit({**repository.files, "README.md": b"---\nlicense: mit\n---\nmine"})
    grown = Artifact.load(folder).remove(arena.held_out[0])
    grown.save(tmp_path / "grown")
    client.push(tmp_path / "grown", "lab/card")
    assert repository.files["README.md"].endswith(b"mine")
    assert client.load("hf://lab/card").names == grown.models.names
    train_encoder(arena.votes, CONFIG.with_seed(5)).save(tmp_path / "other")
    client.push(tmp_path / "other", "lab/card")
    assert b"library_name: model-behavior" in repository.files["README.md"]


def test_the_page_about_sharing_says_what_works(hub: HubServer, client: Client, folder: Path, tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "share.md").read_text("utf-8")
    examples = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    shutil.copytree(folder, tmp_path / "arena")
    names = client.pool.submit(follow, examples, tmp_path, TOKEN).result()
    assert names["address"] == f"{hub.address}/lab/arena/commit/{hub.repositories['lab/arena'].head}"
    assert contents(tmp_path / "arena-to-share") == contents(tmp_path / "arena-from-the-hub")
    assert contents(tmp_path / "arena-to-share") == {
        name: content for name, content in hub.repositories["lab/arena"].files.items() if name != ".gitattributes"
    }
    assert names_of(contents(tmp_path / "arena-to-share")) == names_of(contents(folder)) - WITH_TEXTS


def test_a_revision_is_a_commit_or_a_tag(hub: HubServer, client: Client, folder: Path, both: Artifact) -> None:
    client.push(folder, "lab/tagged")
    repository = hub.repositories["lab/tagged"]
    repository.tags["v1"] = repository.head
    repository.commit({"README.md": b"all gone"})
    assert client.load("hf://lab/tagged@v1").names == both.models.names
    with pytest.raises(
        ArtifactError, match="hf://lab/tagged has no config.json, so it is not a model-behavior artifact"
    ):
        client.load("hf://lab/tagged")
    with pytest.raises(ArtifactError, match="hf://lab/tagged@v2 cannot be downloaded: Invalid rev id: v2. Fix: check"):
        client.load("hf://lab/tagged@v2")


class Bomb:
    """Leaves a file where it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch exploded",)


def test_only_the_files_of_an_artifact_are_downloaded(
    hub: HubServer, client: Client, folder: Path, expected: Loaded
) -> None:
    strangers = {
        "model.pkl": pickle.dumps(Bomb()),
        "pytorch_model.bin": pickle.dumps(Bomb()),
        "setup.py": b"open('exploded', 'w')",
        "huge.safetensors": b"0" * (1 << 22),
        "config.json.lnk": b"/etc/passwd",
        "old/config.json": b"{}",
        ".hidden": b"",
    }
    put(hub, "lab/hostile", {**contents(folder), **strangers})
    hub.requests.clear()
    assert_same(client.load("hf://lab/hostile"), expected)
    asked = {path.partition("/resolve/")[2].partition("/")[2] for _, path in hub.requests if "/resolve/" in path}
    assert asked == set(contents(folder))
    assert all(name in WRITTEN or is_segment(name) for name in asked)
    assert client.downloaded("lab/hostile") == asked
    assert not Path("exploded").exists()


def test_no_pickle_is_read_even_where_its_digest_is_recorded(
    hub: HubServer, client: Client, folder: Path, tmp_path: Path
) -> None:
    forged = Path(shutil.copytree(folder, tmp_path / "forged"))
    config = json.loads((forged / "config.json").read_text())
    del config["config_digest"]
    for name in ("encoder.safetensors", "samples.json"):
        (forged / name).write_bytes(pickle.dumps(Bomb()))
        config["files"][name] = digest(forged / name)
    write_config(forged, config)
    put(hub, "lab/forged", contents(forged))
    with pytest.raises(ArtifactError, match=r"hf://lab/forged: .* is incomplete: Safetensor"):
        client.load("hf://lab/forged")
    assert not Path("exploded").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"/etc/passwd", "config.json is damaged"),  # what the Hub makes of a symbolic link
        ("config.json", b'{"architectures": ["BertModel"]}', "config.json is damaged"),
        ("encoder.safetensors", pickle.dumps({"head": 1}), "encoder.safetensors was altered or truncated"),
        ("samples.safetensors", None, "samples.safetensors is missing"),
    ],
)
def test_a_repository_that_is_no_sound_artifact_is_refused(
    hub: HubServer, client: Client, folder: Path, name: str, content: bytes | None, message: str
) -> None:
    files = {**contents(folder), name: content}
    put(hub, "lab/unsound", {path: each for path, each in files.items() if each is not None})
    with pytest.raises(ArtifactError, match=rf"^hf://lab/unsound: .*{message}.*"):
        client.load("hf://lab/unsound")


def test_an_interrupted_download_is_said_and_made_up_for(
    hub: HubServer, client: Client, folder: Path, expected: Loaded
) -> None:
    put(hub, "lab/cut", contents(folder))
    hub.cut.add("samples.safetensors")
    with pytest.raises(ArtifactError, match="hf://lab/cut cannot be downloaded: .* Fix: check the name, the network"):
        client.load("hf://lab/cut")
    assert "samples.safetensors" not in client.downloaded("lab/cut")
    hub.cut.clear()
    assert_same(client.load("hf://lab/cut"), expected)


SECRET = "no such repository, or the token has no access to it. Fix: .*hf auth login"
NOBODY = "(Invalid username or password|no such repository).* Fix: check the name, .*hf auth login"


@pytest.mark.parametrize(
    ("address", "token", "message"),
    [
        ("hf://lab/nothing", TOKEN, SECRET),
        ("hf://lab/nothing", None, NOBODY),
        ("hf://lab/secret", OTHER, SECRET),
        ("hf://lab/secret", None, NOBODY),
        ("hf://lab/secret", "hf_expired", "Invalid credentials in Authorization header. Fix: .*hf auth login"),
        ("hf://lab/not--allowed", TOKEN, "Cannot have -- or .. in repo_id"),
    ],
)
def test_what_may_not_be_read_is_said_in_one_line(
    hub: HubServer, client: Client, folder: Path, address: str, token: str | None, message: str
) -> None:
    put(hub, "lab/secret", contents(folder), private=True)
    with pytest.raises(ArtifactError, match=rf"^{address} cannot be downloaded: {message}") as caught:
        client.load(address, token)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "token", "message"),
    [
        ("lab/new", "hf_expired", "Invalid credentials in Authorization header"),
        ("lab/new", OTHER, "You don't have the rights to create a model under the namespace"),
        ("lab/a b", TOKEN, "Repo id must use alphanumeric chars"),
        ("lab/open", OTHER, "Forbidden"),
    ],
)
def test_what_may_not_be_written_is_said_in_one_line(
    hub: HubServer, client: Client, folder: Path, name: str, token: str, message: str
) -> None:
    before = put(hub, "lab/open", contents(folder)).head
    with pytest.raises(ArtifactError, match=rf"^{name} cannot be uploaded: {message}.* Fix: .*write access") as caught:
        client.push(folder, name, token=token)
    assert "\n" not in str(caught.value)
    assert "lab/new" not in hub.repositories and hub.repositories["lab/open"].head == before


def test_a_repository_of_something_else_is_left_alone(hub: HubServer, client: Client, folder: Path) -> None:
    files = {"config.json": b'{"architectures": ["BertModel"]}', "model.safetensors": b"weights"}
    put(hub, "lab/bert", files)
    with pytest.raises(UsageError, match=r"lab/bert has a config.json of another library"):
        client.push(folder, "lab/bert")
    assert hub.repositories["lab/bert"].files == files


def test_a_push_that_another_one_overtakes_is_refused(hub: HubServer, client: Client, folder: Path) -> None:
    repository = put(hub, "lab/busy", {".gitattributes": b""})
    hub.meanwhile = lambda: repository.commit({"README.md": b"theirs"})
    with pytest.raises(ArtifactError, match=r"lab/busy cannot be uploaded: A commit has happened since"):
        client.push(folder, "lab/busy")
    hub.meanwhile = lambda: None
    assert repository.files == {"README.md": b"theirs"}
    client.push(folder, "lab/busy")
    assert names_of(repository.files) == names_of(contents(folder)) - WITH_TEXTS


def test_a_hub_that_fails_or_is_not_there_is_said_in_one_line(hub: HubServer, client: Client, folder: Path) -> None:
    calls: dict[str, Callable[[], object]] = {
        "hf://lab/far cannot be downloaded": partial(client.load, "hf://lab/far"),
        "lab/far cannot be uploaded": partial(client.push, folder, "lab/far"),
    }
    for start, call in calls.items():
        hub.broken = 500
        with pytest.raises(ArtifactError, match=f"{start}: .*Internal Server Error.* Fix: .*network") as broken:
            call()
        hub.broken = None
        with hub.unreachable(), pytest.raises(ArtifactError, match=f"{start}: .*refused.* Fix: .*network") as refused:
            call()
        assert "\n" not in f"{broken.value}{refused.value}"


def test_what_was_loaded_once_needs_no_network(hub: HubServer, client: Client, folder: Path, expected: Loaded) -> None:
    put(hub, "lab/kept", contents(folder))
    assert_same(client.load("hf://lab/kept"), expected)
    hub.requests.clear()
    assert_same(client.load("hf://lab/kept"), expected)
    assert not any("/resolve/" in path for _, path in hub.requests)
    with hub.unreachable():
        assert_same(client.load("hf://lab/kept"), expected)


def test_offline_nothing_is_asked_of_the_hub(hub: HubServer, client: Client, folder: Path, expected: Loaded) -> None:
    put(hub, "lab/offline", contents(folder))
    client.load("hf://lab/offline")
    hub.requests.clear()
    offline = start_client(hub, client.home, HF_HUB_OFFLINE="1")
    with offline.pool:
        assert_same(offline.load("hf://lab/offline"), expected)
        with pytest.raises(ArtifactError, match="hf://lab/unknown cannot be downloaded: .*offline mode"):
            offline.load("hf://lab/unknown")
        with pytest.raises(ArtifactError, match="lab/offline cannot be uploaded: .*offline mode"):
            offline.push(folder, "lab/offline")
    assert not hub.requests


@pytest.mark.parametrize("address", ["hf://name", "hf://", "hf://a/b/c", "hf://a/", "hf:///b", "hf://@v1"])
def test_another_form_of_address_is_refused(address: str, both: Artifact) -> None:
    with pytest.raises(
        UsageError, match="not the name of a Hub repository. Allowed: hf://owner/name or hf://owner/name@rev"
    ):
        Artifact.load(address)
    with pytest.raises(UsageError, match="not the name of a Hub repository. Allowed: owner/name$"):
        both.push_to_hub(address)


def test_an_address_that_became_a_path_is_recognised() -> None:
    with pytest.raises(ArtifactError, match=r"hf:/lab/arena is not a folder.*as a string. Fix: Artifact.load\('hf://"):
        Artifact.load(Path("hf://lab/arena"))


def test_without_the_extra_the_error_names_it(both: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (partial(Artifact.load, "hf://lab/arena"), partial(both.push_to_hub, "lab/arena")):
        with pytest.raises(MissingExtraError, match=r"pip install 'model-behavior\[hub\]'"):
            call()


def test_the_hub_reads_the_card(folder: Path) -> None:
    card = ModelCard((folder / "README.md").read_text("utf-8"))
    assert card.data.library_name == "model-behavior"
    assert card.data.tags == ["model-behavior", "llm-evaluation", "arena", "embeddings"]
    assert set(card.data.to_dict()) == {"library_name", "tags"}
    assert card.text.strip().startswith("# 24 LLMs")
