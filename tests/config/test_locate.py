"""Where the control socket is, without reading the rest of the configuration."""

from pathlib import Path

import pytest

from runnerd.config.load import load_config
from runnerd.config.locate import SocketNotFound, control_socket_of


@pytest.mark.parametrize(
    "text,expected",
    [
        ('data_dir = "data"', "data/control.sock"),
        ('data_dir = "/srv/runnerd"', "/srv/runnerd/control.sock"),
        ('data_dir = "data"\ncontrol_socket = "c.sock"', "c.sock"),
        ('data_dir = "data"\ncontrol_socket = "/run/c.sock"', "/run/c.sock"),
    ],
)
def test_it_finds_the_socket_where_runnerd_listens(tmp_path: Path, text: str, expected: str) -> None:
    """The same path as the whole configuration gives, default and relative ones included."""
    file = tmp_path / "runnerd.toml"
    file.write_text(text)
    assert control_socket_of(file) == tmp_path / expected
    assert control_socket_of(file) == load_config(file).control_socket


def test_nothing_else_of_the_file_matters(tmp_path: Path) -> None:
    """An operator with a broken plugin entry still gets a status."""
    file = tmp_path / "runnerd.toml"
    file.write_text('data_dir = "d"\nnonsense = 1\n[plugins.x]\npath = 5\n')
    assert control_socket_of(file) == tmp_path / "d/control.sock"


@pytest.mark.parametrize(
    "content,problem",
    [
        (b"data_dir = ", "is not valid TOML"),
        (b"\xff", "is not UTF-8 text"),
        (b"", "data_dir: is missing"),
        (b"data_dir = 5", "data_dir: must be a path"),
        (b'data_dir = "d"\ncontrol_socket = []', "control_socket: must be a path"),
    ],
)
def test_a_file_that_does_not_say_is_named_with_its_problem(tmp_path: Path, content: bytes, problem: str) -> None:
    """One sentence: file, key, what is allowed."""
    file = tmp_path / "runnerd.toml"
    file.write_bytes(content)
    with pytest.raises(SocketNotFound, match=problem) as caught:
        control_socket_of(file)
    assert caught.value.file == file


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """So is a directory."""
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(SocketNotFound, match="cannot be read"):
            control_socket_of(path)
