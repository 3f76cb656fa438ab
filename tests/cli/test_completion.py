"""Shell completion, in a real bash."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cli.running import DEADLINE_S, RUNNERCTL, invoke
from tests.support.fake_daemon import FakeDaemon


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script_of_its_own(shell: str) -> None:
    """It names the variable by which the shell asks."""
    result = invoke("completion", shell)
    assert result.exit_code == 0
    assert "_RUNNERCTL_COMPLETE" in result.stdout
    assert "runnerctl" in result.stdout


def complete(line: str) -> list[str]:
    """What bash offers when tab is pressed at the end of `line`, after the script was loaded."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash on this machine")
    words = line.split(" ")
    script = f"""
source <(runnerctl completion bash)
COMP_WORDS=({" ".join(f"'{word}'" for word in words)})
COMP_CWORD={len(words) - 1}
COMP_LINE='{line}'
function=$(complete -p runnerctl | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
$function runnerctl
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    path = f"{Path(RUNNERCTL[0]).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        capture_output=True, text=True, timeout=DEADLINE_S, check=False, env={"PATH": path, "LANG": "C.UTF-8"},
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.integration
def test_bash_completes_commands_and_options() -> None:
    """As soon as the script is loaded, daemon or not."""
    assert complete("runnerctl re") == ["reduce", "resume", "restart"]
    assert complete("runnerctl fire --pay") == ["--payload"]
    assert complete("runnerctl completion ") == ["bash", "zsh", "fish"]


@pytest.mark.integration
def test_bash_completes_plugins_and_vaults_of_the_running_daemon(busy: FakeDaemon) -> None:
    """The names that a person would otherwise look up with `status` first."""
    start = f"runnerctl --socket {busy.path}"
    assert complete(f"{start} why r") == ["range-maker"]
    assert complete(f"{start} runs --plugin fl") == ["flow-follower"]
    assert complete(f"{start} pause --vault ") == ["main", "spare"]


@pytest.mark.integration
def test_without_a_daemon_completion_of_names_is_silent(socket: Path) -> None:
    """A shell must not print errors between the keys that somebody types."""
    assert complete(f"runnerctl --socket {socket} why r") == []
