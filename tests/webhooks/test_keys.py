"""Keys of the HTTP API: who is let in, and who is not."""

import hmac
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest

from runnerd.http.words import Bearer, Credential, GetCall, GetEvents, MakeCall, Signature
from runnerd.webhooks.keys import PREFIX, ApiKey, KeyKind, KeyRing, content_of, digest_of, make_secret, sign

NOW = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
AT = int(NOW.timestamp())


def key(name: str = "shop", *, kind: KeyKind = KeyKind.BEARER, **changes: object) -> tuple[str, ApiKey]:
    """A secret and its key."""
    secret = make_secret(name)
    made = ApiKey(
        name=name, kind=kind, digest=digest_of(secret), plugins=("alpha",), created_at=NOW, created_by="uid:0"
    )
    return secret, replace(made, **changes)  # type: ignore[arg-type]


def ring(*keys: ApiKey) -> KeyRing:
    """With these keys."""
    made = KeyRing()
    for each in keys:
        made.add(each)
    return made


def call(credential: Credential, **changes: object) -> MakeCall:
    """A request."""
    values: dict[str, object] = {"plugin": "alpha", "payload": "{}", "idempotency_key": "k1", **changes}
    return MakeCall(credential=credential, **values)  # type: ignore[arg-type]


def signed(secret: str, question: MakeCall, at: int = AT, name: str = "shop") -> MakeCall:
    """The request with a good signature."""
    credential = Signature(key=name, at=at, digest=sign(secret, content_of(question, at)))
    return MakeCall(
        **{field: getattr(question, field) for field in question.__struct_fields__} | {"credential": credential}
    )


def test_a_secret_says_whose_it_is_and_has_256_bits() -> None:
    """And no two are the same."""
    one, other = make_secret("shop"), make_secret("shop")
    assert one.startswith(f"{PREFIX}.shop.")
    assert len(one.rpartition(".")[2]) == 43
    assert one != other


def test_who_has_the_secret_is_let_in() -> None:
    """For all three kinds of questions; names may have dots."""
    secret, made = key("shop.eu-1")
    keys = ring(made)
    token = Bearer(token=secret)
    for question in (call(token), GetCall(credential=token, call_id=1), GetEvents(credential=token)):
        assert keys.verify(question, NOW) == made


@pytest.mark.parametrize("token", ["", "rk1..", "rk1.shop.", "rk1.shop", "shop", "rk1.other.x", "." * 256, "\x00" * 64])
def test_who_has_not_is_not(token: str) -> None:
    """Whatever he says."""
    _, made = key()
    assert ring(made).verify(call(Bearer(token=token)), NOW) is None
    assert ring().verify(call(Bearer(token=token)), NOW) is None


def test_a_secret_with_one_character_changed_is_worth_nothing() -> None:
    """Neither is the secret of another key under this one's name, nor the digest itself."""
    secret, made = key()
    other_secret, other = key("other")
    keys = ring(made, other)
    changed = secret[:-1] + ("A" if secret[-1] != "A" else "B")
    swapped = f"{PREFIX}.shop.{other_secret.rpartition('.')[2]}"
    for token in (changed, swapped, made.digest.hex(), secret.upper()):
        assert keys.verify(call(Bearer(token=token)), NOW) is None
    assert keys.verify(call(Bearer(token=secret)), NOW) == made


def test_a_key_ends_when_it_expires_or_is_revoked() -> None:
    """To the microsecond; revoked is revoked, whatever comes."""
    secret, made = key(expires_at=NOW + timedelta(seconds=1))
    keys = ring(made)
    question = call(Bearer(token=secret))
    assert keys.verify(question, NOW) == made
    assert keys.verify(question, NOW + timedelta(seconds=1)) is None
    assert made.state(NOW + timedelta(seconds=1)) == "expired"
    keys.revoke("shop", "uid:1", NOW)
    assert keys.verify(question, NOW) is None
    keys.revoke("shop", "uid:2", NOW)
    revoked = keys.find("shop")
    assert revoked is not None
    assert (revoked.state(NOW), revoked.revoked_by) == ("revoked", "uid:1")


def test_a_good_signature_lets_in_and_its_window_is_five_minutes_either_way() -> None:
    """HMAC-SHA256 under the SHA-256 of the secret."""
    secret, made = key(kind=KeyKind.SIGNING)
    keys = ring(made)
    question = signed(secret, call(Bearer(token="")))
    for seconds, expected in ((0, made), (300, made), (-300, made), (301, None), (-301, None)):
        assert keys.verify(question, NOW + timedelta(seconds=seconds)) == expected


@pytest.mark.parametrize(
    "changes",
    [{"payload": "{ }"}, {"plugin": "beta"}, {"job": "settle"}, {"idempotency_key": "k2"}, {"idempotency_key": ""}],
)
def test_a_signature_is_for_one_request(changes: dict[str, str]) -> None:
    """What was overheard cannot be sent to another plugin or job, nor under another key, as a second call."""
    secret, made = key(kind=KeyKind.SIGNING)
    good = signed(secret, call(Bearer(token="")))
    assert ring(made).verify(good, NOW) == made
    assert ring(made).verify(call(good.credential, **changes), NOW) is None


def test_a_signature_of_another_time_or_key_is_worth_nothing() -> None:
    """The time is signed, too."""
    secret, made = key(kind=KeyKind.SIGNING)
    good = signed(secret, call(Bearer(token="")))
    assert isinstance(good.credential, Signature)
    moved = Signature(key="shop", at=AT + 1, digest=good.credential.digest)
    assert ring(made).verify(call(moved), NOW) is None
    other_secret, _ = key("other")
    assert ring(made).verify(signed(other_secret, call(Bearer(token=""))), NOW) is None


def test_keys_of_one_kind_are_not_taken_as_the_other() -> None:
    """Who reads the digest of a bearer key in the ledger could sign with it; a signing secret is never to travel."""
    bearer_secret, bearer = key("bearer")
    signing_secret, signing = key("signing", kind=KeyKind.SIGNING)
    keys = ring(bearer, signing)
    assert keys.verify(signed(bearer_secret, call(Bearer(token="")), name="bearer"), NOW) is None
    assert keys.verify(call(Bearer(token=signing_secret)), NOW) is None
    assert keys.verify(signed(signing_secret, call(Bearer(token="")), name="signing"), NOW) == signing


def test_a_signature_with_nobodys_digest_lets_nobody_in() -> None:
    """An unknown name is compared with zeros, and anybody can sign with those."""
    question = call(Bearer(token=""))
    content = content_of(question, AT)
    forged = Signature(key="nobody", at=AT, digest=hmac.new(bytes(32), content, sha256).hexdigest())
    assert ring().verify(call(forged), NOW) is None
    _, bearer = key("nobody")
    assert ring(bearer).verify(call(forged), NOW) is None


def test_a_signature_covers_what_it_names_and_no_line_can_be_moved_into_another() -> None:
    """Names and keys have no line break in them; the payload is last."""
    one = content_of(call(Bearer(token=""), payload="a\nb"), AT)
    assert one == f"{AT}\nPOST\n/v1/plugins/alpha/calls\ndecide\nk1\na\nb".encode()
    assert content_of(GetCall(credential=Bearer(token=""), call_id=7), AT) == f"{AT}\nGET\n/v1/calls/7\n\n\n".encode()
    assert content_of(GetEvents(credential=Bearer(token=""), plugin="alpha"), AT).endswith(b"/v1/events\nalpha\n\n")
