"""register_dataset: datasets over HTTP, and from files dropped in the inbox bucket."""

from typing import Any

from polyshare import api
from polyshare.bootstrap import Ports
from polyshare.errors import Invalid
from polyshare.events import Event
from polyshare.http import Answer, Call, Function, Route, confirm_upload, registration, upload_urls
from polyshare.notifications import folder_of, handshake
from polyshare.operations.access import organisation_of
from polyshare.operations.inbox import look, prefix_of
from polyshare.operations.models import register_dataset as register


def post(call: Call) -> Answer:
    """Register a dataset: answers with what is to be uploaded, or registered when all of it is there."""
    return registration(register(call.ports, call.caller, call.body, call.idempotency_key))


def inbox(call: Call) -> Answer:
    """The organisation's key to the inbox bucket."""
    organisation = organisation_of(call.caller, call.body.organisation)
    return Answer(200, call.ports.inbox_credentials(organisation))


def notified(call: Call) -> Answer:
    """Take a store's own notification that the inbox changed, where it comes as no CloudEvent."""
    if not isinstance(call.body, dict | list):
        raise Invalid("a notification is a JSON object, or a list of them")
    answer = handshake(call.body)
    if answer is not None:
        return Answer(200, api.Subscribed(**answer))
    look(call.ports, folder_of("", call.body))
    return Answer(204)


def dropped(ports: Ports, event: Event) -> None:
    """Something changed in the inbox; a hint, so handling it twice is harmless."""
    look(ports, prefix_of(event))


function = Function(
    "register_dataset",
    [
        Route("POST", "/", post, {201: api.Registered, 202: api.Uploading}, body=api.RegisterDataset),
        Route("POST", "/inbox", inbox, {200: api.InboxCredentials}, body=api.AskInboxCredentials),
        Route("POST", "/notifications", notified, {200: api.Subscribed, 204: None}, body=Any, auth="platform"),
        Route("POST", "/{id}/urls", upload_urls, {200: api.UploadUrls}, body=api.AskUploadUrls),
        Route("POST", "/{id}/confirm", confirm_upload, {201: api.Registered}),
    ],
    on_event=dropped,
)
register_dataset = function.serve
