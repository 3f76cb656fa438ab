"""A running AWS KMS for tests, and keys in it. The server itself is `tests.support.kms_server`."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3

REGION = "eu-central-1"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIATESTRUNNERD00000",
    "AWS_SECRET_ACCESS_KEY": "hush/secret+of+the+test/0123456789abcdef",
    "AWS_SESSION_TOKEN": "hush-session-token-of-the-test-0123456789",
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""What a program needs to be let in; the server takes any credentials."""
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class KmsServer:
    """A running server. A path behind `url` makes it misbehave."""

    url: str

    def client(self) -> Any:
        """boto3's own client, for making keys."""
        return boto3.session.Session(
            ENVIRONMENT["AWS_ACCESS_KEY_ID"], ENVIRONMENT["AWS_SECRET_ACCESS_KEY"], region_name=REGION
        ).client("kms", endpoint_url=self.url)

    def create_key(self, spec: str = "ECC_SECG_P256K1", usage: str = "SIGN_VERIFY") -> str:
        """The ARN of a new key."""
        client = self.client()
        try:
            return str(client.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["Arn"])
        finally:
            client.close()


@contextmanager
def running_kms() -> Iterator[KmsServer]:
    """The server for the length of a block."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.support.kms_server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            url = process.stdout.readline().strip()
            assert url, "the server did not start"
            yield KmsServer(url)
        finally:
            process.stdin.close()
            process.wait(DEADLINE_S)
