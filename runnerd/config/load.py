"""From the TOML file to a `Config`: read, decode table by table, resolve paths, check. All problems are found at once.

Every problem names the file, the key, and what is allowed there. Callers exit with 78 (EX_CONFIG).
"""

import hashlib
import tomllib
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, structs

from protocol.actions import is_name
from runnerd.config.check import check
from runnerd.config.consumer_model import ConsumerConfig
from runnerd.config.explain import NAME_PROBLEM, explain, to_path, unknown_key
from runnerd.config.extensions import ProducerConfig, ServiceConfig
from runnerd.config.locate import why_unreadable
from runnerd.config.model import (
    ChainConfig,
    Config,
    DatabaseConfig,
    HostSandboxConfig,
    HttpConfig,
    KeeperConfig,
    VaultConfig,
    WalletConfig,
)
from runnerd.config.plugins import PluginConfig
from runnerd.config.problem import Problem
from runnerd.config.routing import RouterConfig
from runnerd.errors import RunExit, RunnerdError

S = TypeVar("S", bound=Struct)

_GROUPS: dict[str, Any] = {
    "chains": ChainConfig,
    "wallets": WalletConfig,
    "vaults": VaultConfig,
    "keepers": KeeperConfig,
    "plugins": PluginConfig,
    "producers": ProducerConfig,
    "services": ServiceConfig,
    "consumers": ConsumerConfig,
}
"""By key: the struct of its tables, or a union of structs that their `kind` tells apart."""
_SINGLES: dict[str, type[Struct]] = {
    "database": DatabaseConfig,
    "http": HttpConfig,
    "sandbox": HostSandboxConfig,
    "router": RouterConfig,
}
_PLAIN = ("data_dir", "runtime_dir", "control_socket", "log_level", "drain_s", "address_lists")


class ConfigError(RunnerdError):
    """The configuration cannot be used; nothing was started. Mend every problem listed, then try again."""

    exit_code = RunExit.CONFIG

    def __init__(self, file: Path, problems: list[Problem]) -> None:
        self.file = file
        self.problems = problems
        super().__init__("\n".join(f"{file}: {problem}" for problem in problems))


@dataclass(frozen=True, slots=True)
class _Reader:
    """Collects problems while tables are decoded, so that the operator sees all of them together.

    `broken`: the dotted keys of what could not be decoded, and is left out.
    """

    problems: list[Problem] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)

    def table(self, raw: object, kind: type[S], where: str) -> S | None:
        try:
            return msgspec.convert(raw, kind, strict=True, dec_hook=to_path)
        except msgspec.ValidationError as error:
            self.refuse(where, *(explain(raw, kind, where) or [Problem(where, str(error))]))
            return None

    def group(self, raw: object, kind: type[S], where: str) -> dict[str, S]:
        if not isinstance(raw, dict):
            self.refuse(where, Problem(where, f"must be tables, written as [{where}.NAME]"))
            return {}
        found: dict[str, S] = {}
        for name, table in raw.items():
            if not is_name(name):
                self.refuse(f"{where}.{name}", Problem(f"{where}.{name}", NAME_PROBLEM))
                continue
            decoded = self.table(table, kind, f"{where}.{name}")
            if decoded is not None:
                found[name] = decoded
        return found

    def refuse(self, where: str, *problems: Problem) -> None:
        self.problems.extend(problems)
        self.broken.add(where)

    def is_broken(self, table: str) -> bool:
        """Whether `table` stands in the file, or is part of what does, and was left out."""
        return any(table == one or table.startswith(f"{one}.") for one in self.broken)


def load_config(file: Path, own_producers: Collection[str] = ()) -> Config:
    """The checked configuration in `file`. Raises ConfigError with every problem found.

    `own_producers`: those that an embedding application brings, beside `[producers.NAME]`.
    """
    file = file.absolute()
    try:
        raw = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(file, [Problem("", why_unreadable(file, error))]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(file, [Problem("", "is not UTF-8 text")]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(file, [Problem("", f"is not valid TOML: {error}")]) from error
    except RecursionError:
        raise ConfigError(file, [Problem("", "is nested too deeply")]) from None
    reader = _Reader()
    config = _decode(raw, file, reader)
    # What could be decoded is checked as well. That a table is missing is no problem of its own if it was left out.
    problems = [
        *reader.problems,
        *(found for found in check(config, own_producers) if not reader.is_broken(found.missing)),
    ]
    if problems:
        raise ConfigError(file, problems)
    return config


def _decode(raw: dict[str, Any], file: Path, reader: _Reader) -> Config:
    """What is right of it. For the rest `reader` has problems, and the configuration is not to be used."""
    known = {*_PLAIN, *_SINGLES, *_GROUPS}
    for key in raw.keys() - known:
        reader.problems.append(Problem(key, unknown_key(key, sorted(known))))
    fields: dict[str, Any] = {key: raw[key] for key in _PLAIN if key in raw}
    for key, single in _SINGLES.items():
        table = reader.table(raw[key], single, key) if key in raw else None
        if table is not None:
            fields[key] = table
    for key, kind in _GROUPS.items():
        fields[key] = reader.group(raw.get(key, {}), kind, key)
    if "data_dir" not in fields:
        reader.problems.append(Problem("data_dir", "is missing; it must name the directory that runnerd may write"))
    plain = {each.name: each.type for each in structs.fields(Config) if each.name in fields}
    for key in [key for key in _PLAIN if key in plain]:
        problems = explain(fields[key], plain[key], key)
        if problems:
            reader.refuse(key, *problems)
            del fields[key]
    base = file.parent
    data_dir = base / str(fields.get("data_dir", "data"))
    fields["source"] = str(file)
    fields["data_dir"] = str(data_dir)
    fields["runtime_dir"] = str(base / str(fields.get("runtime_dir", _default_runtime_dir(data_dir))))
    fields["control_socket"] = str(base / str(fields.get("control_socket", data_dir / "control.sock")))
    plain_fields = {key: value for key, value in fields.items() if key in _PLAIN or key == "source"}
    config = msgspec.convert(plain_fields, Config, strict=True, dec_hook=to_path)
    decoded = {key: value for key, value in fields.items() if key in _SINGLES or key in _GROUPS}
    return _completed(structs.replace(config, **decoded), base)


def _default_runtime_dir(data_dir: Path) -> Path:
    """Sockets live in short paths: the kernel takes 107 bytes, and a data directory may be deep."""
    return Path("/tmp") / f"runnerd-{hashlib.sha256(str(data_dir).encode()).hexdigest()[:12]}"  # noqa: S108  # created 0700, owner checked


def _completed(config: Config, base: Path) -> Config:
    """With absolute paths, and what `[sandbox]` requires in the table of each plugin."""
    wallets = {name: _with_absolute_files(wallet, base) for name, wallet in config.wallets.items()}
    consumers = {name: _with_absolute_files(consumer, base) for name, consumer in config.consumers.items()}
    plugins = {
        name: structs.replace(
            plugin,
            path=base / plugin.path if plugin.path else None,
            venv=base / plugin.venv if plugin.venv else None,
            python=base / plugin.python if plugin.python else None,
            sandbox=structs.replace(
                plugin.sandbox,
                readable_paths=tuple(base / path for path in plugin.sandbox.readable_paths),
                # What all must have, each has: so a reload sees which plugins a change is about.
                require=tuple(dict.fromkeys((*config.sandbox.require, *plugin.sandbox.require))),
            ),
        )
        for name, plugin in config.plugins.items()
    }
    http = structs.replace(
        config.http,
        tls_cert=base / config.http.tls_cert if config.http.tls_cert else None,
        tls_key=base / config.http.tls_key if config.http.tls_key else None,
    )
    return structs.replace(config, http=http, wallets=wallets, plugins=plugins, consumers=consumers)


def _with_absolute_files(table: S, base: Path) -> S:
    files = {each.name: getattr(table, each.name) for each in structs.fields(table)}
    return structs.replace(table, **{name: base / file for name, file in files.items() if isinstance(file, Path)})
