"""Keys and signatures: `signer` is the seam, `keystore` the one place where a private key lives, `passphrase` opens it.

Imported by the supervisor only. Nothing here talks to a node or knows what a transaction is for.
"""
