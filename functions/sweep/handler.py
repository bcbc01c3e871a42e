"""sweep: takes on what a crash or a lost event left behind."""

from polyshare.bootstrap import Ports
from polyshare.events import Event
from polyshare.http import Function
from polyshare.operations.sweep import sweep as run


def due(ports: Ports, event: Event) -> None:
    """The timer says so; sweeping twice is harmless."""
    run(ports)


function = Function("sweep", on_event=due)
sweep = function.serve
