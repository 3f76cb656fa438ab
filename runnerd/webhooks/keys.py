"""Keys of the HTTP API: made, kept in memory as they stand in the ledger, and compared with what a caller shows.

Only a digest of the secret is kept. Of a bearer key it is useless to who reads it. A signing key's digest is what
signatures are made with: who can read the ledger could sign. Therefore a key is of one kind, and never taken as the
other. All comparisons take the same time whether a name is known or not.
"""

import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any, Final, assert_never

from protocol.names import is_name
from runnerd.http.words import Bearer, Credential, GetCall, GetEvents, MakeCall, Signature

PREFIX: Final = "rk1"
"""So that scanners for leaked secrets can know one."""
SECRET_BYTES: Final = 32
WINDOW: Final = timedelta(minutes=5)
"""How far a signature's time may be from ours."""
_NOBODY: Final = bytes(32)


class KeyKind(StrEnum):
    """How its holder shows that he has it."""

    BEARER = "bearer"
    SIGNING = "signing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """One key: who holds it may make calls of `plugins`, and see the outcomes of all their calls."""

    name: str
    kind: KeyKind
    digest: bytes
    plugins: tuple[str, ...]
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_by: str | None = None

    @property
    def principal(self) -> str:
        """Who its calls are recorded as."""
        return f"key:{self.name}"

    def state(self, now: datetime) -> str:
        """`valid`, `expired` or `revoked`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "valid"


def make_secret(name: str) -> str:
    """A new secret, of 256 random bits, that says whose it is."""
    return f"{PREFIX}.{name}.{secrets.token_urlsafe(SECRET_BYTES)}"


def digest_of(secret: str) -> bytes:
    """What is kept of a secret."""
    return sha256(secret.encode()).digest()


def from_row(row: Mapping[str, Any]) -> ApiKey:
    """The key in a row of `api_keys`."""
    return ApiKey(
        name=row["name"],
        kind=KeyKind(row["kind"]),
        digest=bytes(row["digest"]),
        plugins=tuple(row["plugins"]),
        created_at=row["created_at"],
        created_by=row["created_by"],
        expires_at=row["expires_at"],
        revoked_at=row["revoked_at"],
        revoked_by=row["revoked_by"],
    )


def content_of(question: MakeCall | GetCall | GetEvents, at: int) -> bytes:
    """What a signature at `at` is made over: five lines, and the payload.

    All that decides what is done is in it, so what is signed for one plugin, job or key cannot be sent to another.
    """
    return "\n".join((str(at), *_lines_of(question))).encode()


def _lines_of(question: MakeCall | GetCall | GetEvents) -> tuple[str, str, str, str, str]:
    match question:
        case MakeCall():
            path = f"/v1/plugins/{question.plugin}/calls"
            return "POST", path, question.job, question.idempotency_key, question.payload
        case GetCall():
            return "GET", f"/v1/calls/{question.call_id}", "", "", ""
        case GetEvents():
            return "GET", "/v1/events", question.plugin or "", "", ""
        case _:
            assert_never(question)


def sign(secret: str, content: bytes) -> str:
    """A signature of the holder's: HMAC-SHA256 with the SHA-256 of the secret."""
    return hmac.new(digest_of(secret), content, sha256).hexdigest()


class KeyRing:
    """All keys by name. Changed by `key_commands` after the ledger has been."""

    def __init__(self, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        """With what stands in the ledger: `store.keys.every`."""
        self._keys = {key.name: key for key in map(from_row, rows)}

    def add(self, key: ApiKey) -> None:
        """It is taken from now on."""
        self._keys[key.name] = key

    def revoke(self, name: str, by: str, at: datetime) -> None:
        """It is worth nothing from now on."""
        key = self._keys[name]
        if key.revoked_at is None:
            self._keys[name] = replace(key, revoked_at=at, revoked_by=by)

    def find(self, name: str) -> ApiKey | None:
        """The key of this name, whatever its state."""
        return self._keys.get(name)

    def is_valid(self, key: ApiKey, now: datetime) -> bool:
        """Whether `key`, which was proven, is still worth something."""
        return self._keys.get(key.name) is key and key.state(now) == "valid"

    def every(self) -> list[ApiKey]:
        """In the order of their making."""
        return list(self._keys.values())

    def verify(self, question: MakeCall | GetCall | GetEvents, now: datetime) -> ApiKey | None:
        """The valid key that the question's credential proves; None without a reason, which only an attacker wants."""
        credential = question.credential
        kind, name = _claim(credential)
        key = self._keys.get(name)
        digest = key.digest if key is not None and key.kind is kind else _NOBODY
        if isinstance(credential, Bearer):
            is_proven = hmac.compare_digest(sha256(credential.token.encode()).digest(), digest)
        else:
            expected = hmac.new(digest, content_of(question, credential.at), sha256).hexdigest()
            is_near = abs(now.timestamp() - credential.at) <= WINDOW.total_seconds()
            is_proven = hmac.compare_digest(credential.digest, expected) and is_near
        # `_NOBODY` is no secret: what it "proves" counts only for a key that is there, and of this kind.
        is_there = key is not None and key.kind is kind and key.state(now) == "valid"
        return key if is_proven and is_there else None


def _claim(credential: Credential) -> tuple[KeyKind, str]:
    if isinstance(credential, Signature):
        return KeyKind.SIGNING, credential.key
    _, _, rest = credential.token.partition(".")
    name, _, _ = rest.rpartition(".")
    return KeyKind.BEARER, name if is_name(name) else ""
