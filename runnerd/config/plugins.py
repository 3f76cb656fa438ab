"""The shape of `[plugins.NAME]`: where the code is, how it is run, and what it may take."""

from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta

from protocol.actions import Name
from protocol.limits import MAX_LOG_RECORDS_PER_S
from protocol.messages import Param
from protocol.triggers import Trigger
from protocol.zygote import Digest, Layer
from runnerd.config.grants import Wei
from runnerd.config.routing import RouteLimits
from runnerd.config.table import Bigint, Count, Positive, Seconds, Table


class RestartPolicy(Table, frozen=True):
    """`[plugins.NAME.restart]`: what follows a crash. The first restart is immediate, later ones wait."""

    backoff_first_s: Seconds = 1.0
    backoff_factor: Annotated[float, Meta(ge=1, le=10)] = 2.0
    backoff_max_s: Seconds = 60.0
    jitter: Annotated[float, Meta(ge=0, le=0.9)] = 0.2
    stable_after_s: Seconds = 60.0
    crash_window_s: Seconds = 600.0
    crashes_to_quarantine: Positive = 5
    probe_every_s: Seconds = 900.0


class SandboxConfig(Table, frozen=True):
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


class BudgetConfig(Table, frozen=True):
    """`[plugins.NAME.budget]`: what this plugin may take of its vault's or keeper's. What is left out has no limit."""

    max_value_wei_per_day: Wei | None = None
    max_gas_wei_per_day: Wei | None = None
    """Reserved at the highest price when a transaction is signed, corrected to what was paid."""
    max_transactions_per_hour: Count | None = None
    max_transactions_per_day: Count | None = None


class PluginConfig(Table, frozen=True):
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
    """Every cron slot is fired later by a fixed part of this, another one for each plugin: not all are called at once.
    """
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

    @property
    def place_kind(self) -> str:
        """What its role acts through: `vault` or `keeper`."""
        return "keeper" if self.role == "keeper" else "vault"
