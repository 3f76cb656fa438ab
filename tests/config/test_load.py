"""Reading the configuration: every error names the file, the key and what is allowed there, all of them at once."""

# ruff: noqa: E501  # a case a line: what is written, and what is answered

from pathlib import Path

import pytest

from protocol.zygote import Layer
from runnerd.config.load import ConfigError, load_config
from runnerd.config.plugins import RestartPolicy
from tests.config.toml_bench import GOOD, Place, changed, plugin


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_good_configuration_has_absolute_paths_and_the_documented_defaults(place: Place) -> None:
    """Relative to the file, wherever runnerd was started."""
    config = place.load()
    directory = place.directory
    assert config.source == place.file
    assert (config.data_dir, config.control_socket) == (directory / "data", directory / "data/control.sock")
    assert config.wallets["hot"].keystore == directory / "keys/operator.json"
    assert config.wallets["hot"].passphrase_file == directory / "keys/passphrase"
    assert config.plugins["alpha"].path == directory / "plugins/alpha.py"
    alpha = config.plugins["alpha"]
    assert (alpha.parallel, alpha.hello_deadline_s, alpha.decide_deadline_s, alpha.attempts) == (16, 10.0, 5.0, 3)
    assert alpha.restart == RestartPolicy(
        backoff_first_s=1.0, backoff_factor=2.0, backoff_max_s=60.0, jitter=0.2, stable_after_s=60.0,
        crash_window_s=600.0, crashes_to_quarantine=5, probe_every_s=900.0,
    )  # fmt: skip
    assert (config.http.host, config.log_level, config.database.dsn) == ("127.0.0.1", "info", None)


def test_paths_do_not_depend_on_the_working_directory(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative name of the file itself does."""
    place.load()
    monkeypatch.chdir(place.directory)
    assert load_config(Path("runnerd.toml")).data_dir == place.directory / "data"


def test_absolute_paths_stay_as_they_are(place: Place) -> None:
    """Also those of the sandbox."""
    text = 'control_socket = "/run/runnerd.sock"\nruntime_dir = "/run/runnerd"\n' + plugin(
        f'sandbox.readable_paths = ["/etc", "{place.directory}/keys", "keys"]'
    )
    config = place.load(text)
    assert (str(config.control_socket), str(config.runtime_dir)) == ("/run/runnerd.sock", "/run/runnerd")
    keys = place.directory / "keys"
    assert config.plugins["alpha"].sandbox.readable_paths == (Path("/etc"), keys, keys)


def test_what_the_host_table_requires_each_plugin_requires(place: Place) -> None:
    """Once each, whoever asks for it: so a reload sees which plugins a change is about."""
    required = plugin('sandbox = { require = ["seccomp_notify", "cgroup"] }')
    config = place.load(f'{required}\n[sandbox]\nrequire = ["cgroup", "namespaces"]\n')
    loaded = config.plugins["alpha"].sandbox.require
    assert loaded == (Layer.CGROUP, Layer.NAMESPACES, Layer.SECCOMP_NOTIFY)


def test_default_runtime_directory_is_short_and_its_own(place: Place, tmp_path: Path) -> None:
    """Two data directories never share one, however deep they are."""
    first = place.load().runtime_dir
    deep = changed('data_dir = "data"', f'data_dir = "{"deep/" * 30}data"\ncontrol_socket = "/run/r.sock"')
    second = place.load(deep).runtime_dir
    assert first != second
    assert len(str(second)) < 30


@pytest.mark.parametrize(
    "text, expected",
    [
        (plugin("paralel = 3"), "plugins.alpha.paralel: unknown key; did you mean parallel? allowed: role, vault, keeper, path, "),
        ("color = 1\n" + GOOD, "color: unknown key; allowed: address_lists, chains, consumers, control_socket, data_dir, database, "),
        ("[plugin.x]\n[webhooks]\n" + GOOD[1:], "data_dir: is missing; it must name the directory that runnerd may write"),
        (plugin('parallel = "3"'), "plugins.alpha.parallel: Expected `int`, got `str`"),
        (plugin("parallel = 1001"), "plugins.alpha.parallel: is 1001; allowed: 1 to 1000"),
        (plugin("parallel = true"), "plugins.alpha.parallel: Expected `int`, got `bool`"),
        (plugin("call_deadline_s = nan"), "plugins.alpha.call_deadline_s: is nan; allowed: more than 0, at most 31622400"),
        (plugin("call_deadline_s = inf"), "plugins.alpha.call_deadline_s: is inf; allowed: more than 0, at most 31622400"),
        (plugin("call_deadline_s = 0"), "plugins.alpha.call_deadline_s: is 0; allowed: more than 0, at most 31622400"),
        (plugin("sandbox = { max_files = 32769 }"), "plugins.alpha.sandbox.max_files: is 32769; allowed: 32 to 32768"),
        (
            plugin('sandbox = { require = ["namespaces", "cgroups"] }'),
            "plugins.alpha.sandbox.require[1]: Invalid enum value 'cgroups'; allowed: rlimits, namespaces, privileges, ",
        ),
        (changed("[vaults.main]\n", "[vaults.main]\nmax_actions = 17\n"), "vaults.main.max_actions: is 17; allowed: 1 to 16"),
        (plugin("enabled = 1"), "plugins.alpha.enabled: Expected `bool`, got `int`"),
        (changed('path = "plugins/alpha.py"', "path = 5"), "plugins.alpha.path: Expected a path as text"),
        (changed('"plugins/alpha.py"', '"a\\u0000b"'), "plugins.alpha.path: Expected a path as text"),
        (changed('rpc = "http://127.0.0.1:8545"', ""), "chains.local.rpc: is missing, and has no default"),
        (changed('data_dir = "data"', ""), "data_dir: is missing; it must name the directory that runnerd may write"),
        (changed('data_dir = "data"', "data_dir = 5"), "data_dir: Expected a path as text"),
        (changed('data_dir = "data"', 'data_dir = ""'), "data_dir: Expected a path as text"),
        ('log_level = "loud"\n' + GOOD, "log_level: Invalid enum value 'loud'; allowed: debug, info, warning, error"),
        ("[http]\nport = 65536\n" + GOOD.replace("data_dir", "[x]\ndata_dir"), "http.port: is 65536; allowed: 0 to 65535"),
        (changed("id = 31337", "id = 0"), "chains.local.id: is 0; allowed: 1 to 9223372036854775807"),
        (
            changed("[plugins.alpha]", '[plugins."al pha"]'),
            "plugins.al pha: a name is 1 to 64 letters, digits or _ . - (ASCII), the first one a letter or _",
        ),
        (
            changed("[plugins.alpha]", '[plugins."a/../b"]'),
            "plugins.a/../b: a name is 1 to 64 letters, digits or _ . - (ASCII), the first one a letter or _",
        ),
        (
            changed("[vaults.main.actions.mint]", '[vaults.main.actions."mi nt"]'),
            "vaults.main.actions.mi nt: a name is 1 to 64 letters, digits or _ . - (ASCII), the first one a letter or _",
        ),
        (
            plugin("restart = { backof_first_s = 1 }"),
            "plugins.alpha.restart.backof_first_s: unknown key; did you mean backoff_first_s? allowed: backoff_first_s",
        ),
        (
            changed("limits.strike = { min = 1, max = 5 }", "limits.strike = { min = 1, step = 5 }"),
            "vaults.main.actions.mint.limits.strike.step: unknown key; allowed: min, max, one_of",
        ),
        (
            changed("limits.strike = { min = 1, max = 5 }", "limits.strike = { min = 1.5 }"),
            "vaults.main.actions.mint.limits.strike.min: Expected `int`, got `float`; a fraction is never exact",
        ),
        (
            plugin("params = { threshold = 1.5 }"),
            "plugins.alpha.params.threshold: Expected `bool | int | str | object | array`, got `float`; a fraction is never exact here: write a whole number of a smaller unit, or text",
        ),
        (plugin("params = { day = 2026-01-01 }"), "plugins.alpha.params.day: Expected `bool | int | str | object"),
        (
            plugin('triggers = [{ kind = "moon" }]'),
            "plugins.alpha.triggers[0].kind: is 'moon'; allowed: cron, event, block, log, metric, webhook, custom",
        ),
        (
            plugin('triggers = [{ kind = "event", topic = "a" }, { kind = "cron", every = 5 }]'),
            "plugins.alpha.triggers[1].every: unknown key; allowed: kind, every_seconds",
        ),
        (
            plugin('triggers = [{ kind = "cron", every_seconds = 5, expression = "* * * * *" }]'),
            "plugins.alpha.triggers[0]: a cron trigger needs either every_seconds or expression",
        ),
        (
            plugin(f'triggers = [{{ kind = "event", topic = "{"ü" * 32}" }}]'),
            "plugins.alpha.triggers[0]: topic must be at most 63 bytes of UTF-8",
        ),
        (plugin("triggers = [{ every_seconds = 5 }]"), "plugins.alpha.triggers[0].kind: is missing; allowed: cron, event, block, log, "),
        (
            plugin('triggers = [{ kind = "cron", every_seconds = 5, misfire = "allways" }]'),
            "plugins.alpha.triggers[0].misfire: Invalid enum value 'allways'; allowed: skip, once, all",
        ),
        (
            plugin('triggers = [{ kind = "webhook", overlap = "drop" }]'),
            "plugins.alpha.triggers[0].overlap: Invalid enum value 'drop'; allowed: parallel, skip, queue, coalesce",
        ),
        (
            plugin('triggers = [{ kind = "event", topic = "a", mode = "table" }]'),
            "plugins.alpha.triggers[0].mode: Invalid enum value 'table'; allowed: notify, outbox",
        ),
        (plugin('role = "owner"'), "plugins.alpha.role: Invalid enum value 'owner'; allowed: operator, keeper"),
        (
            changed("[vaults.main]\n", '[vaults.main]\nadapter = "gnosis"\n'),
            "vaults.main.adapter: Invalid enum value 'gnosis'; allowed: erc7821, eip7702, safe, safe_multisig, roles",
        ),
        (
            changed("id = 31337", 'id = 31337\nfinality = "safe"'),
            "chains.local.finality: Invalid enum value 'safe'; allowed: depth, finalized",
        ),
        (
            changed("id = 31337", 'id = 31337\nprivate_method = "send"'),
            "chains.local.private_method: Invalid enum value 'send'; allowed: eth_sendRawTransaction, eth_sendPrivate",
        ),
        (
            plugin('[services.x]\nentry_point = "x"\nrestart = "yes"'),
            "services.x.restart: Invalid enum value 'yes'; allowed: on_failure, always, never, vital",
        ),
        (
            plugin('[[router.always]]\nplugin = "alpha"\ntriggers = ["clock"]'),
            "router.always[0].triggers[0]: Invalid enum value 'clock'; allowed: cron, event, block, log, metric, ",
        ),
        (plugin('[router.fallback]\nplugin = "alpha"\njobs = "x"'), "router.fallback.jobs: unknown key; did you mean job?"),
        (plugin('triggers = [{ kind = "event", topic = "" }]'), "plugins.alpha.triggers[0].topic: has length 0; allowed: 1 to 63"),
        (plugin("max_calls_per_s = 0"), "plugins.alpha.max_calls_per_s: is 0; allowed: 1 or more"),
        (
            plugin('triggers = [{ kind = "cron", every_seconds = 5, timezone = "Europe/Berlin" }]'),
            "plugins.alpha.triggers[0]: timezone is for an expression: slots of every_seconds are multiples since",
        ),
        (
            plugin('triggers = [{ kind = "metric", read = { name = "spot" }, change_bps = 5, hysteresis = 1 }]'),
            "plugins.alpha.triggers[0]: hysteresis is for above and below: change_bps is measured from the value",
        ),
        (GOOD.split("[plugins")[0].replace("data_dir", "plugins = 3\ndata_dir"), "plugins: must be tables, written as [plug"),
        (changed("[plugins.alpha]", "[plugins]\nalpha = 3\n[other]"), "plugins.alpha: Expected `object`, got `int`"),
    ],
)  # fmt: skip
def test_wrong_key_is_named_with_what_is_allowed(place: Place, text: str, expected: str) -> None:
    """One line for each thing that is wrong, by its dotted path."""
    assert any(problem.startswith(expected) for problem in place.problems(text)), place.problems(text)


def test_all_problems_are_told_at_once(place: Place) -> None:
    """Two in one table, others elsewhere: the operator mends them in one go."""
    text = plugin('paralel = 3\nqeue = 4\nparallel = "x"\nparams = { a = 1.5, b = 2.5 }\n[http]\nport = -1\nhots = "x"')
    text = text.replace('chain = "local"', "").replace("id = 31337", 'id = "1"')
    keys = [problem.split(":")[0] for problem in place.problems(text)]
    assert sorted(keys) == sorted([
        "http.port", "http.hots", "chains.local.id", "vaults.main.chain", "plugins.alpha.paralel",
        "plugins.alpha.qeue", "plugins.alpha.parallel", "plugins.alpha.params.a", "plugins.alpha.params.b",
    ])  # fmt: skip


def test_a_wrong_type_hides_no_contradiction_and_makes_none(place: Place) -> None:
    """What can be read is checked beside it; that a table which cannot is missing, is not told as well."""
    text = changed("id = 31337", 'id = "1"').replace('vault = "main"', 'vault = "main"\nparallel = "x"')
    text = 'log_level = "loud"\n' + text.replace("spot() view", "spot( view").replace(
        'wallet = "hot"', 'wallet = "cold"'
    )
    text += '[plugins.beta]\nvault = "mian"\npath = "plugins/alpha.py"\n[router.fallback]\nplugin = "alpha"\n'
    keys = [problem.split(":")[0] for problem in place.problems(text)]
    assert sorted(keys) == sorted([
        "log_level", "chains.local.id", "plugins.alpha.parallel", "vaults.main.reads.spot.function", "vaults.main.wallet",
        "plugins.beta.vault",
    ])  # fmt: skip


@pytest.mark.parametrize(
    "text, expected",
    [
        (GOOD + "x = = 3\n", "is not valid TOML: Invalid value (at line 31, column 5)"),
        (GOOD + "[plugins.alpha]\n", "is not valid TOML: Cannot declare ('plugins', 'alpha') twice (at line 31, column 15)"),
        (plugin('vault = "other"'), "is not valid TOML: Cannot overwrite a value (at line 31"),
        (b"\xff\xfe", "is not UTF-8 text"),
        ("a = " + "[" * 10_000 + "]" * 10_000, "is nested too deeply"),
    ],
    ids=["syntax", "duplicate table", "duplicate key", "binary", "deep"],
)  # fmt: skip
def test_file_that_is_no_toml_is_refused_with_the_line(place: Place, text: str | bytes, expected: str) -> None:
    """A name that stands twice is such a case: TOML itself refuses it."""
    (problem,) = place.problems(text)
    assert problem.startswith(expected)


@pytest.mark.parametrize(
    "name, expected", [("nowhere.toml", "cannot be read: No such file"), ("keys", "cannot be read: Is a directory")]
)
def test_file_that_cannot_be_read_is_refused(place: Place, name: str, expected: str) -> None:
    """With the system's reason."""
    with pytest.raises(ConfigError) as caught:
        load_config(place.directory / name)
    assert str(caught.value).startswith(f"{place.directory / name}: {expected}")


def test_large_numbers_and_nested_params_pass_exactly(place: Place) -> None:
    """uint256 in a limit, lists and one level of tables in params."""
    largest = (1 << 256) - 1
    text = (
        changed("max = 5", f"max = {largest}")
        + f"params = {{ big = {largest}, list = [1, true, 'x'], t = {{ a = [1] }} }}\n"
    )
    config = place.load(text)
    assert config.vaults["main"].actions["mint"].limits["strike"].max == largest
    assert config.plugins["alpha"].params == {"big": largest, "list": [1, True, "x"], "t": {"a": [1]}}
