"""`[http]`: a certificate and its key, which fit, are found out before anything is started."""

import subprocess
from pathlib import Path

import pytest

from tests.config.toml_bench import GOOD, Place


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """With two pairs of certificate and key, and a key with a passphrase."""
    for name, more in (("a", ["-nodes"]), ("b", ["-nodes"]), ("locked", ["-passout", "pass:secret"])):
        files = ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.pem")]
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        command = ["openssl", "req", "-x509", *curve, *files, "-subj", "/CN=x", *more]
        subprocess.run(command, check=True, capture_output=True)
    (tmp_path / "text.pem").write_text("no certificate")
    return Place(tmp_path)


def test_a_pair_that_fits_is_taken_and_its_paths_are_absolute(place: Place) -> None:
    """Relative to the file."""
    config = place.load(f'{GOOD}[http]\ntls_cert = "a.pem"\ntls_key = "a.key"\n')
    assert (config.http.tls_cert, config.http.tls_key) == (place.directory / "a.pem", place.directory / "a.key")
    assert config.http.requests_per_s == 20


@pytest.mark.parametrize(
    "lines, problem",
    [
        ('tls_cert = "a.pem"', "http: needs both of tls_cert and tls_key"),
        ('tls_key = "a.key"', "http: needs both of tls_cert and tls_key"),
        ('tls_cert = "x.pem"\ntls_key = "a.key"', "http.tls_cert: no such file: DIR/x.pem"),
        ('tls_cert = "a.pem"\ntls_key = "b.key"', "http.tls_key: cannot be used with tls_cert: "),
        ('tls_cert = "text.pem"\ntls_key = "a.key"', "http.tls_key: cannot be used with tls_cert: "),
        ('tls_cert = "locked.pem"\ntls_key = "locked.key"', "http.tls_key: cannot be used with tls_cert: "),
        ("requests_per_s = 0", "http.requests_per_s: is 0; allowed: more than 0, at most 100000"),
    ],
)
def test_what_cannot_be_used_is_said_by_its_key(place: Place, lines: str, problem: str) -> None:
    """And nobody is asked for a passphrase on the terminal."""
    problems = place.problems(f"{GOOD}[http]\n{lines}\n")
    assert [line for line in problems if line.startswith(problem)], problems
