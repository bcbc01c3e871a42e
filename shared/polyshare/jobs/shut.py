"""The first container of a run's pod: waits until the network is shut, then tells what machine this is.

A pod may be open for its first moments, until its NetworkPolicy is in force (kubernetes.io: Network Policies, "Pod
lifecycle"); the run's own container starts when this one has ended well.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

from polyshare.jobs.environment import machine_class

PATIENCE = 60.0  # seconds
_PROBE = 1.0  # seconds that a connection may take
_IN_A_ROW = 3


def open_to(address: tuple[str, int]) -> bool:
    """Whether a connection can be made."""
    try:
        socket.create_connection(address, _PROBE).close()
    except OSError:
        return False
    return True


def wait(address: tuple[str, int], patience: float = PATIENCE) -> bool:
    """Wait until connections fail, some in a row; False if they did not in time."""
    until = time.monotonic() + patience
    failed = 0
    while failed < _IN_A_ROW:
        failed = 0 if open_to(address) else failed + 1
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def main() -> None:
    """Probe the API server, which every pod can reach that is not shut off."""
    address = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
    if not wait(address):
        sys.exit(
            f"the network of this pod is still open after {PATIENCE:.0f} s: does the cluster enforce NetworkPolicy?"
        )
    print(json.dumps(machine_class(int(sys.argv[1]))))


if __name__ == "__main__":
    main()
