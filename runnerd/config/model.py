"""The shape of `runnerd.toml`: frozen structs, units in the names, every default in one place.

Only shapes and single-key bounds live here. What several keys must satisfy together is `runnerd.config.check`.
"""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

from msgspec import Meta, Struct

from protocol.actions import Name
from protocol.limits import MAX_ACTIONS, MAX_LOG_RECORDS_PER_S
from protocol.messages import Param
from protocol.triggers import Trigger
from protocol.zygote import Digest, Layer
from runnerd.config.consumer_model import ConsumerConfig
from runnerd.config.extensions import Option, ProducerConfig, ServiceConfig
from runnerd.config.grants import ActionGrant, Address, KeeperAction, ReadGrant, Wei
from runnerd.config.routing import RouteLimits, RouterConfig

Seconds: TypeAlias = Annotated[float, Meta(gt=0, le=86_400 * 366)]
Positive: TypeAlias = Annotated[int, Meta(ge=1)]
Count: TypeAlias = Annotated[int, Meta(ge=0, le=1_000_000)]
Bigint: TypeAlias = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]
"""Fits a column of the ledger; EIP-2294 bounds chain ids about there too."""


class _Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Root of all tables: frozen, and a key that is not known is an error, never ignored."""


class DatabaseConfig(_Table, frozen=True):
    """`[database]`. Without `dsn` a private PostgreSQL cluster is started in the data directory."""

    dsn: str | None = None
    event_dsn: str | None = None
    """Where LISTEN happens and the outbox stands, if events are announced in another database than runnerd's own."""


class HttpConfig(_Table, frozen=True):
    """`[http]`: metrics, health and webhooks, served by a process of its own that holds no key and no DSN."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: Annotated[int, Meta(ge=0, le=65_535)] = 9477
    tls_cert: Path | None = None
    """PEM file with the certificate, and those between it and its authority. With it, all is served over TLS alone."""
    tls_key: Path | None = None
    """PEM file with the certificate's key, without a passphrase. Read at the start, by the http process."""
    requests_per_s: Annotated[float, Meta(gt=0, le=100_000)] = 20.0
    """Requests of one API key, in the long run; twice as many may come at once. What is more is answered with 429."""


class HostSandboxConfig(_Table, frozen=True):
    """`[sandbox]`: what holds for the workers of all plugins."""

    require: tuple[Layer, ...] = ()
    """Layers without which no plugin is started. Landlock, seccomp, rlimits and dropped privileges always are."""


class ChainConfig(_Table, frozen=True):
    """`[chains.NAME]`: one EVM chain and how careful to be on it."""

    id: Bigint
    rpc: str | Annotated[tuple[str, ...], Meta(min_length=1, max_length=16)]
    """One node or a list of them: `http(s)://`, `ws(s)://` or `ipc:///absolute/path`. The highest healthy one is read
    from, another one when it does not answer; transactions go to all. Credentials and path are never shown."""
    quorum: Annotated[int, Meta(ge=1, le=16)] | None = None
    """How many nodes must say the same before it is proof (of a nonce that was used, of a receipt that is final). By
    default 2, or 1 with a single node: then that node is believed whatever it says, and a warning says so."""
    max_lag_blocks: Annotated[int, Meta(ge=1, le=10_000)] = 5
    """A node that is further behind the others leaves the pool, until it has caught up for three polls in a row."""
    private_rpc: str | None = None
    """Endpoint for transactions that are not to be seen in the public mempool. Used only where a policy says so."""
    private_method: Literal["eth_sendRawTransaction", "eth_sendPrivateTransaction"] | None = None
    """How `private_rpc` takes a transaction; by default `eth_sendRawTransaction`."""
    private_blocks: Annotated[int, Meta(ge=1, le=10_000)] = 25
    """How many blocks a transaction may wait in the private lane."""
    confirmations: Annotated[int, Meta(ge=1, le=10_000)] = 2
    finality: Literal["depth", "finalized"] = "depth"
    """What is final: a block with `confirmations`, or one that the node's `finalized` block includes."""
    poll_s: Seconds = 1.0
    rpc_timeout_s: Seconds = 10.0
    replace_after_blocks: Annotated[int, Meta(ge=1, le=1_000)] = 2
    fee_market: Literal["auto", "eip1559", "legacy"] = "auto"
    """`auto`: EIP-1559 fees where blocks have a base fee, a gas price where they have none."""
    max_fee_per_gas_wei: Bigint = 500 * 10**9
    min_priority_fee_wei: Wei = 10**6
    gas_limit_factor: Annotated[float, Meta(ge=1, le=10)] = 1.2

    @property
    def urls(self) -> tuple[str, ...]:
        """The nodes."""
        return (self.rpc,) if isinstance(self.rpc, str) else self.rpc

    @property
    def needed_nodes(self) -> int:
        """The quorum that is in force."""
        return self.quorum if self.quorum is not None else min(2, len(self.urls))


class WalletConfig(_Table, frozen=True):
    """`[wallets.NAME]`: who signs, exactly one of `keystore`, `kms_key_id`, `signer_url` and `signer_entry_point`, and
    the keys of that kind.

    A keystore needs exactly one source of its passphrase.
    """

    keystore: Path | None = None
    passphrase_file: Path | None = None
    passphrase_credential: str | None = None
    """Name of a systemd credential (`LoadCredential=`), read from `$CREDENTIALS_DIRECTORY`."""
    kms_key_id: Annotated[str, Meta(min_length=1, max_length=2048)] | None = None
    """AWS KMS: id, ARN or alias of a key with spec ECC_SECG_P256K1 and usage SIGN_VERIFY. Needs `runnerd[kms]`."""
    kms_region: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,40}\Z")] | None = None
    """The key's region, if neither its ARN nor AWS's own configuration names it."""
    kms_endpoint_url: str | None = None
    """Another address of KMS than the region's own, such as a VPC endpoint."""
    signer_url: str | None = None
    """A remote signer that speaks `eth_signTransaction` as web3signer does: `http(s)://`. Only its host is shown."""
    address: Address | None = None
    """What the signer signs for. Required with `signer_url`; with `kms_key_id` another key is refused."""
    signer_token_file: Path | None = None
    """File with a bearer token for `signer_url`. Refused when every user could read it."""
    signer_token_credential: str | None = None
    """Name of a systemd credential with that token."""
    signer_ca_file: Path | None = None
    """PEM file of the only authorities that may vouch for `signer_url`. Without it the host's are trusted."""
    signer_client_cert_file: Path | None = None
    """PEM file with our certificate and its key, for a signer that asks who we are."""
    signer_entry_point: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    """Entry point of an installed package in `runnerd.signers`: trusted code, with answers that are checked."""
    signer_params: dict[str, Option] | None = None
    """Told to that signer; whoever reads the configuration reads them: no secrets."""
    max_in_flight: Annotated[int, Meta(ge=1, le=10_000)] = 16
    """Signed transactions of this wallet that may wait for their inclusion at once. Many nodes hold no more than 16."""
    max_fee_per_gas_wei: Bigint | None = None
    """A lower cap than the chain's."""
    max_gas_wei_per_day: Wei | None = None
    """The most that transactions of this wallet may cost in gas in 24 hours, on each chain for itself."""


class VaultConfig(_Table, frozen=True):
    """`[vaults.NAME]`: a vault, the wallet that is its operator, and the catalogue its owner grants."""

    chain: str
    address: Address
    wallet: str
    adapter: Literal["erc7821", "eip7702", "safe", "safe_multisig", "roles"] = "erc7821"
    delegate: Address | None = None
    """eip7702: the contract that the wallet delegates to, such as deploy/contracts/BatchExecutor.vy."""
    multisend: Address | None = None
    """safe, safe_multisig, roles: MultiSendCallOnly, through which several calls become one."""
    roles_modifier: Address | None = None
    """roles: the Zodiac Roles modifier (v2) that the Safe has enabled as a module."""
    role_key: Annotated[str, Meta(pattern=r"^0x[0-9a-fA-F]{64}\Z")] | None = None
    """roles: the key of the role that the wallet is a member of."""
    intent_registry: Address | None = None
    """safe, safe_multisig, roles: deploy/contracts/IntentRegistry.vy, called first in each batch so that one intent id
    takes effect once on chain. Without it the nonce of the transaction is the only lock."""
    max_actions: Annotated[int, Meta(ge=1, le=MAX_ACTIONS)] = 8
    max_value_wei_per_day: Wei = 0
    max_gas_wei_per_day: Wei | None = None
    """The most that the vault's transactions may cost in gas in 24 hours."""
    max_transactions_per_hour: Count | None = None
    max_transactions_per_day: Count | None = None
    expect_tokens: tuple[Address, ...] = ()
    """ERC-20 tokens that plugins may name in what they expect of a Decision. Native value needs no grant."""
    reads: dict[Name, ReadGrant] = {}
    actions: dict[Name, ActionGrant] = {}


class KeeperConfig(_Table, frozen=True):
    """`[keepers.NAME]`: a wallet that is nobody's operator, and the permissionless actions its plugins may ask for.

    To keeper plugins it is what a vault is to operator plugins, so it has the same names to those who ask either.
    """

    chain: str
    wallet: str
    """Of this keeper, or of several; never one that is the operator of a vault."""
    max_gas_wei_per_day: Wei | None = None
    """The most that the keeper's transactions may cost in gas in 24 hours."""
    max_transactions_per_hour: Count | None = None
    max_transactions_per_day: Count | None = None
    reads: dict[Name, ReadGrant] = {}
    actions: dict[Name, KeeperAction] = {}

    adapter: ClassVar[Literal["direct"]] = "direct"
    max_actions: ClassVar[int] = MAX_ACTIONS
    """More than one are refused by the adapter, which says why."""
    max_value_wei_per_day: ClassVar[int] = 0
    expect_tokens: ClassVar[tuple[Address, ...]] = ()


Place: TypeAlias = VaultConfig | KeeperConfig
"""What a plugin acts for. Vaults and keepers share one space of names, so that the ledger needs no other column."""


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
    """`[plugins.NAME.sandbox]`: limits of the worker. Landlock, seccomp and rlimits are always required.

    A worker that is over a limit is ended, and `why` says which: a crash like any other.
    """

    namespaces: Literal["auto", "require", "off"] = "auto"
    memory_mib: Annotated[int, Meta(ge=64, le=1_048_576)] = 1024
    """Private memory that is filled. What is only reserved may be a quarter (at least 128 MiB) more."""
    max_threads: Annotated[int, Meta(ge=8, le=4_000)] | None = None
    """By default `parallel` and 48 more, for ZeroMQ and what the plugin and its libraries start."""
    max_cpus: Annotated[float, Meta(gt=0, le=1_024)] | None = None
    """CPUs that it may use on average over ten seconds; 0.5 is half of one. By default it has no limit: with
    `scheduling = "idle"` it takes nothing that others want."""
    max_files: Annotated[int, Meta(ge=32, le=32_768)] = 256
    """Open descriptors of the worker. `RLIMIT_NOFILE` is 16 more; while it is born it needs the number after the last
    of them, which the unit's own limit (65,536) must allow."""
    log_lines_per_s: Annotated[int, Meta(ge=1, le=100_000)] = MAX_LOG_RECORDS_PER_S
    """Lines of log, stdout and stderr together; five times as many at once. What is more is dropped and counted, and
    a worker that goes on with ten times as many for half a minute is ended."""
    scheduling: Literal["idle", "normal"] = "idle"
    """`idle`: the worker gets the CPU time that nobody else wants, so a spinning plugin disturbs no other process.
    `normal`: for a host whose CPUs other programs keep busy, where an idle worker might not decide in time."""
    readable_paths: tuple[Path, ...] = ()
    require: tuple[Layer, ...] = ()
    """Layers without which this plugin is not started, beside those that every plugin needs, and those of
    `[sandbox]`."""


class BudgetConfig(_Table, frozen=True):
    """`[plugins.NAME.budget]`: what this plugin may take of its vault's or keeper's. What is left out has no limit."""

    max_value_wei_per_day: Wei | None = None
    max_gas_wei_per_day: Wei | None = None
    """Reserved at the highest price when a transaction is signed, corrected to what was paid."""
    max_transactions_per_hour: Count | None = None
    max_transactions_per_day: Count | None = None


class PluginConfig(_Table, frozen=True):
    """`[plugins.NAME]`: where the code is (exactly one of path, module, entry_point), and how it is run."""

    role: Literal["operator", "keeper"] = "operator"
    """`operator`: it acts for a vault. `keeper`: it names no vault, and may ask for permissionless actions alone."""
    vault: str | None = None
    """The vault it acts for; required with `role = "operator"`, and refused with the other."""
    keeper: str | None = None
    """The keeper it acts through; required with `role = "keeper"`, and refused with the other."""
    path: Path | None = None
    module: str | None = None
    entry_point: str | None = None
    class_name: str | None = None
    """The class's own `name`, if it differs from NAME: one class may run as several plugins."""
    pin: Digest | None = None
    """`sha256:…` of the only code that may run: with other code the plugin is quarantined, before a line of it runs.
    `runnerctl check` shows the digest. It covers the file, the package's directory, or the module's top package."""
    venv: Path | None = None
    """A virtual environment whose packages come before runnerd's for this plugin."""
    python: Path | None = None
    """An interpreter of the plugin's own; it must have msgspec, pyzmq, setproctitle and pyseccomp."""
    enabled: bool = True
    params: dict[str, Param] = {}
    triggers: tuple[Trigger, ...] | None = None
    """Replaces the triggers that the class declares."""
    cron_spread_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    """Every cron slot comes later by a fixed part of this, another one for each plugin: not all are called at once."""
    parallel: Annotated[int, Meta(ge=1, le=1_000)] = 16
    queue: Annotated[int, Meta(ge=1, le=1_000_000)] = 1_000
    max_calls_per_s: Positive = 50
    hello_deadline_s: Seconds = 10.0
    decide_deadline_s: Seconds = 5.0
    call_deadline_s: Seconds = 60.0
    """A JobCall that has not begun to decide this long after it fired is recorded as expired."""
    intent_deadline_s: Seconds = 600.0
    """What was decided must be included this long after; else it is not signed any more, or cancelled."""
    max_fee_per_gas_wei: Bigint | None = None
    """A lower cap than the chain's."""
    broadcast: Literal["public", "private", "private_first"] = "public"
    """`private` needs the chain's `private_rpc`; `private_first` goes public after its `private_blocks`."""
    attempts: Annotated[int, Meta(ge=1, le=100)] = 3
    """A call that ended its worker this many times is recorded as dead."""
    max_state_bytes: Annotated[int, Meta(ge=0, le=1 << 40)] = 1 << 20
    """What the keys and values of its state may take (UTF-8). A write beyond is refused, and ends the worker."""
    max_state_keys: Annotated[int, Meta(ge=0, le=1 << 40)] = 10_000
    """How many keys its state may have."""
    stop_grace_s: Seconds = 5.0
    jobs: dict[Name, RouteLimits] = {}
    """`[plugins.NAME.jobs.JOB]`: limits of one job, beside those above."""
    restart: RestartPolicy = RestartPolicy()
    sandbox: SandboxConfig = SandboxConfig()
    budget: BudgetConfig = BudgetConfig()

    @property
    def place(self) -> str:
        """The name of its vault or keeper: `runnerd.config.roles` has seen to it that there is exactly one."""
        return self.vault or self.keeper or ""


class Config(_Table, frozen=True):
    """The whole file. `source` is where it was read from; relative paths in it are relative to that directory."""

    source: Path
    data_dir: Path
    runtime_dir: Path
    control_socket: Path
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    drain_s: Annotated[float, Meta(ge=0, le=86_400)] = 0.0
    """How long a stop waits for transactions in flight; what is not final by then goes on with the next start."""
    database: DatabaseConfig = DatabaseConfig()
    http: HttpConfig = HttpConfig()
    sandbox: HostSandboxConfig = HostSandboxConfig()
    chains: dict[str, ChainConfig] = {}
    wallets: dict[str, WalletConfig] = {}
    address_lists: dict[Name, tuple[Address, ...]] = {}
    """`[address_lists]`: addresses by the name of their list, for limits of arguments."""
    vaults: dict[str, VaultConfig] = {}
    keepers: dict[str, KeeperConfig] = {}
    plugins: dict[str, PluginConfig] = {}
    consumers: dict[str, ConsumerConfig] = {}
    router: RouterConfig = RouterConfig()
    producers: dict[str, ProducerConfig] = {}
    services: dict[str, ServiceConfig] = {}

    @property
    def places(self) -> dict[str, Place]:
        """Vaults and keepers by name."""
        return {**self.vaults, **self.keepers}
