"""The shape of `runnerd.toml`: frozen structs, units in the names, every default in one place.

Only shapes and single-key bounds live here. What several keys must satisfy together is `runnerd.config.check`.
"""

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from protocol.actions import Name
from protocol.limits import MAX_ACTIONS
from protocol.messages import Param
from protocol.triggers import Trigger
from protocol.values import Value

Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400 * 366)]
Positive: TypeAlias = Annotated[int, Meta(ge=1)]
Wei: TypeAlias = Annotated[int, Meta(ge=0)]
Bigint: TypeAlias = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
"""Fits a column of the ledger; EIP-2294 bounds chain ids about there too."""
Address: TypeAlias = Annotated[str, Meta(pattern=r"^0x[0-9a-fA-F]{40}\Z")]


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Root of all tables: frozen, and a key that is not known is an error, never ignored."""


class DatabaseConfig(_Table, frozen=True):
    """`[database]`. Without `dsn` a private PostgreSQL cluster is started in the data directory."""

    dsn: str | None = None
    event_dsn: str | None = None
    """Where LISTEN happens, if the topics are announced in another database than runnerd's own."""


class HttpConfig(_Table, frozen=True):
    """`[http]`: metrics and health, served by a process of its own that never sees the key."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 9477


class ChainConfig(_Table, frozen=True):
    """`[chains.NAME]`: one EVM chain and how careful to be on it."""

    id: Bigint
    rpc: str
    confirmations: Annotated[int, Meta(ge=1, le=10_000)] = 2
    poll_s: Seconds = 1.0
    rpc_timeout_s: Seconds = 10.0
    replace_after_blocks: Annotated[int, Meta(ge=1, le=1_000)] = 3
    max_fee_per_gas_wei: Bigint = 500 * 10**9
    min_priority_fee_wei: Wei = 10**6
    gas_limit_factor: Annotated[float, Meta(ge=1, le=10)] = 1.2


class WalletConfig(_Table, frozen=True):
    """`[wallets.NAME]`: an encrypted keystore, and where its passphrase comes from (exactly one source)."""

    keystore: Path
    passphrase_file: Path | None = None
    passphrase_credential: str | None = None
    """Name of a systemd credential (`LoadCredential=`), read from `$CREDENTIALS_DIRECTORY`."""


class ReadGrant(_Table, frozen=True):
    """`[vaults.V.reads.NAME]`: a view function that plugins of this vault may read."""

    contract: Address
    function: str
    errors: tuple[str, ...] = ()


class ArgumentLimit(_Table, frozen=True):
    """`[vaults.V.actions.A.limits.ARGUMENT]`: what one argument may be. For a list, each of its items."""

    min: int | None = None
    max: int | None = None
    one_of: tuple[Value, ...] | None = None


class ActionGrant(_Table, frozen=True):
    """`[vaults.V.actions.NAME]`: a function that plugins of this vault may ask for, within limits."""

    contract: Address
    function: str
    max_value_wei: Wei = 0
    limits: dict[str, ArgumentLimit] = {}
    errors: tuple[str, ...] = ()
    """Custom errors of the contract, as fragments, so that a revert can be named in the record."""


class VaultConfig(_Table, frozen=True):
    """`[vaults.NAME]`: a vault, the wallet that is its operator, and the catalogue its owner grants."""

    chain: str
    address: Address
    wallet: str
    adapter: Literal["erc7821"] = "erc7821"
    max_actions: Annotated[int, Meta(ge=1, le=MAX_ACTIONS)] = 8
    max_value_wei_per_day: Wei = 0
    expect_tokens: tuple[Address, ...] = ()
    """ERC-20 tokens that plugins may name in what they expect of a Decision. Native value needs no grant."""
    reads: dict[Name, ReadGrant] = {}
    actions: dict[Name, ActionGrant] = {}


class RestartPolicy(_Table, frozen=True):
    """`[plugins.NAME.restart]`: what follows a crash. The first restart is immediate, later ones wait."""

    backoff_first_s: Seconds = 1.0
    backoff_factor: Annotated[float, Meta(ge=1, le=10)] = 2.0
    backoff_max_s: Seconds = 60.0
    jitter: Annotated[float, Meta(ge=0, le=0.9)] = 0.2
    stable_after_s: Seconds = 60.0
    crash_window_s: Seconds = 600.0
    crashes_to_quarantine: Positive = 5
    probe_every_s: Seconds = 900.0


class SandboxConfig(_Table, frozen=True):
    """`[plugins.NAME.sandbox]`: limits of the worker. Landlock, seccomp and rlimits are always required."""

    namespaces: Literal["auto", "require", "off"] = "auto"
    memory_mib: Annotated[int, Meta(ge=64, le=1_048_576)] = 1024
    max_files: Annotated[int, Meta(ge=32, le=32_768)] = 256
    """Open descriptors of the worker (`RLIMIT_NOFILE`). While it is born it needs the number after the last of them,
    which the unit's own limit (65,536) must allow."""
    scheduling: Literal["idle", "normal"] = "idle"
    """`idle`: the worker gets the CPU time that nobody else wants, so a spinning plugin disturbs no other process.
    `normal`: for a host whose CPUs other programs keep busy, where an idle worker might not decide in time."""
    readable_paths: tuple[Path, ...] = ()


class PluginConfig(_Table, frozen=True):
    """`[plugins.NAME]`: where the code is (exactly one of path, module, entry_point), and how it is run."""

    vault: str
    path: Path | None = None
    module: str | None = None
    entry_point: str | None = None
    class_name: str | None = None
    """The class's own `name`, if it differs from NAME: one class may run as several plugins."""
    enabled: bool = True
    params: dict[str, Param] = {}
    triggers: tuple[Trigger, ...] | None = None
    """Replaces the triggers that the class declares."""
    parallel: Annotated[int, Meta(ge=1, le=1_000)] = 16
    queue: Annotated[int, Meta(ge=1, le=1_000_000)] = 1_000
    hello_deadline_s: Seconds = 10.0
    decide_deadline_s: Seconds = 5.0
    call_deadline_s: Seconds = 60.0
    """A JobCall that has not begun to decide this long after it fired is recorded as expired."""
    attempts: Annotated[int, Meta(ge=1, le=100)] = 3
    """A call that ended its worker this many times is recorded as dead."""
    stop_grace_s: Seconds = 5.0
    restart: RestartPolicy = RestartPolicy()
    sandbox: SandboxConfig = SandboxConfig()


class Config(_Table, frozen=True):
    """The whole file. `source` is where it was read from; relative paths in it are relative to that directory."""

    source: Path
    data_dir: Path
    runtime_dir: Path
    control_socket: Path
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    database: DatabaseConfig = DatabaseConfig()
    http: HttpConfig = HttpConfig()
    chains: dict[str, ChainConfig] = {}
    wallets: dict[str, WalletConfig] = {}
    vaults: dict[str, VaultConfig] = {}
    plugins: dict[str, PluginConfig] = {}
