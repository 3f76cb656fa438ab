"""`runnerd` on the command line: what it ends with when it is typed wrongly, and how it says so."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest
from click.testing import CliRunner

from runnerd import tasks
from runnerd.cli.daemon import close_loop, main
from runnerd.cli.exits import ExitCode
from runnerd.errors import RunExit
from tests.cli.running import invoke


@pytest.mark.parametrize(
    "args,says",
    [
        (["--confg", "x"], "no such option '--confg'"),
        (["--config"], "option '--config' requires an argument"),
        (["start"], "got unexpected extra argument (start)"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_64(args: list[str], says: str) -> None:
    """The shipped unit does not try again after it: a mistyped ExecStart= is not mended by the next start."""
    result = CliRunner().invoke(main, args)
    assert result.exit_code == ExitCode.USAGE
    assert result.stderr.startswith("runnerd: ")
    assert says in result.stderr.lower()
    assert result.stderr.count("\n") == 1


def test_problems_of_the_configuration_read_as_runnerctl_check_prints_them(tmp_path: Path) -> None:
    """Line by line the same, but for the program's name: who mends a file need not learn two forms."""
    file = tmp_path / "runnerd.toml"
    file.write_text('log_levle = "info"\n[http]\nport = "x"\n')
    started = CliRunner().invoke(main, ["--config", str(file)])
    checked = invoke("check", str(file))
    assert started.exit_code == checked.exit_code == ExitCode.CONFIG
    lines = started.stderr.splitlines()
    assert len(lines) == 3
    assert all(line.startswith(f"runnerd: {file}: ") for line in lines)
    assert [line.removeprefix("runnerd") for line in lines] == [
        line.removeprefix("runnerctl") for line in checked.stderr.splitlines()
    ]


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_are_no_errors(option: str) -> None:
    """Help names every exit code."""
    result = CliRunner().invoke(main, [option])
    assert result.exit_code == ExitCode.DONE
    assert option == "--version" or all(f"{code} " in result.stdout for code in RunExit)


def test_what_never_ends_keeps_no_process_from_its_exit(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`asyncio.run` would wait for it without limit. The loop is closed once it has ended."""
    monkeypatch.setattr(tasks, "END_DEADLINE_S", 0.01)
    release: list[asyncio.Event] = []

    async def never_end() -> None:
        release.append(asyncio.Event())
        while not release[0].is_set():
            with suppress(asyncio.CancelledError):
                await release[0].wait()

    async def serve() -> asyncio.Task[None]:
        stubborn = asyncio.get_running_loop().create_task(never_end(), name="service:stubborn")
        await asyncio.sleep(0)
        return stubborn

    runner = asyncio.Runner()
    stubborn = runner.run(serve())
    close_loop(runner)
    assert not runner.get_loop().is_closed()
    assert "task service:stubborn did not end within 0.01 s" in caplog.text
    release[0].set()
    close_loop(runner)
    assert stubborn.done()
    with pytest.raises(RuntimeError, match="closed"):
        runner.get_loop()
