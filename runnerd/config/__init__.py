"""The configuration: one TOML file, decoded into frozen structs, checked as a whole before anything starts."""

from runnerd.config.load import ConfigError, load_config
from runnerd.config.model import (
    ActionGrant,
    ArgumentLimit,
    ChainConfig,
    Config,
    DatabaseConfig,
    HttpConfig,
    PluginConfig,
    ReadGrant,
    RestartPolicy,
    SandboxConfig,
    VaultConfig,
    WalletConfig,
)
from runnerd.config.problem import Problem

__all__ = [
    "ActionGrant",
    "ArgumentLimit",
    "ChainConfig",
    "Config",
    "ConfigError",
    "DatabaseConfig",
    "HttpConfig",
    "PluginConfig",
    "Problem",
    "ReadGrant",
    "RestartPolicy",
    "SandboxConfig",
    "VaultConfig",
    "WalletConfig",
    "load_config",
]
