"""What the supervisor knows of an EVM chain: nodes (`rpc`, `head`, `reads`, `simulate`), words (`types`, `abi`,
`revert`), fees (`fees`) and the vault's batch call (`vault`, `erc7821`). Holds no key and takes no decision.

Whatever a node says is decoded at the border into the structs of `types`; every error is a `errors.ChainError`.
"""
