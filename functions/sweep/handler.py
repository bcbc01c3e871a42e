"""sweep: takes on what a crash or a lost event left behind."""

from polyshare.bootstrap import Ports
from polyshare.events import SWEEP_DUE, Event
from polyshare.http import Function
from polyshare.operations.sweep import send_again
from polyshare.operations.sweep import sweep as run


def due(ports: Ports, event: Event) -> None:
    """The timer says so, and sweeping twice is harmless; any other event is a broker's dead letter."""
    if event.type == SWEEP_DUE:
        run(ports)
    else:
        send_again(ports, event)


function = Function("sweep", on_event=due, timed=True)
sweep = function.serve
