#!/usr/bin/env python3
"""A training program as others write them for SageMaker: started as `train`, it knows nothing of this platform.

Hyper-parameter `mode` (a string, as all are) makes it misbehave.
"""

import glob
import json
import os
import socket
import sys
import time

PREFIX = "/opt/ml"


def probe() -> dict:
    """What can be reached from here that should not be."""
    targets = json.loads(os.environ.get("SM_HP_TARGETS", "[]"))
    reached = []
    for host, port in targets:
        try:
            socket.create_connection((host, port), 1).close()
            reached.append(f"{host}:{port}")
        except OSError:
            pass
    try:
        socket.getaddrinfo("kubernetes.default.svc", 443)
        reached.append("dns")
    except OSError:
        pass
    written = []
    for path in ("/x", "/etc/x", "/usr/x", PREFIX + "/input/data/train/x", PREFIX + "/input/config/x"):
        try:
            open(path, "w").close()
            written.append(path)
        except OSError:
            pass
    with open("/proc/self/status") as file:
        status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    return {
        "reached": reached,
        "written": written,
        "uid": os.getuid(),
        "capabilities": status["CapEff"],
        "no_new_privs": status["NoNewPrivs"],
        "seccomp": status["Seccomp"],
        "secrets": glob.glob("/var/run/secrets/**", recursive=True) + glob.glob("/run/polyshare/**", recursive=True),
        "job": os.path.exists("/job"),
        "opt_ml": sorted(os.listdir(PREFIX)),
        "environ": sorted(os.environ),
    }


def main() -> None:
    assert sys.argv[1:] == ["train"], sys.argv
    with open(PREFIX + "/input/config/hyperparameters.json") as file:
        parameters = json.load(file)
    assert all(isinstance(value, str) for value in parameters.values()), "SageMaker's are strings"
    mode, seconds = parameters.get("mode", ""), float(parameters.get("seconds", "0"))
    print("mode", mode, "on", os.environ["SM_CURRENT_HOST"], flush=True)
    if mode == "root" and os.getuid() != 0:
        sys.exit("this image must run as root")
    if mode == "fail":
        with open(PREFIX + "/output/failure", "w") as file:
            file.write("the labels are all the same")
        sys.exit(2)
    if mode == "memory":
        data = []
        while True:
            data.append(bytearray(16 << 20))
    end = time.time() + seconds
    while time.time() < end:
        print("epoch at", int(time.time()), flush=True)
        time.sleep(1)
    rows = 0
    for path in glob.glob(os.environ["SM_CHANNEL_TRAIN"] + "/*"):
        with open(path) as file:
            rows += len(file.readlines())
    model = {"rows": rows, "depth": int(parameters.get("depth", "1")), "hps": json.loads(os.environ["SM_HPS"])}
    with open(os.path.join(os.environ["SM_MODEL_DIR"], "model.json"), "w") as file:
        json.dump(model, file, sort_keys=True)
    if mode == "probe":
        with open(os.path.join(os.environ["SM_MODEL_DIR"], "probe.json"), "w") as file:
            json.dump(probe(), file)
    with open(PREFIX + "/output/metrics.json", "w") as file:
        json.dump({"accuracy": 0.5}, file)


main()
