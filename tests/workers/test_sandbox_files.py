"""Landlock: a plugin opens what it was granted and nothing else, whoever owns the file."""

import os
import socket
from pathlib import Path

import pytest

from protocol.zygote import Layer
from runnerd.supervisor.zygote import BirthRefused
from tests.support.probes import ProbeHost, outside

pytestmark = pytest.mark.hostile


def test_a_private_file_of_the_same_user_cannot_be_read(host: ProbeHost, tmp_path: Path) -> None:
    """The keystore belongs to the user that workers run as: file modes do not protect it, Landlock does."""
    secret = tmp_path / "keystore.json"
    secret.touch(mode=0o600)
    code = f"attempt(lambda: open({str(secret)!r}).read())"
    assert outside(code) == ["done"]
    assert host.run(code).said == ["EACCES"]


@pytest.mark.parametrize(
    "path", ["/proc/self/environ", "/proc/self/maps", "/proc/1/status", "/etc/passwd", "/sys/kernel"]
)
def test_the_host_cannot_be_looked_at(host: ProbeHost, path: str) -> None:
    """Neither other processes nor the users of the machine are a plugin's business."""
    code = f"import os; attempt(lambda: os.close(os.open({path!r}, os.O_RDONLY)))"
    assert outside(code) == ["done"]
    assert host.run(code).said == ["EACCES"]


def test_no_directory_outside_the_grants_can_be_listed(host: ProbeHost, tmp_path: Path) -> None:
    """Names alone tell much: wallets, vaults, other plugins."""
    code = f"import os; attempt(lambda: os.listdir('/')); attempt(lambda: os.listdir({str(tmp_path)!r}))"
    assert outside(code) == ["done", "done"]
    assert host.run(code).said == ["EACCES", "EACCES"]


def test_nothing_can_be_written_anywhere(host: ProbeHost, tmp_path: Path) -> None:
    """Not in /tmp, not in the link's directory, not over the plugin's own code."""
    victim = tmp_path / "victim"
    victim.touch()
    code = f"""
        import os
        attempt(lambda: open({str(tmp_path / "new")!r}, "w").close())
        attempt(lambda: open({str(victim)!r}, "a").close())
        attempt(lambda: os.unlink({str(victim)!r}))
    """
    assert outside(code) == ["done", "done", "done"]
    victim.touch()
    request_code = """
        import os
        here = os.path.dirname(__file__)
        attempt(lambda: open(os.path.join(here, "link", "file"), "w").close())
        attempt(lambda: open(__file__, "a").close())
    """
    assert host.run(code).said == ["EACCES", "EACCES", "EACCES"]
    assert host.run(request_code).said == ["EACCES", "EACCES"]
    assert victim.exists()


def test_the_granted_files_and_the_interpreter_can_be_read(host: ProbeHost, tmp_path: Path) -> None:
    """A grant of a directory holds for what is in it, a grant of a file for that file alone."""
    (tmp_path / "package").mkdir()
    for name in ("package/inside.py", "single.py", "sibling.py"):
        (tmp_path / name).touch()
    code = f"""
        import decimal, json, sqlite3, ssl, zoneinfo, msgspec, zmq  # some of them not preloaded by the zygote
        zoneinfo.ZoneInfo("Europe/Berlin")
        for name in ("package/inside.py", "single.py", "sibling.py"):
            attempt(lambda: open({str(tmp_path)!r} + "/" + name).close())
        attempt(lambda: open("/dev/null", "r+b", 0).write(b"x"))
        attempt(lambda: open("/dev/urandom", "rb", 0).read(1))
    """
    assert outside(code) == ["done"] * 5
    outcome = host.run(code, readable=[tmp_path / "package", tmp_path / "single.py"])
    assert outcome.said == ["done", "done", "EACCES", "done", "done"], outcome.stderr
    assert outcome.exited.status == 0


def test_the_repository_of_an_editable_install_cannot_be_read(host: ProbeHost) -> None:
    """Of a checkout on sys.path only the packages that workers need are readable."""
    root = Path(__file__).resolve().parents[2]
    code = f"""
        for name in ("workers/zygote.py", "protocol/zygote.py", "pyproject.toml", "runnerd/__init__.py"):
            attempt(lambda: open({str(root)!r} + "/" + name).close())
    """
    assert outside(code) == ["done"] * 4
    assert host.run(code).said == ["done", "done", "EACCES", "EACCES"]


def test_a_path_that_cannot_be_granted_refuses_the_birth(host: ProbeHost, tmp_path: Path) -> None:
    """A wrong path in the configuration is named, instead of failing later inside the plugin."""
    absent = tmp_path / "absent"
    with pytest.raises(BirthRefused, match=str(absent)) as refused:
        host.run("", readable=[absent])
    assert refused.value.layer == Layer.LANDLOCK


def test_a_descriptor_that_the_host_left_open_does_not_get_in(host: ProbeHost, tmp_path: Path) -> None:
    """Landlock does not bind open descriptors, so a worker must hold none but its own."""
    ours, theirs = socket.socketpair()
    with ours, theirs, (tmp_path / "open").open("w") as file:
        for fd in (ours.fileno(), theirs.fileno(), file.fileno()):
            os.set_inheritable(fd, True)
        code = """
            import os, stat
            kinds = {}
            for fd in range(4096):
                try:
                    kinds[fd] = stat.S_IFMT(os.fstat(fd).st_mode)
                except OSError:
                    pass
            print(kinds[0] == stat.S_IFCHR, kinds[1] == kinds[2] == stat.S_IFIFO)
            print(sorted(stat.S_ISREG(kind) or stat.S_ISDIR(kind) for kind in kinds.values())[-1])
            print(max(kinds) < 32)
        """
        outcome = host.run(code)
    assert outcome.said == ["True True", "False", "True"], outcome.stderr
