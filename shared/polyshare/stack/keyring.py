"""The stack's secrets: made once, each in a file that only its owner may read, never in an environment or a log."""

from __future__ import annotations

import datetime
import json
import secrets
from pathlib import Path

from polyshare.stack.layout import Layout, write_private

_WEED_KEYS = ("weed_write", "weed_read", "weed_filer_write", "weed_filer_read")


class Keyring:
    """Reads the secrets in a data folder; `make` makes those that are not there yet."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def make(self) -> None:
        for name in ("s3_access_key", "s3_secret_key", "event_token", "inbox_seed", *_WEED_KEYS):
            if not self.path(name).exists():
                write_private(self.path(name), secrets.token_hex(16 if name == "s3_access_key" else 32))
        if not self.path("issuer.jwk").exists():
            _make_issuer_key(self.path("issuer.jwk"))
        public = _public(json.loads(self.path("issuer.jwk").read_bytes()))
        write_private(self._layout.jwks, json.dumps({"keys": [public]}))
        if not self.path("weed.crt").exists():
            _make_certificate(self.path("weed.key"), self.path("weed.crt"))

    def path(self, name: str) -> Path:
        return self._layout.secrets / name

    def read(self, name: str) -> str:
        return self.path(name).read_text().strip()


def _make_issuer_key(path: Path) -> None:
    from joserfc.jwk import ECKey

    key = ECKey.generate_key("P-256", {"kid": secrets.token_hex(8), "use": "sig", "alg": "ES256"}, private=True)
    write_private(path, json.dumps(key.as_dict(private=True)))


def _public(jwk: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in jwk.items() if name != "d"}


def _make_certificate(key_path: Path, certificate_path: Path) -> None:
    """One self-signed certificate for all gRPC ends inside SeaweedFS: who has not its key can't speak to them."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "polyshare")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=36_500))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    write_private(key_path, key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    write_private(certificate_path, certificate.public_bytes(pem))
