"""AWS KMS for tests: moto's server over HTTP, `python -m tests.support.kms_server`, started by `tests.support.kms`.

moto hashes a digest again, which KMS does not with MessageType=DIGEST: its method is replaced here. A path makes it
misbehave: `URL/throttled`, `URL/denied`, `URL/slow` and so on; see `MODES`. It ends when its stdin does.
"""

import base64
import json
import logging
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from moto.kms.utils import ECDSAPrivateKey
from moto.server import ThreadedMotoServer

SLOW_S = 60.0

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Answer = tuple[int, Mapping[str, object]]


def _foreign_signature() -> bytes:
    """Of another key and another digest."""
    return ec.generate_private_key(ec.SECP256K1()).sign(bytes(32), ec.ECDSA(Prehashed(hashes.SHA256())))


def _error(code: str, status: int = 400) -> Callable[[], Answer]:
    return lambda: (status, {"__type": code, "message": f"{code} of the test"})


MODES: Mapping[str, Callable[[], Answer]] = {
    "throttled": _error("ThrottlingException"),
    "denied": _error("AccessDeniedException"),
    "disabled": _error("DisabledException"),
    "expired": _error("ExpiredTokenException"),
    "broken": _error("KMSInternalException", 500),
    "unheard-of": _error("SomethingNewException"),
    "empty": lambda: (200, {}),
    "foreign": lambda: (200, {"Signature": base64.b64encode(_foreign_signature()).decode()}),
    "junk": lambda: (200, {"Signature": base64.b64encode(b"\x30\x03junk").decode()}),
}
"""What every Sign is answered with; GetPublicKey is answered as always, but in the modes that refuse everything."""
REFUSES_ALL = {"denied-all": "denied", "throttled-all": "throttled", "empty-all": "empty"}


def _sign_digest(self: ECDSAPrivateKey, message: bytes, signing_algorithm: str) -> bytes:
    """As KMS with MessageType=DIGEST; OpenSSL gives high s in half of the cases, as KMS does."""
    assert (len(message), signing_algorithm) == (32, "ECDSA_SHA_256")
    return self.private_key.sign(message, ec.ECDSA(Prehashed(hashes.SHA256())))


def _misbehaving(app: Wsgi) -> Wsgi:
    def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        mode = str(environ["PATH_INFO"]).strip("/")
        environ["PATH_INFO"] = "/"
        is_sign = str(environ.get("HTTP_X_AMZ_TARGET", "")).endswith(".Sign")
        name = REFUSES_ALL.get(mode, mode if is_sign else "")
        if is_sign and mode == "slow":
            time.sleep(SLOW_S)
        if name not in MODES:
            return app(environ, start)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        status, body = MODES[name]()
        start(f"{status} of the test", [("Content-Type", "application/x-amz-json-1.1")])
        return [json.dumps(body).encode()]

    return answer


def main() -> None:
    """Serve on a free port of loopback until stdin ends."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    ECDSAPrivateKey.sign = _sign_digest  # type: ignore[method-assign]
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    assert server._server is not None
    server._server.app = _misbehaving(cast("Wsgi", server._server.app))
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
