"""register_model: models that the platform trains, and models brought along."""

from polyshare import api
from polyshare.http import Answer, Call, Function, Route, confirm_upload, registration, upload_urls
from polyshare.operations.models import register_imported
from polyshare.operations.models import register_model as register


def post(call: Call) -> Answer:
    """Register a model to be trained on a dataset in an image: its UUID and contract, at once."""
    return registration(register(call.ports, call.caller, call.body, call.idempotency_key))


def imported(call: Call) -> Answer:
    """Register a model that was trained elsewhere, which its record says."""
    return registration(register_imported(call.ports, call.caller, call.body, call.idempotency_key))


function = Function(
    "register_model",
    [
        Route("POST", "/", post, {201: api.Registered, 202: api.Uploading}, body=api.RegisterModel),
        Route("POST", "/imported", imported, {201: api.Registered, 202: api.Uploading}, body=api.RegisterImportedModel),
        Route("POST", "/{id}/urls", upload_urls, {200: api.UploadUrls}, body=api.AskUploadUrls),
        Route("POST", "/{id}/confirm", confirm_upload, {201: api.Registered}),
    ],
)
register_model = function.serve
