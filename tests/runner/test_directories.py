"""The directories that runnerd owns: made with tight modes, and refused when somebody else could have made them."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from runnerd.config.model import Config
from runnerd.runner.directories import DirectoryRefused, clear_links, prepare


def config(directory: Path) -> Config:
    """With both directories below `directory`."""
    return Config(
        source=directory / "runnerd.toml",
        data_dir=directory / "deep/data",
        runtime_dir=directory / "run",
        control_socket=directory / "control.sock",
    )


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    """Whatever the shell of the developer says."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def test_directories_are_made_with_tight_modes(tmp_path: Path) -> None:
    """Others may pass the data directory, not list it; the sockets' directory is ours alone."""
    prepare(config(tmp_path))
    clear_links(config(tmp_path))
    assert mode(tmp_path / "deep/data") == 0o711
    assert mode(tmp_path / "run") == 0o700
    assert mode(tmp_path / "run/links") == 0o700


def test_preparing_again_keeps_all_and_what_dead_workers_left_is_cleared_apart(tmp_path: Path) -> None:
    """The links may be a living runnerd's, until the ledger's lock says that there is none."""
    (tmp_path / "run/links/alpha.3").mkdir(parents=True)
    (tmp_path / "run/links/alpha.3/link").touch()
    prepare(config(tmp_path))
    (tmp_path / "deep/data/kept").touch()
    prepare(config(tmp_path))
    assert (tmp_path / "deep/data/kept").exists()
    assert (tmp_path / "run/links/alpha.3/link").exists()
    clear_links(config(tmp_path))
    assert list((tmp_path / "run/links").iterdir()) == []


@pytest.mark.parametrize("bits", [0o020, 0o002])
def test_directory_that_others_can_write_is_refused(tmp_path: Path, bits: int) -> None:
    """They could put a socket of theirs there; with the command that mends it."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o700 | bits)
    with pytest.raises(DirectoryRefused, match=rf"run can be written by others; run: chmod go-w {tmp_path}/run"):
        prepare(config(tmp_path))


def test_link_in_the_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    """The default runtime directory lies in /tmp, where anybody could have made it first."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DirectoryRefused, match="is not a directory"):
        prepare(config(tmp_path))
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_file_in_the_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    """With the system's reason."""
    (tmp_path / "run").touch()
    with pytest.raises(DirectoryRefused, match="run cannot be made: File exists"):
        prepare(config(tmp_path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    """Whatever its mode."""
    (tmp_path / "run").mkdir(mode=0o700)
    os.chown(tmp_path / "run", 65_534, 65_534)
    with pytest.raises(DirectoryRefused, match="run belongs to uid 65534, runnerd runs as uid 0"):
        prepare(config(tmp_path))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """With the system's reason."""
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(DirectoryRefused, match="cannot be made: Permission denied"):
        prepare(structs.replace(config(tmp_path), data_dir=tmp_path / "closed/data"))
