"""query_status: how far an asset is; waits for news with ?wait=seconds&since=cursor."""

import asyncio

from polyshare import api
from polyshare.http import Answer, Call, Function, Route, in_thread

LONGEST_WAIT = 30.0  # seconds
_LOOK = 0.2  # seconds between looks


async def get(call: Call) -> Answer:
    """The status now, or, with wait, as soon as it has moved past the cursor `since`."""
    from polyshare.operations.status import status  # the database's library, which is half of the start, comes after it

    wait = call.number("wait", 0, most=LONGEST_WAIT)
    since = call.whole("since", -1, most=2**53 - 1)
    end = asyncio.get_running_loop().time() + wait
    while True:
        found = await in_thread(lambda: status(call.ports, call.caller, call.path["ref"]))
        news = found.finished or found.cursor > since >= 0
        if news or call.ports.ending() or asyncio.get_running_loop().time() + _LOOK > end:
            return Answer(200, found)
        await asyncio.sleep(_LOOK)


function = Function(
    "query_status",
    [Route("GET", "/{ref}", get, {200: api.Status}, auth="anyone", query=("wait", "since"))],
)
query_status = function.serve
