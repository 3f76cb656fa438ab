"""The shape of `runnerd.toml`: frozen structs, units in the names, every default in one place.

Only shapes and single-key bounds live here. What several keys must satisfy together is `runnerd.config.check`.
"""

from pathlib import Path
from typing import Annotated, ClassVar, Literal, TypeAlias

from msgspec import Meta

from protocol.actions import Name
from protocol.limits import MAX_ACTIONS
from protocol.zygote import Layer
from runnerd.config.consumer_model import ConsumerConfig
from runnerd.config.extensions import Option, ProducerConfig, ServiceConfig
from runnerd.config.grants import ActionGrant, Address, KeeperAction, ReadGrant, Wei
from runnerd.config.plugins import PluginConfig
from runnerd.config.routing import RouterConfig
from runnerd.config.table import Bigint, Count, Seconds, Table


class DatabaseConfig(Table, frozen=True):
    """`[database]`. Without `dsn` a private PostgreSQL cluster is started in the data directory."""

    dsn: str | None = None
    event_dsn: str | None = None
    """Where LISTEN happens and the outbox stands, if events are announced in another database than runnerd's own."""


class HttpConfig(Table, frozen=True):
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


class HostSandboxConfig(Table, frozen=True):
    """`[sandbox]`: what holds for the workers of all plugins."""

    require: tuple[Layer, ...] = ()
    """Layers without which no plugin is started. Landlock, seccomp, rlimits and dropped privileges always are."""


class ChainConfig(Table, frozen=True):
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


class WalletConfig(Table, frozen=True):
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


class VaultConfig(Table, frozen=True):
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


class KeeperConfig(Table, frozen=True):
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


class Config(Table, frozen=True):
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
