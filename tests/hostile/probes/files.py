# mypy: disable-error-code="func-returns-value"
"""Files: the operator's, other plugins', the host's; and the ways around a path."""

import ctypes
import os
import tempfile
from pathlib import Path

from tests.hostile.probes.table import Targets, in_vain, libc, probe


@probe()
def read_the_keystore(targets: Targets) -> object:
    return Path(targets["keystore"]).read_bytes()


@probe()
def read_the_passphrase(targets: Targets) -> object:
    return Path(targets["passphrase"]).read_bytes()


@probe()
def read_the_configuration(targets: Targets) -> object:
    return Path(targets["config"]).read_bytes()


@probe()
def read_the_log(targets: Targets) -> object:
    return Path(targets["log"]).read_bytes()


@probe()
def read_another_plugins_code(targets: Targets) -> object:
    return Path(targets["other_code"]).read_bytes()


@probe()
def read_the_supervisors_code(targets: Targets) -> object:
    return Path(targets["supervisor_code"]).read_bytes()


@probe()
def read_the_users_of_the_host(targets: Targets) -> object:
    return Path("/etc/passwd").read_bytes()


@probe()
def list_the_data_directory(targets: Targets) -> object:
    return os.listdir(targets["data_dir"])  # noqa: PTH208


@probe()
def list_the_links_of_others(targets: Targets) -> object:
    return os.listdir(targets["links"])  # noqa: PTH208


@probe()
def write_a_file(targets: Targets) -> object:
    with tempfile.NamedTemporaryFile(dir=targets["scratch"]) as file:
        return file.write(b"mine")


@probe()
def overwrite_a_file(targets: Targets) -> object:
    return Path(targets["file"]).write_text("mine")


@probe()
def truncate_a_file(targets: Targets) -> object:
    return os.truncate(targets["file"], 0)


@probe()
def remove_a_file(targets: Targets) -> object:
    # One of its own: the control must not take it from others.
    path = Path(targets["scratch"], targets["doomed"])
    return path.unlink()


@probe()
def change_the_mode_of_a_file(targets: Targets) -> object:
    return Path(targets["file"]).chmod(0o644)


@probe()
def make_a_symlink(targets: Targets) -> object:
    return Path(targets["scratch"], f"link-{os.getpid()}-{os.urandom(4).hex()}").symlink_to("/")


@probe()
def use_shared_memory_files(targets: Targets) -> object:
    with tempfile.TemporaryFile(dir="/dev/shm") as file:
        return file.write(b"mine")


@probe()
def list_processes(targets: Targets) -> object:
    return os.listdir("/proc")  # noqa: PTH208


@probe(needs_root=True)
def read_the_supervisors_environment(targets: Targets) -> object:
    return Path(f"/proc/{targets['supervisor']}/environ").read_bytes()


@probe(needs_root=True)
def read_the_supervisors_memory(targets: Targets) -> object:
    start = int(Path(f"/proc/{targets['supervisor']}/maps").read_text().split("-")[0], 16)
    with Path(f"/proc/{targets['supervisor']}/mem").open("rb", buffering=0) as memory:
        memory.seek(start)
        return memory.read(16)


@probe(needs_root=True)
def list_the_supervisors_descriptors(targets: Targets) -> object:
    return os.listdir(f"/proc/{targets['supervisor']}/fd")  # noqa: PTH208


@probe()
def read_a_neighbours_arguments(targets: Targets) -> object:
    return Path(f"/proc/{targets['victim']}/cmdline").read_bytes()


# --- around a path ---------------------------------------------------------------------------------------------------


@probe()
def read_the_credentials(targets: Targets) -> object:
    return Path(targets["credentials"], "passphrase").read_bytes()


@probe()
def list_the_credentials(targets: Targets) -> object:
    return os.listdir(targets["credentials"])  # noqa: PTH208


@probe()
def follow_a_symlink_out_of_its_directory(targets: Targets) -> object:
    return Path(targets["granted"], "keystore").read_bytes()


@probe()
def link_the_keystore_into_its_directory(targets: Targets) -> object:
    link = Path(targets["granted"], "linked")
    link.hardlink_to(targets["keystore"])
    return link.unlink()


@probe()
def move_a_file_into_its_directory(targets: Targets) -> object:
    return Path(targets["scratch"], targets["doomed"]).rename(Path(targets["granted"], "moved"))


@probe()
def swap_a_file_of_its_directory_for_a_symlink(targets: Targets) -> object:
    own = Path(targets["granted"], "own")
    own.unlink()
    own.symlink_to(targets["keystore"])
    own.unlink()
    return own.touch()


@probe()
def go_through_its_own_root(targets: Targets) -> object:
    return Path(f"/proc/self/root{targets['keystore']}").read_bytes()


@probe()
def go_through_its_own_directory(targets: Targets) -> object:
    return Path(f"/proc/self/cwd/{'../' * 20}{targets['keystore']}").read_bytes()


@probe()
def go_through_a_neighbours_root(targets: Targets) -> object:
    return Path(f"/proc/{targets['victim']}/root{targets['keystore']}").read_bytes()


@probe(needs_root=True)
def choose_where_cores_go(targets: Targets) -> object:
    """A pattern that begins with `|` names a program, which the kernel runs as root outside of every namespace."""
    return os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY))


@probe()
def read_its_own_memory_map(targets: Targets) -> object:
    return Path("/proc/self/maps").read_bytes()


# --- what it was started with ----------------------------------------------------------------------------------------


@probe()
def find_a_secret_in_its_environment(targets: Targets) -> object:
    if targets["variable"] not in os.environ:
        raise in_vain("it is not there")
    return None


@probe()
def find_a_secret_in_its_environment_in_c(targets: Targets) -> object:
    """What Python has removed from `os.environ` may still be in the C library's."""
    libc.getenv.restype = ctypes.c_void_p
    if not libc.getenv(targets["variable"].encode()):
        raise in_vain("it is not there")
    return None


@probe()
def read_the_environment_that_it_was_started_with(targets: Targets) -> object:
    if targets["variable"].encode() not in Path("/proc/self/environ").read_bytes():
        raise in_vain("it is not there")
    return None


@probe()
def find_an_inherited_descriptor(targets: Targets) -> object:
    """An open file, or another process: what Landlock and a new namespace do not take away."""
    for number in range(3, 1024):
        try:
            what = str(Path(f"/proc/self/fd/{number}").readlink())
        except FileNotFoundError:
            continue
        if what.startswith("/") or "pidfd" in what:
            return what
    raise in_vain("there is none")
