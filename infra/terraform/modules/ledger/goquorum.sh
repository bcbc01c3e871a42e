# Validator number I of the network: its key is nodekey-I, its peers are the other Services.
set -eu
i=${HOSTNAME##*-}
mkdir -p /data/geth
cp /config/static-nodes.json /config/permissioned-nodes.json /data/ # read at each connection, so peers come and go
[ -d /data/geth/chaindata ] || geth --datadir /data --nousb init /config/genesis.json
exec geth --config /config/config.toml --datadir /data --nodekey /keys/nodekey-"$i" --networkid "$CHAIN_ID" \
  --permissioned --nodiscover --nat none --ipcdisable --nousb --syncmode full --gcmode archive --cache 128 \
  --mine --miner.threads 1 --miner.gasprice 0 --miner.gaslimit 20000000 --miner.gastarget 20000000 \
  --txpool.globalslots 50000 --txpool.accountslots 50000 \
  --http --http.addr 0.0.0.0 --http.port 8545 --http.vhosts '*' --http.api eth,net,web3,istanbul
