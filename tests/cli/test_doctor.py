"""`runnerctl doctor`: whether each part of a host that is not right is found, with what it costs and what to do."""

import json
import socket as sockets
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from protocol.zygote import Layer
from runnerd.chain.address import checksum_address
from runnerd.cli.doctor.chains import examine_chains
from runnerd.cli.doctor.database import examine_database
from runnerd.cli.doctor.finding import Finding, Mark
from runnerd.cli.doctor.places import examine_daemon, examine_places
from runnerd.cli.doctor.sandbox import examine_sandbox
from runnerd.cli.doctor.wallets import examine_wallet
from runnerd.cli.exits import ExitCode
from runnerd.config.load import load_config
from runnerd.config.model import Config, DatabaseConfig, WalletConfig
from runnerd.wallets.keystore import create_keystore
from runnerd.wallets.passphrase import Passphrase
from tests.cli.configs import write_config
from tests.cli.running import invoke
from tests.cli.samples import status
from tests.support.anvil import start_anvil
from tests.support.contracts import deploy
from tests.support.fake_daemon import FakeDaemon, fake_daemon

CHEAP = 1 << 4
"""scrypt's n: a key that nobody needs to guess."""


def marks(findings: list[Finding] | tuple[Finding, ...]) -> dict[str, Mark]:
    """Subject → mark."""
    return {finding.subject: finding.mark for finding in findings}


# --- sandbox ---------------------------------------------------------------------------------------------------------


@pytest.mark.integration
def test_the_real_probe_is_understood_and_names_every_layer() -> None:
    """The two sides share no code, only the form of the answer: this is what keeps it one form. A cgroup is made by
    runnerd, so nothing is to be tried for it."""
    assert set(marks(examine_sandbox())) == {layer.value for layer in Layer} - {Layer.CGROUP}


def probe_that_prints(text: str, code: int = 0) -> list[str]:
    """A program that stands in for the probe."""
    return [sys.executable, "-c", f"import sys; sys.stdout.write({text!r}); sys.exit({code})"]


def test_a_missing_layer_of_the_floor_is_bad_and_any_other_weak() -> None:
    """With what a plugin could do without it, and how to get it."""

    def layer(available: bool, is_required: bool) -> dict[str, object]:
        missing = {"cost": "it can read", "remedy": "newer kernel"}
        whole = {"available": available, "is_required": is_required, "detail": "ABI 0"}
        return whole | ({"cost": None, "remedy": None} if available else missing)

    text = json.dumps({"landlock": layer(False, True), "namespaces": layer(False, False), "seccomp": layer(True, True)})
    found = examine_sandbox(probe_that_prints(text))
    assert marks(found) == {"landlock": Mark.BAD, "namespaces": Mark.WEAK, "seccomp": Mark.GOOD}
    assert found[0].cost == "no plugin is started: without it it can read"
    assert (found[1].cost, found[1].remedy) == ("it can read", "newer kernel")


@pytest.mark.parametrize(
    "probe",
    [probe_that_prints("nonsense"), probe_that_prints("", 3), ["/nonexistent/probe"]],
    ids=["nonsense", "silence", "no program"],
)
def test_a_probe_that_fails_is_a_fault_and_not_a_traceback(probe: list[str]) -> None:
    """Not known is not the same as there."""
    assert marks(examine_sandbox(probe)) == {"probe": Mark.BAD}


# --- wallets ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Keys:
    """A keystore with its passphrase file, and the address."""

    config: WalletConfig
    keystore: Path
    address: str


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    keystore, secret = tmp_path / "operator.json", tmp_path / "passphrase"
    address = create_keystore(keystore, Passphrase(b"right"), kdf_work=CHEAP)
    secret.touch(0o600)
    secret.write_text("right\n")
    return Keys(WalletConfig(keystore=keystore, passphrase_file=secret), keystore, address)


def test_a_wallet_in_order_is_good_and_gives_its_address(keys: Keys) -> None:
    """The address comes out of the header; nothing was decrypted for it."""
    report = examine_wallet(keys.config, is_unlocking=False)
    assert marks(report.findings) == {"keystore": Mark.GOOD, "passphrase": Mark.GOOD}
    assert report.address == keys.address


def test_the_passphrase_is_used_only_when_asked_to(keys: Keys) -> None:
    """A wrong one stays unnoticed without --unlock: proof that nothing was decrypted. With it, it is a fault."""
    assert keys.config.passphrase_file is not None
    keys.config.passphrase_file.write_text("wrong\n")
    assert Mark.BAD not in marks(examine_wallet(keys.config, is_unlocking=False).findings).values()
    report = examine_wallet(keys.config, is_unlocking=True)
    assert marks(report.findings)["unlock"] is Mark.BAD
    assert "wrong" not in " ".join(finding.text for finding in report.findings)
    keys.config.passphrase_file.write_text("right\n")
    assert marks(examine_wallet(keys.config, is_unlocking=True).findings)["unlock"] is Mark.GOOD


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"[1]", b"\xff", b'{"version":3}', b"[" * 50_000, b'{"version":3,"crypto":{}} ' + b" " * 70_000],
)
def test_what_is_no_keystore_is_a_fault(keys: Keys, content: bytes) -> None:
    """Whatever stands in the file."""
    keys.keystore.write_bytes(content)
    report = examine_wallet(keys.config, is_unlocking=False)
    assert marks(report.findings)["keystore"] is Mark.BAD
    assert report.address is None


def test_an_address_in_the_header_is_taken_only_if_it_is_one(keys: Keys) -> None:
    """Some wallets leave it out; nothing is concluded from a wrong one."""
    document = json.loads(keys.keystore.read_text())
    for odd in (None, 5, "", "0x12", "zz" * 20, "aa " * 14):
        keys.keystore.write_text(json.dumps(document | {"address": odd}))
        report = examine_wallet(keys.config, is_unlocking=False)
        assert (marks(report.findings)["keystore"], report.address) == (Mark.GOOD, None)


def test_missing_files_name_the_command_that_makes_them(tmp_path: Path) -> None:
    """The first thing that an operator sees on a new host."""
    config = WalletConfig(keystore=tmp_path / "k.json", passphrase_file=tmp_path / "p")
    keystore, passphrase = examine_wallet(config, is_unlocking=False).findings
    assert keystore.remedy == f"make one with: runnerctl wallet new {tmp_path}/k.json"
    assert (keystore.mark, passphrase.mark) == (Mark.BAD, Mark.BAD)


@pytest.mark.parametrize(
    "file,mode,mark",
    [("keystore", 0o640, Mark.WEAK), ("passphrase", 0o640, Mark.WEAK), ("passphrase", 0o604, Mark.BAD)],
)
def test_loose_permissions_are_found_with_the_command_that_mends_them(
    keys: Keys, file: str, mode: int, mark: Mark
) -> None:
    """runnerd itself refuses a passphrase that everybody can read."""
    path = keys.config.keystore if file == "keystore" else keys.config.passphrase_file
    assert path is not None
    path.chmod(mode)
    finding = next(one for one in examine_wallet(keys.config, is_unlocking=False).findings if one.subject == file)
    assert finding.mark is mark
    assert finding.remedy.startswith(f"run: chmod 600 {path}")


def test_a_credential_is_looked_for_where_systemd_puts_it(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside of the unit it cannot be checked: that is a remark, not a fault."""
    config = WalletConfig(keystore=keys.config.keystore, passphrase_credential="passphrase")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    outside = examine_wallet(config, is_unlocking=False).findings[1]
    assert (outside.mark, outside.remedy) == (Mark.WEAK, "the unit needs LoadCredential=passphrase:/path/of/the/file")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert examine_wallet(config, is_unlocking=False).findings[1].mark is Mark.GOOD


def test_a_credential_is_not_tried_outside_of_the_unit(
    keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The documented installation is no fault: a remark, with the line that tries it for real. Inside it is tried."""
    config = WalletConfig(keystore=keys.config.keystore, passphrase_credential="passphrase")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    outside = examine_wallet(config, is_unlocking=True).findings[-1]
    assert (outside.subject, outside.mark) == ("unlock", Mark.WEAK)
    assert "systemd-run" in outside.remedy
    assert "LoadCredentialEncrypted=passphrase:" in outside.remedy
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert examine_wallet(config, is_unlocking=True).findings[-1].mark is Mark.GOOD


# --- database --------------------------------------------------------------------------------------------------------


def configured(tmp_path: Path, **database: str) -> Config:
    """A configuration whose `[database]` is `database`."""
    return Config(
        source=tmp_path / "runnerd.toml",
        data_dir=tmp_path / "data",
        runtime_dir=tmp_path / "run",
        control_socket=tmp_path / "data/control.sock",
        database=DatabaseConfig(**database),
    )


@pytest.mark.integration
def test_a_database_that_answers_is_good(tmp_path: Path, database: str) -> None:
    """With its version and place."""
    (finding,) = examine_database(configured(tmp_path, dsn=database))
    assert finding.mark is Mark.GOOD
    assert "PostgreSQL" in finding.text


def test_without_a_dsn_the_binaries_are_looked_for(tmp_path: Path) -> None:
    """Nothing is started, nothing is written."""
    (finding,) = examine_database(configured(tmp_path))
    assert finding.mark is Mark.GOOD
    assert finding.text.endswith("made at the first start")
    assert not (tmp_path / "data").exists()


def test_a_cluster_of_another_version_is_a_fault(tmp_path: Path) -> None:
    """An upgrade of the wheel would otherwise be found out at the next restart."""
    cluster = tmp_path / "data/postgres"
    cluster.mkdir(parents=True)
    for text in ("9\n", "nonsense\n"):
        (cluster / "PG_VERSION").write_text(text)
        assert marks(examine_database(configured(tmp_path))) == {"embedded": Mark.BAD}


@pytest.mark.parametrize("dsn", ["password=hunter2 nonsense", "postgresql://u:hunter2@127.0.0.1:1/x"])
def test_what_a_dsn_holds_in_secret_is_never_shown(tmp_path: Path, dsn: str) -> None:
    """Neither when it does not parse nor when nobody answers."""
    found = examine_database(configured(tmp_path, dsn=dsn, event_dsn=dsn))
    assert marks(found) == {"ledger": Mark.BAD, "events": Mark.BAD}
    assert not any("hunter2" in f"{one.text}{one.cost}{one.remedy}" for one in found)


# --- places and daemon -----------------------------------------------------------------------------------------------


def test_directories_that_do_not_exist_yet_are_made_later(tmp_path: Path) -> None:
    """Their parents can be written: that is all that can be known."""
    found = examine_places(configured(tmp_path))
    assert set(marks(found).values()) == {Mark.GOOD}
    assert "made at the first start" in found[0].text


def test_directories_that_others_can_write_are_a_fault(tmp_path: Path) -> None:
    """Whoever can write there could put a socket or a cluster in its place."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data").chmod(0o777)
    (tmp_path / "run").touch()
    found = examine_places(configured(tmp_path))
    assert marks(found)["data"] is Mark.BAD
    assert found[0].remedy == f"run: chmod go-w {tmp_path}/data"
    assert marks(found)["runtime"] is Mark.BAD


def test_a_runtime_directory_too_deep_for_a_socket_is_a_fault(tmp_path: Path) -> None:
    """The kernel takes 107 bytes; a worker's link would fail later, and silently."""
    config = configured(tmp_path / ("d" * 80))
    finding = examine_places(config)[2]
    assert finding.mark is Mark.BAD
    assert "the kernel takes 107" in finding.text


def test_a_daemon_that_does_not_run_is_no_fault(socket: Path) -> None:
    """Doctor is for the time before the first start as well."""
    assert marks(examine_daemon(socket)) == {"runnerd": Mark.WEAK}


def test_a_daemon_is_asked_how_it_is(socket: Path, busy: FakeDaemon) -> None:
    """Degraded is a remark here: `status` has the details."""
    (finding,) = examine_daemon(busy.path)
    assert (finding.mark, finding.remedy) == (Mark.WEAK, "see: runnerctl status")


def test_a_healthy_daemon_is_good_and_nonsense_is_a_fault(socket: Path) -> None:
    """Something else may listen on the socket."""
    with fake_daemon(socket, lambda _: status()):
        assert marks(examine_daemon(socket)) == {"runnerd": Mark.GOOD}
    with fake_daemon(socket, lambda _: b"nonsense\n"):
        assert marks(examine_daemon(socket)) == {"runnerd": Mark.BAD}


# --- chains ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Venue:
    """A node with a vault on it."""

    url: str
    vault: str
    operator: str
    stranger: str


@pytest.fixture(scope="module")
def venue() -> Iterator[Venue]:
    with start_anvil() as anvil:
        owner, operator, stranger = (checksum_address(address) for address in anvil.accounts[:3])
        yield Venue(anvil.url, deploy(anvil.url, "OperatorVault", owner, operator), operator, stranger)


@pytest.mark.integration
def test_chain_vault_and_gas_are_checked_on_a_real_node(tmp_path: Path, venue: Venue) -> None:
    """Right operator, wrong operator, no contract, no gas, wrong chain: each has its line."""
    ours = {"operator": venue.operator}
    good = load_config(write_config(tmp_path, rpc=venue.url, vault=venue.vault))
    assert marks(examine_chains(good, ours)["local"]) == {
        "node": Mark.GOOD,
        "vault main": Mark.GOOD,
        "gas of operator": Mark.GOOD,
        "quorum": Mark.WEAK,
    }
    (_, not_ours, _, _) = examine_chains(good, {"operator": venue.stranger})["local"]
    assert f"the owner must call setOperator({venue.stranger})" in not_ours.text
    assert not_ours.mark is Mark.BAD
    assert marks(examine_chains(good, {})["local"])["vault main"] is Mark.WEAK
    poor = {"operator": "0x" + "11" * 20}
    assert marks(examine_chains(good, poor)["local"])["gas of operator"] is Mark.BAD
    empty = load_config(write_config(tmp_path, rpc=venue.url, vault="0x" + "22" * 20))
    assert marks(examine_chains(empty, ours)["local"])["vault main"] is Mark.BAD
    other = load_config(write_config(tmp_path, rpc=venue.url, chain_id=1))
    (wrong,) = examine_chains(other, ours)["local"]
    assert (wrong.mark, wrong.cost) == (Mark.BAD, "nothing is signed")
    assert "serves chain 31337, the configuration says 1" in wrong.text


def test_a_node_that_does_not_answer_is_a_fault_without_its_secrets(tmp_path: Path) -> None:
    """The url is shown as far as it is no secret."""
    with sockets.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    config = load_config(write_config(tmp_path, rpc=f"http://u:pw@127.0.0.1:{port}/v2/KEY"))
    (finding,) = examine_chains(config, {})["local"]
    assert finding.mark is Mark.BAD
    assert "KEY" not in finding.text
    assert "pw" not in finding.text


@pytest.mark.integration
def test_each_node_is_asked_and_the_quorum_is_judged(tmp_path: Path, venue: Venue) -> None:
    """Two that are well make a quorum; one that is dead or of another chain is named, and leaves none."""
    url = venue.url
    good = load_config(write_config(tmp_path, rpc=f'{url}", "{url}/?b', vault=venue.vault, chain_rpc_is_list=True))
    found = examine_chains(good, {"operator": venue.operator})["local"]
    assert [(each.subject, each.mark) for each in found if each.subject in ("node", "quorum")] == [
        ("node", Mark.GOOD), ("node", Mark.GOOD), ("quorum", Mark.GOOD),
    ]  # fmt: skip
    with start_anvil(chain_id=5) as foreign:
        other = load_config(
            write_config(tmp_path, rpc=f'{url}", "{foreign.url}', vault=venue.vault, chain_rpc_is_list=True)
        )
        found = examine_chains(other, {"operator": venue.operator})["local"]
    by_mark = {(each.subject, each.mark): each for each in found}
    assert "serves chain 5" in by_mark["node", Mark.BAD].text
    assert by_mark["quorum", Mark.BAD].text == "2 nodes must agree, 1 of 2 are well and at the same height"
    assert ("vault main", Mark.GOOD) in by_mark


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.integration
def test_it_examines_everything_and_a_fault_makes_the_exit_code_1(short_dir: Path) -> None:
    """Section by section; the node of this configuration does not answer."""
    result = invoke("--config", str(write_config(short_dir)), "doctor", columns=100)
    assert result.exit_code == ExitCode.ATTENTION
    lines = result.stdout.splitlines()
    titles = [line for line in lines if not line.startswith(" ")]
    assert titles == ["sandbox", "configuration", "places", "database", "wallet operator", "chain local", "daemon"]
    assert any(line.startswith("  ✗ node") for line in lines)
    assert any(line.strip().startswith("do   check the node and chains.local.rpc") for line in lines)
    assert max(map(len, lines)) <= 100
    assert [path.name for path in short_dir.iterdir() if path.name in {"data", "run"}] == []


@pytest.mark.integration
def test_as_json_every_finding_has_a_mark_in_words(short_dir: Path) -> None:
    """The same findings and the same exit code, for a program."""
    result = invoke("--config", str(write_config(short_dir)), "doctor", "--json")
    sections = json.loads(result.stdout)["sections"]
    assert [section["title"] for section in sections][:4] == ["sandbox", "configuration", "places", "database"]
    marks = {finding["mark"] for section in sections for finding in section["findings"]}
    assert {"good"} <= marks <= {"good", "weak", "bad"}
    assert result.exit_code == (ExitCode.ATTENTION if "bad" in marks else ExitCode.DONE)


def test_a_configuration_with_problems_is_a_fault_line_by_line(tmp_path: Path) -> None:
    """The host is examined all the same."""
    file = tmp_path / "runnerd.toml"
    file.write_text('data_dir = "d"\nnonsense = 1\nlog_level = "loud"\n')
    result = invoke("--config", str(file), "doctor", columns=100)
    assert result.exit_code == ExitCode.ATTENTION
    assert "nonsense: unknown key" in result.stdout
    assert result.stdout.startswith("sandbox\n")
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.integration
def test_a_host_without_a_configuration_is_examined_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first thing that one types on a new host: which layers does it have?"""
    if Path("/etc/runnerd/runnerd.toml").exists():
        pytest.skip("this host has a configuration")
    monkeypatch.delenv("RUNNERD_CONFIG", raising=False)
    result = invoke("doctor")
    assert "landlock" in result.stdout
    assert "name yours with --config" in result.stdout
    expected = ExitCode.ATTENTION if "✗" in result.stdout else ExitCode.DONE
    assert result.exit_code == expected
