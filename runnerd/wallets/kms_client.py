"""The two calls to AWS KMS that a wallet needs, over boto3: in threads, with deadlines, with errors of our own.

Knows nothing of transactions. boto3 is the extra `runnerd[kms]`, imported only when a wallet needs it. Credentials are
found as every AWS program finds them, and stay in boto3. Used by `kms`.
"""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final, TypeVar

from runnerd.text import printable
from runnerd.wallets.errors import SignerMismatch, SignerRefused, SignerUnavailable, WalletError
from runnerd.wallets.redacted import Redacted

T = TypeVar("T")

CONNECT_TIMEOUT_S: Final = 2.0
READ_TIMEOUT_S: Final = 5.0
ATTEMPTS: Final = 2
"""Of boto3, within one call; the lane tries again later whatever is still not signed."""
DEADLINE_S: Final = 15.0
MAX_THREADS: Final = 4
"""A call whose deadline passed holds its thread for some seconds more; the next ones need another."""
MAX_SHOWN: Final = 300

_TRANSIENT_CODES: Final = frozenset({
    "ThrottlingException", "Throttling", "ThrottledException", "TooManyRequestsException", "RequestLimitExceeded",
    "RequestThrottled", "RequestThrottledException", "ServiceUnavailable", "ServiceUnavailableException",
    "InternalFailure", "InternalError", "RequestTimeout", "RequestTimeoutException", "KMSInternalException",
    "KeyUnavailableException", "DependencyTimeoutException",
})  # fmt: skip
_REMEDIES: Final[Mapping[str, str]] = {
    "AccessDeniedException": "allow kms:GetPublicKey and kms:Sign on this key to runnerd's credentials",
    "NotFoundException": "check kms_key_id, kms_region and the account of the credentials",
    "DisabledException": "enable the key in KMS",
    "KMSInvalidStateException": "look at the state of the key in KMS",
    "InvalidKeyUsageException": "create a key with usage SIGN_VERIFY and spec ECC_SECG_P256K1",
    "UnsupportedOperationException": "create a key with usage SIGN_VERIFY and spec ECC_SECG_P256K1",
    "InvalidArnException": "check kms_key_id",
    "UnrecognizedClientException": "check runnerd's AWS credentials",
    "InvalidClientTokenId": "check runnerd's AWS credentials",
    "MissingAuthenticationToken": "check runnerd's AWS credentials",
    "ExpiredTokenException": "renew runnerd's AWS credentials, or use a role that renews them",
    "InvalidSignatureException": "check runnerd's AWS secret key and the clock of this host",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KmsKey:
    """What KMS says of a key. `public_key` is a DER SubjectPublicKeyInfo."""

    arn: str
    public_key: bytes
    spec: str
    usage: str
    algorithms: tuple[str, ...]


class KmsClient(Redacted):
    """A connection to KMS in one region. Every method raises SignerUnavailable, SignerRefused or SignerMismatch."""

    __slots__ = ("_client", "_errors", "_name", "_threads")

    def __init__(self, client: Any, errors: ModuleType, name: str) -> None:
        self._client = client
        self._errors = errors
        self._name = name
        self._threads = ThreadPoolExecutor(MAX_THREADS, thread_name_prefix="kms")

    @classmethod
    async def open(cls, name: str, region: str | None, endpoint_url: str | None) -> "KmsClient":
        """With boto3's own search for credentials. `name` is what errors call the key."""
        if find_spec("boto3") is None:
            raise SignerRefused(name, "boto3 is not installed", "pip install 'runnerd[kms]'")
        # An optional dependency that takes 0.2 s and 30 MiB: paid by those whose wallet is in KMS.
        errors = await asyncio.to_thread(import_module, "botocore.exceptions")
        try:
            client = await asyncio.to_thread(_make_client, region, endpoint_url)
        except (errors.BotoCoreError, ValueError) as error:
            raise _explain(name, errors, error) from None
        return cls(client, errors, name)

    async def fetch_key(self, key_id: str) -> KmsKey:
        """The public key of `key_id`: an id, an ARN or an alias."""
        answer = await self._ask(lambda: self._client.get_public_key(KeyId=key_id))
        try:
            return KmsKey(
                arn=answer["KeyId"],
                public_key=answer["PublicKey"],
                spec=answer.get("KeySpec") or answer["CustomerMasterKeySpec"],
                usage=answer["KeyUsage"],
                algorithms=tuple(answer.get("SigningAlgorithms", ())),
            )
        except KeyError as error:
            raise SignerMismatch(self._name, f"its answer has no {error}") from None

    async def fetch_signature(self, arn: str, digest: bytes) -> bytes:
        """KMS's signature of a digest of 32 bytes, in DER. Another one each time."""
        answer = await self._ask(
            lambda: self._client.sign(KeyId=arn, Message=digest, MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256")
        )
        signature = answer.get("Signature")
        if not isinstance(signature, bytes):
            raise SignerMismatch(self._name, "its answer has no 'Signature'")
        return signature

    async def close(self) -> None:
        """Close the connections. A call under way ends within its own time limits."""
        self._client.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _ask(self, call: Callable[[], T]) -> T:
        try:
            async with asyncio.timeout(DEADLINE_S):
                return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except TimeoutError:
            raise SignerUnavailable(self._name, f"no answer within {DEADLINE_S:g} s") from None
        except (self._errors.BotoCoreError, self._errors.ClientError, ValueError, RuntimeError) as error:
            raise _explain(self._name, self._errors, error) from None


def _make_client(region: str | None, endpoint_url: str | None) -> Any:
    config = import_module("botocore.config").Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=MAX_THREADS,
        user_agent_appid="runnerd",
    )
    # A session of its own: boto3's default one is shared and not made for threads.
    session = import_module("boto3.session").Session(region_name=region)
    return session.client("kms", endpoint_url=endpoint_url, config=config)


def _explain(name: str, errors: ModuleType, error: Exception) -> WalletError:
    """Which of our errors it is. Order counts: boto3's classes are children of each other."""
    text = printable(" ".join(str(error).split()))[:MAX_SHOWN]
    if isinstance(error, errors.ClientError):
        return _explain_refusal(name, error, text)
    match error:
        case errors.NoCredentialsError() | errors.PartialCredentialsError():
            remedy = "give runnerd's unit an instance role, or a credentials file in AWS_SHARED_CREDENTIALS_FILE"
            return SignerRefused(name, text, remedy)
        case errors.NoRegionError():
            return SignerRefused(name, text, "set kms_region")
        case (
            errors.ConnectionError() | errors.HTTPClientError() | errors.CredentialRetrievalError()
            | errors.MetadataRetrievalError() | errors.IncompleteReadError()
        ):  # fmt: skip
            return SignerUnavailable(name, text)
        case _:
            return SignerRefused(name, text, "check kms_key_id, kms_region and kms_endpoint_url")


def _explain_refusal(name: str, error: Any, text: str) -> WalletError:
    """KMS has answered, with an error."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _TRANSIENT_CODES or status >= 500 or status == 429:
        return SignerUnavailable(name, text)
    return SignerRefused(name, text, _REMEDIES.get(code, "check kms_key_id, kms_region and runnerd's AWS credentials"))
