"""translate: a model to ONNX, on request and when a model was trained."""

from polyshare import api
from polyshare.bootstrap import Ports
from polyshare.events import Event
from polyshare.http import Answer, Call, Function, Route
from polyshare.operations.models import translate as register_translation
from polyshare.operations.models import translate_trained


def post(call: Call) -> Answer:
    """Translate a model; asked twice for the same, the same UUID is answered."""
    answer, is_new = register_translation(call.ports, call.caller, call.body)
    return Answer(201 if is_new else 200, answer)


def trained(ports: Ports, event: Event) -> None:
    """Results are on the ledger: those of trained models are translated."""
    for asset in event.assets:
        translate_trained(ports, asset)


function = Function(
    "translate",
    [Route("POST", "/", post, {200: api.Registered, 201: api.Registered}, body=api.Translate)],
    on_event=trained,
)
translate = function.serve
