# Validator number I of the network: its key is nodekey-I, its peers are the other Services.
set -eu
i=${HOSTNAME##*-}
exec besu --data-path=/data --genesis-file=/config/genesis.json --node-private-key-file=/keys/nodekey-"$i" \
  --network-id="$CHAIN_ID" --sync-mode=FULL --data-storage-format=FOREST --min-gas-price=0 --discovery-enabled=false \
  --Xdns-enabled=true --Xdns-update-enabled=true --static-nodes-file=/config/static-nodes.json \
  --permissions-nodes-config-file-enabled --permissions-nodes-config-file=/config/permissions.toml \
  --p2p-port=30303 --rpc-http-enabled --rpc-http-host=0.0.0.0 --rpc-http-port=8545 --host-allowlist='*' \
  --rpc-http-api=ETH,NET,WEB3,QBFT
