"""Puts the contracts on a new embedded chain: `python -m polyshare.stack.deploy DATA PORT`.

A process of its own, since only this needs web3, once; it prints the trust root.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from polyshare.errors import PolyshareError
from polyshare.ledger import node
from polyshare.ledger.deploy import deploy
from polyshare.ledger.keys import make_key
from polyshare.ledger.record import trust_root_document
from polyshare.ledger.rpc import Rpc


def main() -> None:
    data, port = Path(sys.argv[1]), int(sys.argv[2])
    folder = node.NodeFolder.of(data)
    try:
        owner, writer = make_key(folder.owner_key), make_key(folder.writer_key)
        with Rpc(node.url(port), timeout=30) as rpc:
            trust_root = deploy(rpc, owner, [writer.address], journal=folder.journal)
    except PolyshareError as error:
        sys.exit(error.message)
    print(json.dumps(trust_root_document(trust_root)))


if __name__ == "__main__":
    main()
