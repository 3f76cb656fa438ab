"""Nobody to talk to: no TCP, no UDP, no named or abstract unix socket, no netlink. The link is the only way out."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from protocol.zygote import SandboxPolicy
from tests.support.probes import DEADLINE_S, ProbeHost, outside

pytestmark = pytest.mark.hostile


@contextlib.contextmanager
def listening(family: int, address: object) -> Iterator[socket.socket]:
    """A server that the probe would like to reach."""
    with socket.socket(family) as server, contextlib.ExitStack() as leftovers:
        server.bind(address)  # type: ignore[arg-type]  # an address is a string or a pair, by family
        if isinstance(address, str) and address.startswith("/"):
            leftovers.callback(Path(address).unlink)
        server.listen()
        yield server


CONNECT = "import socket; attempt(lambda: socket.socket({family}).connect({address!r}))"


def test_tcp_is_refused(host: ProbeHost) -> None:
    """Neither an RPC node on this host nor anything beyond it."""
    with listening(socket.AF_INET, ("127.0.0.1", 0)) as server:
        code = CONNECT.format(family="socket.AF_INET", address=server.getsockname())
        assert outside(code) == ["done"]
        outcome = host.run(code)
    assert outcome.said == ["EPERM"]
    assert outcome.denied == ("socket",)


def test_the_named_socket_of_a_database_is_refused(host: ProbeHost, tmp_path: Path) -> None:
    """PostgreSQL and the control socket are reached like this. Landlock cannot refuse it: seccomp does."""
    with listening(socket.AF_UNIX, str(tmp_path / "s")):
        code = CONNECT.format(family="socket.AF_UNIX", address=str(tmp_path / "s"))
        assert outside(code) == ["done"]
        assert host.run(code).said == ["EPERM"]
        assert host.run(code, sandbox=SandboxPolicy(namespaces="off")).said == ["EPERM"]


def test_an_abstract_socket_is_refused(host: ProbeHost) -> None:
    """It has no path: neither file modes nor Landlock's file rules see it."""
    name = f"\0runnerd-{os.getpid()}"
    with listening(socket.AF_UNIX, name):
        code = CONNECT.format(family="socket.AF_UNIX", address=name)
        assert outside(code) == ["done"]
        assert host.run(code).said == ["EPERM"]


def test_a_socket_pair_is_no_way_out(host: ProbeHost, tmp_path: Path) -> None:
    """asyncio in a thread needs a pair of streams. A pair of datagram sockets could send to any address."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server, contextlib.ExitStack() as leftovers:
        server.bind(str(tmp_path / "log"))
        leftovers.callback((tmp_path / "log").unlink)
        code = f"""
            import socket
            def send(kind):
                with socket.socketpair(socket.AF_UNIX, kind)[0] as one:
                    one.sendto(b"out", {str(tmp_path / "log")!r})
            attempt(lambda: send(socket.SOCK_DGRAM))
            attempt(lambda: socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM))
            attempt(lambda: send(socket.SOCK_STREAM))
        """
        assert outside(code) == ["done", "done", "EISCONN"]
        outcome = host.run(code)
    assert outcome.said == ["EPERM", "done", "EPERM"]
    assert outcome.denied == ("socketpair", "sendto")


def test_descriptors_cannot_be_passed_once_the_worker_is_born(host: ProbeHost) -> None:
    """sendmsg is allowed for the number of the birth socket alone, and no descriptor can have that number again."""
    code = """
        import array, fcntl, os, resource, socket
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        one, other = socket.socketpair()
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))]
        attempt(lambda: one.sendmsg([b"x"], rights))
        attempt(lambda: os.dup2(one.fileno(), limit))
        attempt(lambda: fcntl.fcntl(one.fileno(), fcntl.F_DUPFD, limit))
        attempt(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit + 8, limit + 8)))
    """
    outcome = host.run(code)
    assert outcome.said[0] == "EPERM"
    assert outcome.said[1:3] == ["EPERM", "EINVAL"], "dup2 is denied, F_DUPFD ends at the limit"
    assert "not allowed to raise maximum limit" in outcome.stderr


def test_each_outer_layer_refuses_tcp_by_itself() -> None:
    """Behind seccomp stand Landlock and the network namespace: each holds without the others."""
    with listening(socket.AF_INET, ("127.0.0.1", 0)) as server:
        connect = CONNECT.format(family="socket.AF_INET", address=server.getsockname())
        landlock = f"""
            from workers.sandbox import landlock, privileges, readable
            privileges.apply()
            landlock.apply(readable=readable.runtime_paths(), extra=(), socket_dir=None)
            {connect}
        """
        namespaces = f"""
            import os
            from workers.sandbox import namespaces
            namespaces.descend()
            for _ in range(2):
                if namespaces.fork_as_pid_1() == 0:
                    namespaces.enter()
                    {connect}
                    print(os.getpid(), flush=True)
                    os._exit(0)
                os.wait()
            attempt(lambda: os.kill(os.getppid() or {os.getpid()}, 0))
        """
        assert outside(connect) == ["done"]
        assert outside(landlock) == ["EACCES"]
        assert outside(namespaces) == ["ENETUNREACH", "1"] * 2 + ["ESRCH"]


def test_the_network_of_all_workers_is_nobodys_to_change() -> None:
    """It is the zygote's: a worker has no right to it, not even while it has all capabilities of its own namespace."""
    raise_loopback = """
        import fcntl, socket, struct
        LOOPBACK_UP = struct.pack("16sh", b"lo", 1)
        attempt(lambda: fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8914, LOOPBACK_UP))
    """
    in_a_network_of_its_own = f"""
        import os
        from workers.sandbox import libc, namespaces
        namespaces._enter(namespaces._CLONE_NEWUSER | namespaces._CLONE_NEWNET)
        {raise_loopback}
    """
    as_a_worker = f"""
        import os
        from workers.sandbox import namespaces
        namespaces.descend()
        if namespaces.fork_as_pid_1() == 0:
            namespaces.enter()
            {raise_loopback.replace(chr(10), chr(10) + "    ")}
            os._exit(0)
        os.wait()
    """
    assert outside(in_a_network_of_its_own) == ["done"]
    assert outside(as_a_worker) == ["EPERM"]


def test_landlock_alone_refuses_signals_and_abstract_sockets() -> None:
    """The scopes of ABI 6 stand behind seccomp and the pid namespace."""
    name = f"\0runnerd-{os.getpid()}"
    attempts = f"""
        import os, signal, socket
        attempt(lambda: os.kill(os.getppid(), 0))
        attempt(lambda: socket.socket(socket.AF_UNIX).connect({name!r}))
    """
    confined = """
        from workers.sandbox import landlock, privileges, readable
        privileges.apply()
        landlock.apply(readable=readable.runtime_paths(), extra=(), socket_dir=None)
    """
    with listening(socket.AF_UNIX, name):
        assert outside(attempts) == ["done", "done"]
        assert outside(confined + attempts) == ["EPERM", "EPERM"]


def test_the_link_carries_messages_both_ways(host: ProbeHost) -> None:
    """The one thing a worker can talk to is the supervisor, once that dials."""
    code = """
        import asyncio
        answered = loop.create_future()
        def read():
            while not answered.done() and link.getsockopt(15) & 1:  # EVENTS, POLLIN; the end is not for here
                link.send(link.recv()[::-1])
                answered.set_result(None)
        loop.add_reader(link.fileno(), read)
        loop.call_soon(read)
        loop.run_until_complete(answered)
        link.recv()
    """

    async def talk() -> bytes:
        running = await host.start(host.request(code))
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            with context.socket(zmq.DEALER) as dialled:
                dialled.setsockopt(zmq.LINGER, 0)
                dialled.setsockopt(zmq.RCVTIMEO, int(DEADLINE_S * 1000))
                dialled.connect(running.worker.link_address)
                dialled.send(b"ping")
                answer = await asyncio.to_thread(dialled.recv)
                dialled.send(b"end")
                outcome = await running.finish()
            assert outcome.denied == (), "ZeroMQ needs nothing that is denied"
            assert outcome.exited.status == 0, outcome.stderr
            return answer
        finally:
            running.close()
            context.term()

    assert host.wait_for(talk()) == b"gnip"


def test_importing_network_libraries_still_works(host: ProbeHost) -> None:
    """A plugin may use parts of a library that could also dial; only dialling fails."""
    outcome = host.run("import http.client, ssl, urllib.request, zmq.asyncio; print('ok')")
    assert outcome.said == ["ok"], outcome.stderr
    assert outcome.denied == ()
