"""run_job: starts the jobs that have all they need."""

from polyshare.bootstrap import Ports
from polyshare.events import Event
from polyshare.http import Function
from polyshare.operations.attempts import start_ready


def ready(ports: Ports, event: Event) -> None:
    """Assets were registered or anchored: start their jobs, and their children's, if they may start."""
    start_ready(ports, event.assets)


function = Function("run_job", on_event=ready)
run_job = function.serve
