"""The ledger: records and their contracts, the writer's side, the reader's side, and the embedded chain.

Light (no web3): record, gas, read, rpc, fake, node. The writer's: chain, deploy, keys.
"""
