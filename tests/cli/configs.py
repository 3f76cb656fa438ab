"""A small configuration that is right, for the commands that read the whole of it."""

from pathlib import Path

VAULT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
PLUGIN = """
from workers.sdk import Noop, Plugin

class Quiet(Plugin):
    name = "quiet"

    async def decide(self, ctx):
        return Noop("quiet")
"""


def write_config(
    directory: Path,
    *,
    rpc: str = "http://127.0.0.1:1",
    vault: str = VAULT,
    extra: str = "",
    chain_id: int = 31337,
    chain_rpc_is_list: bool = False,
) -> Path:
    """`runnerd.toml` and the plugin it names, in `directory`; its keystore and passphrase need not exist."""
    (directory / "quiet.py").write_text(PLUGIN)
    for name in ("operator.json", "passphrase"):
        (directory / name).touch(mode=0o600)
    file = directory / "runnerd.toml"
    file.write_text(f"""
data_dir = "data"
runtime_dir = "run"
{extra}

[chains.local]
id = {chain_id}
rpc = {f'["{rpc}"]' if chain_rpc_is_list else f'"{rpc}"'}

[wallets.operator]
keystore = "operator.json"
passphrase_file = "passphrase"

[vaults.main]
chain = "local"
address = "{vault}"
wallet = "operator"
max_value_wei_per_day = 1000000000000000000

[vaults.main.reads.spot]
contract = "{VAULT}"
function = "spot() view returns (uint256)"

[vaults.main.actions.mint]
contract = "{VAULT}"
function = "mint(uint256 amount)"

[plugins.quiet]
vault = "main"
path = "quiet.py"
""")
    return file
