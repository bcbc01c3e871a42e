"""`python -m tests.bench.hash_tree PATH`: what `polyshare dataset add` does before it says a word to a server."""

import sys
from pathlib import Path

from polyshare.client.folder import hash_sources, manifest_of
from polyshare.client.progress import Silent

print(manifest_of(hash_sources(Path(sys.argv[1]), Silent())).content_root.hex())
