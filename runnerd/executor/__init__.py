"""From a Decision to one confirmed transaction: policy, batch, simulation, nonce, signature, broadcast, receipt."""
