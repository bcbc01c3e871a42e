"""complete_job: what a job's fetch and publish steps ask and tell, with the job's own token."""

from polyshare import api
from polyshare.http import Answer, Call, Function, Route
from polyshare.operations import jobs
from polyshare.operations.results import complete as accept


def start(call: Call) -> Answer:
    """The job's document; marks it running."""
    return Answer(200, jobs.begin(call.ports, call.path["job"], call.token, call.body.attempt))


def inputs(call: Call) -> Answer:
    """Presigned GETs of the job's inputs."""
    return Answer(200, api.InputUrls(jobs.sign_inputs(call.ports, call.path["job"], call.token, call.body)))


def progress(call: Call) -> Answer:
    """Where the job is, and the end of its log."""
    jobs.progress(call.ports, call.path["job"], call.token, call.body)
    return Answer(204)


def outputs(call: Call) -> Answer:
    """Presigned PUTs for the parts of the job's outputs."""
    return Answer(200, api.UploadUrls(jobs.sign_outputs(call.ports, call.path["job"], call.token, call.body)))


def complete(call: Call) -> Answer:
    """What came of the job; accepted once, answered the same when told again."""
    accept(call.ports, call.path["job"], call.token, call.body)
    return Answer(204)


function = Function(
    "complete_job",
    [
        Route("POST", "/{job}/start", start, {200: api.JobDocument}, body=api.StartJob, auth="job"),
        Route("POST", "/{job}/inputs", inputs, {200: api.InputUrls}, body=api.AskInputUrls, auth="job"),
        Route("POST", "/{job}/progress", progress, {204: None}, body=api.JobProgress, auth="job"),
        Route("POST", "/{job}/outputs", outputs, {200: api.UploadUrls}, body=api.AskOutputUrls, auth="job"),
        Route("POST", "/{job}/complete", complete, {204: None}, body=api.CompleteJob, auth="job"),
    ],
)
complete_job = function.serve
