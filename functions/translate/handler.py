"""translate: a model to ONNX, on request and when a model was trained; and on what hardware translations conform."""

from polyshare import api
from polyshare.bootstrap import Ports
from polyshare.events import Event
from polyshare.http import Answer, Call, Function, Route
from polyshare.operations import conformance
from polyshare.operations.models import translate as register_translation
from polyshare.operations.models import translate_trained


def post(call: Call) -> Answer:
    """Translate a model; asked twice for the same, the same UUID is answered."""
    answer, is_new = register_translation(call.ports, call.caller, call.body)
    return Answer(201 if is_new else 200, answer)


def conform(call: Call) -> Answer:
    """Record that a translation, on some hardware, answers as its certificate says, or not; the same again is known."""
    answer, is_new = conformance.conform(call.ports, call.caller, call.path["ref"], call.body)
    return Answer(201 if is_new else 200, answer)


def conformances(call: Call) -> Answer:
    """On which hardware a translation, or the translations of a model, were found to conform; newest first."""
    cursor = call.query.get("cursor", "")
    return Answer(200, conformance.listing(call.ports, call.caller, call.path["ref"], cursor))


def trained(ports: Ports, event: Event) -> None:
    """Results are on the ledger: those of trained models are translated."""
    for asset in event.assets:
        translate_trained(ports, asset)


function = Function(
    "translate",
    [
        Route("POST", "/", post, {200: api.Registered, 201: api.Registered}, body=api.Translate),
        Route(
            "POST",
            "/{ref}/conformance",
            conform,
            {200: api.Conformance, 201: api.Conformance},
            body=api.Conform,
        ),
        Route("GET", "/{ref}/conformance", conformances, {200: api.Conformances}, auth="anyone", query=("cursor",)),
    ],
    on_event=trained,
)
translate = function.serve
