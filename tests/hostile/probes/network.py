# mypy: disable-error-code="func-returns-value"
"""Sockets: nobody to talk to but the supervisor, which dials."""

import errno
import os
import socket
import struct

from tests.hostile.probes.table import Targets, probe, raw


@probe()
def connect_over_tcp(targets: Targets) -> object:
    return socket.create_connection(("127.0.0.1", targets["port"]), 5).close()


@probe()
def send_a_datagram(targets: Targets) -> object:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        return sender.sendto(b"out", ("127.0.0.1", targets["port"]))


@probe()
def listen_on_tcp(targets: Targets) -> object:
    return socket.create_server(("127.0.0.1", 0)).close()


@probe(needs_root=True)
def open_a_raw_socket(targets: Targets) -> object:
    return socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP).close()


@probe()
def open_a_netlink_socket(targets: Targets) -> object:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()


def _connect_unix(address: str) -> object:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        return connection.connect(address)


@probe()
def connect_to_postgresql(targets: Targets) -> object:
    return _connect_unix(targets["postgres_socket"])


@probe()
def connect_to_the_control_socket(targets: Targets) -> object:
    return _connect_unix(targets["control_socket"])


@probe()
def connect_to_another_workers_link(targets: Targets) -> object:
    return _connect_unix(targets["other_link"])


@probe()
def connect_to_an_abstract_socket(targets: Targets) -> object:
    return _connect_unix("\0" + targets["abstract"])


@probe()
def send_to_an_abstract_socket(targets: Targets) -> object:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        return sender.sendto(b"out", "\0" + targets["abstract_datagram"])


@probe()
def send_from_a_socketpair_to_a_path(targets: Targets) -> object:
    """A datagram socket needs no connect to reach another socket."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, other:
        return one.sendto(b"out", targets["datagram_socket"])


@probe()
def pass_a_descriptor_on(targets: Targets) -> object:
    one, other = socket.socketpair()
    with one, other:
        return socket.send_fds(one, [b"x"], [0])


@probe()
def open_a_socket_raw(targets: Targets) -> object:
    return os.close(raw("socket", socket.AF_INET, socket.SOCK_STREAM, 0))


@probe()
def connect_raw(targets: Targets) -> object:
    """On whatever socket it has: one of a pair is enough to ask."""
    one, other = socket.socketpair()
    with one, other:
        address = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(targets["port"]), socket.inet_aton("127.0.0.1"))
        try:
            return raw("connect", one.fileno(), address, len(address))
        except OSError as error:
            if error.errno in TAKEN_SERIOUSLY:  # the kernel looked at it, and found the wrong kind of socket
                return error
            raise


TAKEN_SERIOUSLY = (22, 97, 106)
"""EINVAL, EAFNOSUPPORT, EISCONN."""


@probe(is_offered_by_some=True)
def connect_over_ipv6(targets: Targets) -> object:
    with socket.socket(socket.AF_INET6) as connection:
        connection.settimeout(5)
        return connection.connect(("::1", targets["port6"]))


@probe(is_offered_by_some=True)
def listen_on_ipv6(targets: Targets) -> object:
    return socket.create_server(("::1", 0), family=socket.AF_INET6).close()


@probe(needs_root=True)
def open_a_packet_socket(targets: Targets) -> object:
    return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0).close()


@probe(is_offered_by_some=True)
def open_a_vsock(targets: Targets) -> object:
    """To the hypervisor, or to other machines on it."""
    return socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()


@probe(is_offered_by_some=True)
def send_out_of_band(targets: Targets) -> object:
    """MSG_OOB on unix sockets was a way out of sandboxes (CVE-2025-38236)."""
    one, other = socket.socketpair()
    with one, other:
        return one.send(b"x", socket.MSG_OOB)


@probe(needs_root=True)
def look_for_the_zygotes_socket(targets: Targets) -> object:
    return os.listdir(f"/proc/{targets['zygote']}/fd")  # noqa: PTH208


@probe(needs_root=True)
def steal_the_zygotes_socket(targets: Targets) -> object:
    """Who has it could ask for workers."""
    zygote = os.pidfd_open(targets["zygote"])
    for number in range(3, 64):
        try:
            return os.close(raw("pidfd_getfd", zygote, number, 0))
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
    return os.close(raw("pidfd_getfd", zygote, 0, 0))


@probe()
def take_the_number_of_the_birth_socket(targets: Targets) -> object:
    """The one through which a descriptor could be passed on."""
    return os.close(os.dup2(1, targets["max_files"]))
