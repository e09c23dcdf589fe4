"""Files that are written aside: whole or not at all, with the rights of any new file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model_behavior.files import open_to_others, written_aside


@pytest.fixture(params=[0o027, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield int(request.param)
    os.umask(before)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_gets_the_rights_that_the_umask_leaves(umask: int, tmp_path: Path) -> None:
    with written_aside(tmp_path / "deep" / "a.txt") as aside:
        aside.write_text("whole")
        aside.chmod(0o600)  # as some libraries do
    assert (tmp_path / "deep" / "a.txt").read_text() == "whole"
    assert mode_of(tmp_path / "deep" / "a.txt") == 0o666 & ~umask
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.txt"]
    with pytest.raises(FileNotFoundError):
        open_to_others(tmp_path / "deep" / "nothing")
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.txt"]


def test_files_that_other_threads_make_meanwhile_keep_to_the_umask(tmp_path: Path) -> None:
    """A thread that changes the umask of the process for a moment is seen by the files of the others."""
    before = os.umask(0o077)
    try:
        paths = [tmp_path / str(number) for number in range(8)]
        for path in paths:
            path.touch()

        def give_rights(path: Path) -> None:
            for _ in range(300):
                open_to_others(path)

        made, modes = tmp_path / "made", set()
        with ThreadPoolExecutor(len(paths)) as pool:
            running = [pool.submit(give_rights, path) for path in paths]
            ended = False
            while not ended:
                ended = all(each.done() for each in running)
                made.touch()
                modes.add(mode_of(made))
                made.unlink()
            for each in running:
                each.result()
        assert modes == {0o600} and {mode_of(path) for path in paths} == {0o600}
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ValueError, match="on purpose"), written_aside(path) as aside:
        aside.write_text("new")
        raise ValueError("on purpose")
    assert path.read_text() == "old" and [each.name for each in tmp_path.iterdir()] == ["a.txt"]
