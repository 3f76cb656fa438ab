"""`runnerctl check`: every problem at once, with file, key and what is allowed; a summary when there is none."""

import hashlib
import json
from pathlib import Path

from runnerd.cli.exits import ExitCode
from tests.cli.configs import VAULT, write_config
from tests.cli.running import invoke


def test_a_configuration_without_problems_is_summed_up(tmp_path: Path) -> None:
    """Chains, vaults with what is granted there, plugins: what was understood, so that one sees what was meant."""
    file = write_config(tmp_path)
    result = invoke("--config", str(file), "check")
    assert result.exit_code == ExitCode.DONE
    assert result.stdout.startswith(f"✓ {file} is fine\n")
    words = result.stdout.split()
    for shown in ("local", "31337", "http://127.0.0.1:1", "main", VAULT, "spot", "mint", "quiet", "enabled"):
        assert shown in words
    assert "1 ether" in result.stdout
    assert "embedded PostgreSQL" in result.stdout


def test_the_digest_of_each_plugins_code_is_shown(tmp_path: Path) -> None:
    """Ready to be written as `pin`; code that cannot be found here is said so, and is no problem of the file's."""
    file = write_config(tmp_path)
    digest = f"sha256:{hashlib.sha256((tmp_path / 'quiet.py').read_bytes()).hexdigest()}"
    table = '\n[plugins.absent]\nvault = "main"\nmodule = "absent.module"\n'
    file.write_text(file.read_text().replace("[plugins.quiet]", f'[plugins.quiet]\npin = "{digest}"') + table)
    result = invoke("--config", str(file), "check")
    assert result.exit_code == ExitCode.DONE
    assert f"{digest} (pinned)" in result.stdout
    assert "digest unknown: module absent.module is not installed" in result.stdout
    plugins = json.loads(invoke("--config", str(file), "check", "--json").stdout)["plugins"]
    assert plugins["quiet"]["digest"] == plugins["quiet"]["pin"] == digest
    assert plugins["absent"]["digest"] is None
    file.write_text(file.read_text().replace(digest, f"sha256:{'1' * 64}"))
    changed = invoke("--config", str(file), "check", "--json")
    assert changed.exit_code == ExitCode.CONFIG
    assert f"plugins.quiet.pin: its code is {digest}" in json.loads(changed.stdout)["problems"][0]


def test_the_file_can_be_given_as_the_argument(tmp_path: Path) -> None:
    """`runnerctl check FILE` before one copies it over the one in use."""
    assert invoke("check", str(write_config(tmp_path))).exit_code == ExitCode.DONE


def test_every_problem_is_a_line_with_file_key_and_what_is_allowed(tmp_path: Path) -> None:
    """All of them together, exit code 78, nothing on stdout."""
    file = write_config(tmp_path, extra="log_levle = 1")
    file.write_text(file.read_text().replace("max_value_wei_per_day", "max_value_per_day").replace("31337", '"x"'))
    result = invoke("--config", str(file), "check")
    assert result.exit_code == ExitCode.CONFIG
    assert not result.stdout
    lines = result.stderr.splitlines()
    assert all(line.startswith(f"runnerctl: {file}: ") for line in lines)
    for says in (
        "log_levle: unknown key; did you mean log_level?",
        "chains.local.id: ",
        "vaults.main.max_value_per_day",
    ):
        assert any(says in line for line in lines), (says, lines)


def test_what_a_node_url_holds_in_secret_is_not_shown(tmp_path: Path) -> None:
    """API keys stand in paths and queries; a summary is pasted into tickets."""
    result = invoke("--config", str(write_config(tmp_path, rpc="https://u:pw@node.example/v2/KEY?k=KEY")), "check")
    assert "https://***@node.example/***" in result.stdout
    assert "KEY" not in result.stdout
    assert "pw" not in result.stdout


def test_as_json_it_is_the_same_for_programs(tmp_path: Path) -> None:
    """What was understood, or the problems; the exit code does not change, and no secret is in it."""
    file = write_config(tmp_path, rpc="https://u:pw@node.example/v2/KEY?k=KEY")
    fine = invoke("--config", str(file), "check", "--json")
    shown = json.loads(fine.stdout)
    assert (fine.exit_code, shown["problems"]) == (ExitCode.DONE, [])
    assert shown["vaults"]["main"]["address"] == VAULT
    assert shown["plugins"]["quiet"]["enabled"] is True
    assert "KEY" not in fine.stdout
    assert "pw" not in fine.stdout
    file.write_text(file.read_text() + "\n[nonsense]\n")
    wrong = invoke("--config", str(file), "check", "--json")
    assert wrong.exit_code == ExitCode.CONFIG
    (problem,) = json.loads(wrong.stdout)["problems"]
    assert problem.startswith(f"{file}: nonsense: unknown key")
