"""A configuration that is right, to be made wrong in one place at a time."""

from pathlib import Path

from runnerd.config.load import ConfigError, load_config
from runnerd.config.model import Config

VAULT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
MARKET = "0xe7f1725E7734CE288F8367e1Bb143E90bb3F0512"
GOOD = f"""
data_dir = "data"

[chains.local]
id = 31337
rpc = "http://127.0.0.1:8545"

[wallets.hot]
keystore = "keys/operator.json"
passphrase_file = "keys/passphrase"

[vaults.main]
chain = "local"
address = "{VAULT}"
wallet = "hot"
max_value_wei_per_day = 1000

[vaults.main.reads.spot]
contract = "{MARKET}"
function = "spot() view returns (uint256)"

[vaults.main.actions.mint]
contract = "{MARKET}"
function = "mint(uint256 strike, bool above, address[] to) payable"
max_value_wei = 10
limits.strike = {{ min = 1, max = 5 }}

[plugins.alpha]
vault = "main"
path = "plugins/alpha.py"
"""


class Place:
    """A directory with all files that the good configuration names."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "runnerd.toml"
        for name in ("keys/operator.json", "keys/passphrase", "plugins/alpha.py"):
            (directory / name).parent.mkdir(exist_ok=True)
            (directory / name).touch()

    def load(self, text: str = GOOD) -> Config:
        """The checked configuration."""
        self.file.write_text(text)
        return load_config(self.file)

    def problems(self, text: str | bytes) -> list[str]:
        """What is wrong with it, `key: text` each; without the directory's own name. Empty when nothing is."""
        self.file.write_bytes(text if isinstance(text, bytes) else text.encode())
        try:
            load_config(self.file)
        except ConfigError as error:
            lines = str(error).splitlines()
        else:
            return []
        assert all(line.startswith(f"{self.file}: ") for line in lines), "each line names the file"
        return [line.removeprefix(f"{self.file}: ").replace(str(self.directory), "DIR") for line in lines]


def changed(old: str, new: str) -> str:
    """The good configuration with one thing replaced."""
    assert GOOD.count(old) == 1, f"{old!r} is there {GOOD.count(old)} times"
    return GOOD.replace(old, new)


def plugin(lines: str) -> str:
    """The good configuration with more keys for its plugin."""
    return GOOD + lines + "\n"
