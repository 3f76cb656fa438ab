"""A signer can only sign what the executor made an intent of: who may call one, and with what, by the syntax tree.

Beside tests/test_arrows.py, and for the same reason: a rule that only a reviewer holds does not hold.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import pytest

from runnerd.wallets.extension import ExtensionSigner
from runnerd.wallets.keystore import KeystoreSigner
from runnerd.wallets.kms import KmsSigner
from runnerd.wallets.remote import RemoteSigner
from runnerd.wallets.signer import Signer
from runnerd.wallets.transaction import SignedTransaction, UnsignedTransaction

REPOSITORY = Path(__file__).resolve().parents[1]
SIGNERS = (KeystoreSigner, KmsSigner, RemoteSigner, ExtensionSigner)
SIGNS = re.compile(r"(?!_)(\w+_)?sign(_\w+)?")
"""What is private to a class is not a way in from elsewhere; what it calls is looked at all the same."""
MAY_CALL = {
    "runnerd/executor/attempt.py": {"sign"},  # the one caller of a Signer
    "runnerd/cli/safe.py": {"sign_safe_tx"},  # an owner's key, in a process of runnerctl: see OwnerKey
    "runnerd/wallets/extension.py": {"sign"},  # a third party's, whose answer is checked byte for byte
    "runnerd/wallets/keystore.py": {"sign_digest", "sign_recoverable"},  # the key in its own module
    "runnerd/wallets/kms_client.py": {"sign"},  # boto3's
}
"""File → the methods with "sign" in their name that are used in it. Anything else is a way around the executor."""
BY_NAME = {"getattr", "attrgetter", "methodcaller"}
MAY_BUILD = "runnerd/executor/"
"""Where an UnsignedTransaction may be made."""
PUBLIC = {"address", "sign", "close"}


def find_problems(path: str, tree: ast.AST) -> Iterator[str]:
    """Uses of a signing method, by call, by reference or by name, and transactions built in a wrong place."""
    allowed = MAY_CALL.get(path, set())
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) if SIGNS.fullmatch(name) and name not in allowed:
                yield f"{path}:{node.lineno} uses {name}"
            case ast.Call(func=ast.Name(id=reader) | ast.Attribute(attr=reader), args=args) if reader in BY_NAME:
                names = [arg.value for arg in args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
                yield from (f"{path}:{node.lineno} names {name}" for name in names if SIGNS.fullmatch(name))
            case ast.Call(func=ast.Name(id="UnsignedTransaction")) if not path.startswith(MAY_BUILD):
                yield f"{path}:{node.lineno} builds a transaction"
            case _:
                pass


def sources() -> Iterator[tuple[str, ast.AST]]:
    for file in sorted((REPOSITORY / "runnerd").rglob("*.py")):
        yield file.relative_to(REPOSITORY).as_posix(), ast.parse(file.read_text("utf-8"))


def test_only_the_executors_attempt_asks_a_signer() -> None:
    """`runnerd/executor/attempt.py`, whose bytes are stored before anybody sees them; and each permission is used."""
    trees = dict(sources())
    assert [problem for path, tree in trees.items() for problem in find_problems(path, tree)] == []
    for path, names in MAY_CALL.items():
        used = {node.attr for node in ast.walk(trees[path]) if isinstance(node, ast.Attribute)}
        assert names <= used, path


@pytest.mark.parametrize(
    "path, text, problem",
    [
        ("runnerd/commands/commands.py", "await signer.sign(transaction)", "uses sign"),
        ("runnerd/executor/lane.py", "self.signer.sign(x)", "uses sign"),
        ("runnerd/executor/lane.py", "later = self.signer.sign", "uses sign"),
        ("runnerd/commands/commands.py", "getattr(signer, 'sign')(x)", "names sign"),
        ("runnerd/commands/commands.py", "operator.methodcaller('sign', x)(signer)", "names sign"),
        ("runnerd/executor/safe.py", "owner.sign_safe_tx(x)", "uses sign_safe_tx"),
        ("runnerd/executor/attempt.py", "signer._key.sign_digest(b'')", "uses sign_digest"),
        ("runnerd/wallets/kms.py", "self._client.sign(b'')", "uses sign"),
        ("runnerd/wallets/keystore.py", "self._key.sign_message(b'')", "uses sign_message"),
        ("runnerd/control/server.py", "UnsignedTransaction(chain_id=1)", "builds a transaction"),
    ],
)
def test_the_check_sees_a_way_around(path: str, text: str, problem: str) -> None:
    """Control: each of these is one."""
    assert [line.partition(" ")[2] for line in find_problems(path, ast.parse(text))] == [problem]


@pytest.mark.parametrize("signer", SIGNERS)
def test_a_signer_takes_a_transaction_and_nothing_else(signer: type) -> None:
    """No method for messages, digests, typed data or authorisations: three public names, one argument of one type."""
    public = {name for base in signer.__mro__[:-1] for name in vars(base) if not name.startswith("_")}
    assert public == PUBLIC
    for kind in (signer, Signer):
        hints = get_type_hints(kind.sign)  # type: ignore[attr-defined]
        assert hints == {"transaction": UnsignedTransaction, "return": SignedTransaction}


def test_every_signer_of_the_package_is_looked_at() -> None:
    """A class with a method `sign` is a signer."""
    found = {
        node.name
        for path, tree in sources()
        if path.startswith("runnerd/")
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(isinstance(part, ast.AsyncFunctionDef | ast.FunctionDef) and part.name == "sign" for part in node.body)
    }
    assert found == {"Signer", "RawSigner", *(signer.__name__ for signer in SIGNERS)}
