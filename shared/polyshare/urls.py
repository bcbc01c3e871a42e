"""Where the functions are: one URL template with {function} in it."""

from __future__ import annotations


def function_url(template: str, function: str) -> str:
    """The URL of a function. In a host's name, which has no underscores, `run_job` is `run-job`."""
    scheme, _, rest = template.partition("://")
    host, slash, path = rest.partition("/")
    host = host.replace("{function}", function.replace("_", "-"))
    return f"{scheme}://{host}{slash}{path.replace('{function}', function)}"
