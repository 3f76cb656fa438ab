"""What sets keepers apart at run time: their keys are nobody's operator, whatever the configuration calls them.

Two checks that need more than the file: the addresses that the signers have, and what vaults say of a keeper's wallet.
Whether an action is permissionless is tried before each signature, see `executor.stranger`.
"""

from collections.abc import Mapping

from runnerd.chain.address import parse_address
from runnerd.chain.rpc import NodeBatches
from runnerd.chain.vaults.rights import RightsQuestion
from runnerd.config.load import ConfigError
from runnerd.config.model import Config, VaultConfig
from runnerd.config.roles import NEVER_MIXED, same_keys
from runnerd.wallets.signer import Signer


def refuse_shared_keys(config: Config, signers: Mapping[str, Signer]) -> None:
    """Once the keys are open, before anything is signed. Raises ConfigError when one key would serve both roles."""
    problems = list(same_keys(config, {name: signer.address for name, signer in signers.items()}))
    if problems:
        raise ConfigError(config.source, problems)


async def find_right(node: NodeBatches, keeper: str, vaults: Mapping[str, VaultConfig]) -> str | None:
    """Why the wallet at address `keeper` must not be a keeper: its right at one of `vaults`. None if none is found.

    Raises ChainError when the node does not say.
    """
    for name, vault in vaults.items():
        contracts = [parse_address(at) for at in (vault.address, vault.roles_modifier) if at is not None]
        if keeper in contracts:
            return f"our wallet {keeper} is the vault {name} itself: {NEVER_MIXED}"
        question = RightsQuestion(account=keeper, contracts=contracts)
        right = question.find(await node.batch(question.requests()))
        if right is not None:
            return f"our wallet {keeper} has a right at vault {name} ({right}): {NEVER_MIXED}"
    return None
