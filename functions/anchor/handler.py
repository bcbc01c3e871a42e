"""anchor: writes what is pending to the ledger. The only function that holds the ledger's key."""

from polyshare.bootstrap import Ports
from polyshare.events import Event
from polyshare.http import Function
from polyshare.operations.anchor import anchor as write_pending


def woken(ports: Ports, event: Event) -> None:
    """An event only wakes it; what is written is what the catalogue has pending."""
    write_pending(ports)


function = Function("anchor", on_event=woken, needs=["ledger_key_file"])
anchor = function.serve
