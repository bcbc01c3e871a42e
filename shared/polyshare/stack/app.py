"""All functions in one process, each mounted below its name as functions-framework makes it; and the issuer."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import RedirectResponse
from starlette.routing import BaseRoute, Match, Mount, Route
from starlette.types import Scope

FUNCTIONS = (
    "register_dataset",
    "register_model",
    "query_status",
    "fetch_asset",
    "translate",
    "govern",
    "anchor",
    "prove",
    "run_job",
    "complete_job",
    "sweep",
    "catalogue",
    "mlaas",
)


def create() -> Starlette:
    """The ASGI application that `uvicorn --factory` runs; its settings come from the environment."""
    from functions_framework.aio import create_asgi_app

    import functions
    from polyshare.settings import Settings
    from polyshare.stack.issuer import issuer_routes
    from polyshare.stack.layout import Layout
    from polyshare.stack.notifications import notification_routes

    folder = Path(next(iter(functions.__path__)))
    settings = Settings.read(os.environ)
    make: Callable[[str, str, str], Starlette] = create_asgi_app
    apps = {name: make(name, str(folder / name / "handler.py"), "http") for name in FUNCTIONS}
    routes: list[BaseRoute] = [_Named(f"/{name}", app=app) for name, app in apps.items()]
    routes += issuer_routes(Layout(Path(settings.data)))
    routes += notification_routes(settings)
    routes.append(Route("/", lambda request: RedirectResponse("/catalogue")))
    routes.append(Mount("", app=apps["mlaas"]))  # where its clients expect it; last, so that it hides no function
    return Starlette(routes=routes)


class _Named(Mount):
    """A mount that also answers at its very name: what the URL template gives ends without a slash, and a sender of
    events takes Starlette's redirect there for a failure."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["path"] != self.path:
            return super().matches(scope)
        path = scope["path"] + "/"
        match, child = super().matches({**scope, "path": path})
        return match, {**child, "path": path}
