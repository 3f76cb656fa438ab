"""From the TOML file to a `Config`: read, decode table by table, resolve paths, check. All problems are found at once.

Every problem names the file, the key, and what is allowed there. Callers exit with 78 (EX_CONFIG).
"""

import difflib
import hashlib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, structs

from protocol.actions import NAME_PATTERN
from protocol.limits import MAX_NAME_LENGTH
from runnerd.config.check import check
from runnerd.config.model import (
    ChainConfig,
    Config,
    DatabaseConfig,
    HttpConfig,
    PluginConfig,
    VaultConfig,
    WalletConfig,
)
from runnerd.config.problem import Problem

EXIT_CONFIG = 78
S = TypeVar("S", bound=Struct)

_AT = re.compile(r"^(?P<text>.*?)(?: - at `(?:key in )?\$(?P<path>[^`]*)`)?$", re.DOTALL)
_UNKNOWN = re.compile(r"unknown field `(?P<field>[^`]*)`")
_GROUPS: dict[str, type[Struct]] = {
    "chains": ChainConfig,
    "wallets": WalletConfig,
    "vaults": VaultConfig,
    "plugins": PluginConfig,
}
_SINGLES: dict[str, type[Struct]] = {"database": DatabaseConfig, "http": HttpConfig}
_PLAIN = ("data_dir", "runtime_dir", "control_socket", "log_level", "drain_s")


class ConfigError(Exception):
    """The configuration cannot be used; nothing was started. Mend every problem listed, then try again."""

    def __init__(self, file: Path, problems: list[Problem]) -> None:
        self.file = file
        self.problems = problems
        super().__init__("\n".join(f"{file}: {problem}" for problem in problems))


@dataclass(frozen=True, slots=True)
class _Reader:
    """Collects problems while tables are decoded, so that the operator sees all of them together."""

    problems: list[Problem]

    def table(self, raw: object, kind: type[S], where: str) -> S | None:
        try:
            return msgspec.convert(raw, kind, strict=True, dec_hook=_path)
        except msgspec.ValidationError as error:
            self.problems.append(_problem(error, kind, where))
            return None

    def group(self, raw: object, kind: type[S], where: str) -> dict[str, S]:
        if not isinstance(raw, dict):
            self.problems.append(Problem(where, f"must be tables, written as [{where}.NAME]"))
            return {}
        found: dict[str, S] = {}
        for name, table in raw.items():
            if not re.match(NAME_PATTERN, name) or len(name) > MAX_NAME_LENGTH:
                allowed = f"a name is 1 to {MAX_NAME_LENGTH} letters, digits or _ . - and starts with a letter"
                self.problems.append(Problem(f"{where}.{name}", allowed))
                continue
            decoded = self.table(table, kind, f"{where}.{name}")
            if decoded is not None:
                found[name] = decoded
        return found


def load_config(file: Path) -> Config:
    """The checked configuration in `file`. Raises ConfigError with every problem found."""
    file = file.absolute()
    try:
        raw = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(file, [Problem("", f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(file, [Problem("", "is not UTF-8 text")]) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(file, [Problem("", f"is not valid TOML: {error}")]) from error
    reader = _Reader([])
    config = _decode(raw, file, reader)
    if config is None or reader.problems:
        raise ConfigError(file, reader.problems)
    problems = check(config)
    if problems:
        raise ConfigError(file, problems)
    return config


def _decode(raw: dict[str, Any], file: Path, reader: _Reader) -> Config | None:
    known = {*_PLAIN, *_SINGLES, *_GROUPS}
    for key in raw.keys() - known:
        reader.problems.append(Problem(key, f"unknown key; {_allowed(key, sorted(known))}"))
    fields: dict[str, Any] = {key: raw[key] for key in _PLAIN if key in raw}
    for key, kind in _SINGLES.items():
        if key in raw:
            fields[key] = reader.table(raw[key], kind, key)
    for key, kind in _GROUPS.items():
        fields[key] = reader.group(raw.get(key, {}), kind, key)
    if "data_dir" not in fields:
        reader.problems.append(Problem("data_dir", "is missing; it must name the directory that runnerd may write"))
    if reader.problems:
        return None
    base = file.parent
    data_dir = base / str(fields["data_dir"])
    fields["source"] = str(file)
    fields["data_dir"] = str(data_dir)
    fields["runtime_dir"] = str(base / str(fields.get("runtime_dir", _default_runtime_dir(data_dir))))
    fields["control_socket"] = str(base / str(fields.get("control_socket", data_dir / "control.sock")))
    config = reader.table({key: value for key, value in fields.items() if key in _PLAIN or key == "source"}, Config, "")
    if config is None:
        return None
    decoded = {key: value for key, value in fields.items() if key in _SINGLES or key in _GROUPS}
    return _with_absolute_paths(structs.replace(config, **decoded), base)


def _default_runtime_dir(data_dir: Path) -> Path:
    """Sockets live in short paths: the kernel takes 107 bytes, and a data directory may be deep."""
    return Path("/tmp") / f"runnerd-{hashlib.sha256(str(data_dir).encode()).hexdigest()[:12]}"  # noqa: S108  # created 0700, owner checked


def _with_absolute_paths(config: Config, base: Path) -> Config:
    wallets = {
        name: structs.replace(
            wallet,
            keystore=base / wallet.keystore,
            passphrase_file=base / wallet.passphrase_file if wallet.passphrase_file else None,
        )
        for name, wallet in config.wallets.items()
    }
    plugins = {
        name: structs.replace(
            plugin,
            path=base / plugin.path if plugin.path else None,
            sandbox=structs.replace(
                plugin.sandbox, readable_paths=tuple(base / path for path in plugin.sandbox.readable_paths)
            ),
        )
        for name, plugin in config.plugins.items()
    }
    return structs.replace(config, wallets=wallets, plugins=plugins)


def _path(kind: type, value: object) -> Path:
    """msgspec's way to ask for a type it does not know; Path is the only one in our tables."""
    if kind is Path and isinstance(value, str) and value and "\0" not in value:
        return Path(value)
    raise ValueError("Expected a path as text")


def _problem(error: msgspec.ValidationError, kind: type[Struct], where: str) -> Problem:
    match = _AT.match(str(error))
    text, path = (match["text"], match["path"] or "") if match else (str(error), "")
    key = where + path.replace("[...]", ".*")
    unknown = _UNKNOWN.search(text)
    if unknown:
        struct = _struct_at(kind, path)
        allowed = [field.name for field in structs.fields(struct)] if struct else []
        return Problem(f"{key}.{unknown['field']}".lstrip("."), f"unknown key; {_allowed(unknown['field'], allowed)}")
    return Problem(key.lstrip("."), text)


def _struct_at(kind: type[Struct], path: str) -> type[Struct] | None:
    """The struct that `path` (msgspec's `.a.b[...]`) leads to, to list what may stand there."""
    current: Any = kind
    for step in re.findall(r"\.(\w+)|(\[[^\]]*\])", path):
        if step[0]:
            fields = {field.name: field.type for field in structs.fields(current)} if _is_struct(current) else {}
            current = fields.get(step[0])
        else:
            arguments = [argument for argument in getattr(current, "__args__", ()) if _is_struct(argument)]
            current = arguments[-1] if arguments else None
    return current if _is_struct(current) else None


def _is_struct(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def _allowed(key: str, names: list[str]) -> str:
    close = difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}allowed: {', '.join(names)}"
