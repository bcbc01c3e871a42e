# The ledger's contracts. Forge and the compiler come with `make setup`; nothing here needs the network.
FORGE := node_modules/.bin/forge

contracts: .make/node  ## compile the contracts; write what is derived from them (ABI and bytecode, vectors, gas)
	$(BIN)/python contracts/tools/derive.py
	FOUNDRY_PROFILE=quick WRITE_VECTORS=true $(FORGE) test --match-contract VectorsTest
	$(MAKE) gas

gas: .make/node  ## measure the gas of whole transactions; write the snapshot and its table in docs/gas.md
	FOUNDRY_PROFILE=quick $(FORGE) test --isolate --match-contract GasTest
	$(BIN)/python contracts/tools/gas_table.py

test-contracts: .make/node  ## the contracts' tests with 10,000 runs of each fuzz test and invariant
	FOUNDRY_PROFILE=test $(MAKE) test-contracts-now

test-contracts-quick: .make/node
	FOUNDRY_PROFILE=quick $(MAKE) test-contracts-now

# The tests run on the committed bytecode, so first it must be what the sources compile to.
test-contracts-now:
	$(BIN)/python contracts/tools/derive.py --check
	$(FORGE) test --no-match-contract GasTest
	FORGE_SNAPSHOT_CHECK=true $(FORGE) test --isolate --match-contract GasTest
	$(BIN)/python contracts/tools/gas_table.py --check

.PHONY: contracts gas test-contracts test-contracts-quick test-contracts-now
