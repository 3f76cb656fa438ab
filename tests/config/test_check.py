"""What several keys, and the files they name, must satisfy together."""

# ruff: noqa: E501  # a case a line: what is written, and what is answered

from pathlib import Path

import pytest

from runnerd.supervisor.spawning import spawn_request
from tests.config.toml_bench import GOOD, MARKET, VAULT, Place, changed, plugin


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def limit(table: str) -> str:
    """The good configuration with other limits of its action."""
    return changed("limits.strike = { min = 1, max = 5 }", table)


def wallet(lines: str, *, keystore: str = 'keystore = "keys/operator.json"') -> str:
    """The good configuration with more keys for its wallet, or without its keystore."""
    return changed('keystore = "keys/operator.json"', f"{keystore}\n{lines}")


def kms(lines: str = "", *, key: str = "alias/k") -> str:
    """The good configuration with its wallet in KMS."""
    return wallet(f'kms_key_id = "{key}"\n{lines}', keystore="").replace('passphrase_file = "keys/passphrase"', "")


def remote(lines: str = "", *, url: str = "https://signer.example", address: str = f'address = "{VAULT}"') -> str:
    """The good configuration with its wallet at a remote signer."""
    text = wallet(f'signer_url = "{url}"\n{address}\n{lines}', keystore="")
    return text.replace('passphrase_file = "keys/passphrase"', "")


LISTS = f'[address_lists]\nfriends = ["{MARKET}"]\nnobody = []\n'


def adapter(kind: str, **keys: str) -> str:
    """The good configuration with a vault of this kind."""
    lines = "".join(f'{key} = "{value}"\n' for key, value in {"adapter": kind, **keys}.items())
    return changed("[vaults.main]\n", f"[vaults.main]\n{lines}")


def nodes(rpc: str) -> str:
    """The good configuration with other nodes."""
    return changed('rpc = "http://127.0.0.1:8545"', f"rpc = {rpc}")


ACTION = "vaults.main.actions.mint"


@pytest.mark.parametrize(
    "text, expected",
    [
        # names
        (changed('vault = "main"', 'vault = "mian"'), "plugins.alpha.vault: there is no [vaults.mian]; there are: main"),
        (changed('chain = "local"', 'chain = "x"'), "vaults.main.chain: there is no [chains.x]; there are: local"),
        (changed('wallet = "hot"', 'wallet = "x"'), "vaults.main.wallet: there is no [wallets.x]; there are: hot"),
        (
            GOOD.replace("[chains.local]", "[chains.two]\nid = 31337\nrpc = 'http://x'\n[chains.local]"),
            "chains.local.id: is the id of chains.two too",
        ),
        (
            changed("[vaults.main]\n", f'[vaults.two]\nchain = "local"\nwallet = "hot"\naddress = "{VAULT.lower()}"\n[vaults.main]\n'),
            "vaults.main.address: is the address of vaults.two too",
        ),
        # routes
        (GOOD + '[router]\nalways = [{ plugin = "audit" }]\n', "router.always[0].plugin: there is no [plugins.audit]; there are: alpha"),
        (
            GOOD + '[router]\nalways = [{ plugin = "alpha", job = "a" }, { plugin = "alpha", job = "a", topics = ["x"] }]\n',
            "router.always[1]: job 'a' of alpha is in `always` already",
        ),
        (
            GOOD + '[[router.always]]\nplugin = "alpha"\ntriggers = ["block"]\ntopics = ["x"]\n',
            'router.always[0].topics: only events have topics, and triggers does not name "event"',
        ),
        (GOOD + '[router.fallback]\nplugin = "catch"\n', "router.fallback.plugin: there is no [plugins.catch]"),
        (GOOD + "[router.layers]\nparallel = 0\n", "router.layers.parallel: "),
        (GOOD + "[router.layers]\nqueue = 1\n", "router.layers.queue: "),
        (GOOD + "[plugins.alpha.jobs.settle]\nparallel = 17\n", "plugins.alpha.jobs.settle.parallel: is above parallel = 16 of the plugin"),
        (GOOD + "[plugins.alpha.jobs.settle]\ndecide_deadline_s = 6.0\n", "plugins.alpha.jobs.settle.decide_deadline_s: is above decide_deadline_s = 5.0"),
        # database
        (GOOD + '\n[database]\ndsn = "postgresql://u:hunter2@[h"\n', "database.dsn: is not a connection string: write postgresql://"),
        (GOOD + '\n[database]\nevent_dsn = "hunter2"\n', "database.event_dsn: is not a connection string"),
        # wallets
        (
            changed('passphrase_file = "keys/passphrase"', ""),
            "wallets.hot: needs exactly one of passphrase_file and passphrase_credential",
        ),
        (
            changed("[vaults.main]\n", '[wallets.two]\nkeystore = "keys/operator.json"\npassphrase_credential = "c"\n[vaults.main]\n'),
            "wallets.two.keystore: is the keystore of wallets.hot too",
        ),
        (wallet('kms_key_id = "alias/k"'), "wallets.hot: needs exactly one of keystore, kms_key_id, signer_url, signer_entry_point; it has keystore, kms_key_id"),
        (wallet("", keystore=""), "wallets.hot: needs exactly one of keystore, kms_key_id, signer_url, signer_entry_point; it has none"),
        (
            wallet(f'address = "{VAULT}"'),
            "wallets.hot.address: goes with kms_key_id, this wallet has keystore; allowed with it: passphrase_credential, passphrase_file",
        ),
        (wallet('kms_key_id = "alias/k"', keystore=""), "wallets.hot.passphrase_file: goes with keystore, this wallet has kms_key_id"),
        (kms('signer_token_file = "keys/passphrase"'), "wallets.hot.signer_token_file: goes with signer_url, this wallet has kms_key_id"),
        (kms(key="arn:aws:s3:eu-central-1:1:key/k"), "wallets.hot.kms_key_id: is no ARN of a KMS key"),
        (kms("kms_region = 'us-east-1'", key="arn:aws:kms:eu-central-1:1:key/k"), "wallets.hot.kms_region: is not the region in kms_key_id, eu-central-1"),
        (kms("kms_region = 'no region'"), "wallets.hot.kms_region: "),
        (kms("kms_endpoint_url = 'ftp://hunter2'"), "wallets.hot.kms_endpoint_url: is not a url that can be used: write http://HOST"),
        (kms('[wallets.two]\nkms_key_id = "alias/k"'), "wallets.two.kms_key_id: is the key of wallets.hot too"),
        (remote(address=""), "wallets.hot.address: is missing; with signer_url it must name what the signer signs for"),
        (remote(address=f"address = '{VAULT[:-1]}4'"), "wallets.hot.address: "),
        (remote(url="ipc:///run/signer"), "wallets.hot.signer_url: is not a url that can be used"),
        (remote(url="https://me:hunter2@signer"), "wallets.hot.signer_url: holds credentials: use the key that is meant for them"),
        (remote("signer_token_file = 'keys/none'"), "wallets.hot.signer_token_file: no such file: DIR/keys/none"),
        (
            remote("signer_token_file = 'keys/passphrase'\nsigner_token_credential = 'c'"),
            "wallets.hot: needs at most one of signer_token_file and signer_token_credential",
        ),
        (remote("signer_token_credential = 'c'", url="http://signer:9000"), "wallets.hot.signer_url: would carry the token in the clear"),
        (remote("signer_ca_file = 'keys/passphrase'", url="http://127.0.0.1:9000"), "wallets.hot.signer_ca_file: is of no use with http://"),
        (
            remote(f"[wallets.two]\nsigner_url = 'http://other'\naddress = '{VAULT.lower()}'"),
            "wallets.two.address: is the address of wallets.hot too",
        ),
        (changed("keys/operator.json", "keys/none"), "wallets.hot.keystore: no such file: DIR/keys/none"),
        (changed("keys/passphrase", "keys/none"), "wallets.hot.passphrase_file: no such file: DIR/keys/none"),
        # chains
        (changed("http://127", "ftp://127"), "chains.local.rpc: scheme or host is missing or not supported; allowed: http://"),
        (changed("http://127.0.0.1:8545", "http://u:hunter2@[x"), "chains.local.rpc: the url does not parse"),
        (nodes('["http://a", "ftp://b"]'), "chains.local.rpc[1]: scheme or host is missing"),
        (nodes('["http://u:hunter2@a", "http://b", "http://u:hunter2@a"]'), "chains.local.rpc[2]: is chains.local.rpc[0] too"),
        (nodes('["http://a", "http://b"]\nquorum = 3'), "chains.local.quorum: is 3, and rpc names 2 nodes"),
        (nodes('"http://a"\nquorum = 2'), "chains.local.quorum: is 2, and rpc names 1 nodes"),
        (nodes('"http://a"\nprivate_method = "eth_sendRawTransaction"'), "chains.local.private_method: needs private_rpc"),
        (nodes('"http://a"\nprivate_rpc = "x"'), "chains.local.private_rpc: scheme or host is missing"),
        (nodes('["http://b", "http://a"]\nprivate_rpc = "http://a"'), "chains.local.private_rpc: is chains.local.rpc[1] too: what is sent there is public"),
        (changed("id = 31337", "id = 1\nmax_fee_per_gas_wei = 5"), "chains.local.min_priority_fee_wei: is above max_fee_per_gas_wei"),
        # addresses
        (changed(VAULT, VAULT[:-1] + "4"), "vaults.main.address: "),
        (changed(VAULT, "0x" + "0" * 40), "vaults.main.address: is the zero address"),
        (changed("[vaults.main]\n", f'[vaults.main]\nexpect_tokens = ["0x{"0" * 40}"]\n'), "vaults.main.expect_tokens: is the zero address"),
        # adapters
        (adapter("safe"), 'vaults.main.multisend: is missing: adapter = "safe" needs multisend'),
        (adapter("eip7702"), 'vaults.main.delegate: is missing: adapter = "eip7702" needs delegate'),
        (adapter("roles", multisend=MARKET), "vaults.main.role_key: is missing: adapter = \"roles\" needs multisend, roles_modifier, role_key"),
        (adapter("erc7821", multisend=MARKET), 'vaults.main.multisend: is not for adapter = "erc7821"; it is for: safe, safe_multisig, roles'),
        (adapter("eip7702", delegate=MARKET, intent_registry=MARKET), 'vaults.main.intent_registry: is not for adapter = "eip7702"'),
        (adapter("safe", multisend=MARKET).replace(MARKET, VAULT), "vaults.main.actions.mint.contract: is the vault itself"),
        (adapter("safe", multisend="0x" + "0" * 40), "vaults.main.multisend: is the zero address"),
        (changed(f'contract = "{MARKET}"\nfunction = "mint', 'contract = "0x' + "0" * 40 + '"\nfunction = "mint'),
         f"{ACTION}.contract: is the zero address"),
        (changed(f'contract = "{MARKET}"\nfunction = "spot', f'contract = "{MARKET.swapcase().replace("X", "x")}"\nfunction = "spot'),
         "vaults.main.reads.spot.contract: "),
        # fragments
        (changed("mint(uint256 strike,", "mint(uint256 strike"), f"{ACTION}.function: in 'mint("),
        (changed("uint256 strike", "uint257 strike"), f"{ACTION}.function: "),
        (changed("bool above", "bool"), f"{ACTION}.function: in 'mint(uint256 strike, bool, address[] to) payable': input 2 has no name"),
        (changed("to) payable", "to) view returns (bool)"), f"{ACTION}.function: is a view; an action changes something"),
        (changed("to) payable", "to)"), f"{ACTION}.max_value_wei: the function is not payable"),
        (changed("max_value_wei = 10\n", "max_value_wei = 1001\n"), f"{ACTION}.max_value_wei: is above max_value_wei_per_day = 1000"),
        (changed("max_value_wei = 10\n", 'errors = ["Broken("]\n'), f"{ACTION}.errors: "),
        (changed("spot() view returns (uint256)", "spot() returns (uint256)"), "vaults.main.reads.spot.function: must be a view"),
        (changed("spot() view returns (uint256)", "spot() view"), "vaults.main.reads.spot.function: returns nothing"),
        # limits
        (limit("limits.strick = { min = 1 }"), f"{ACTION}.limits.strick: mint has no such argument; it has: strike, above, to"),
        (limit("limits.strike = { min = 7, max = 5 }"), f"{ACTION}.limits.strike: min = 7 is above max = 5"),
        (limit("limits.above = { min = 1 }"), f"{ACTION}.limits.above: min and max are for integers, above is bool; use one_of"),
        (limit("limits.to = { max = 1 }"), f"{ACTION}.limits.to: min and max are for integers, to is address[]"),
        (limit("limits.strike = { min = -1 }"), f"{ACTION}.limits.strike.min: argument strike: -1 does not fit uint256"),
        (limit(f"limits.strike = {{ max = {1 << 256} }}"), f"{ACTION}.limits.strike.max: argument strike: {1 << 256} does not fit"),
        (limit("limits.strike = { one_of = [1, 'x'] }"), f"{ACTION}.limits.strike.one_of: argument strike: text ('x') given"),
        (limit("limits.above = { one_of = [1] }"), f"{ACTION}.limits.above.one_of: argument above: "),
        (limit("limits.to = { one_of = ['0x12'] }"), f"{ACTION}.limits.to.one_of: argument to: "),
        (limit("limits.strike = { max_per_call = 9, max_per_day = 5 }"), f"{ACTION}.limits.strike.max_per_call: = 9 is above max_per_day = 5"),
        (limit("limits.strike = { max_per_hour = 9, max_per_day = 5 }"), f"{ACTION}.limits.strike.max_per_hour: = 9 is above max_per_day = 5"),
        (limit(f"limits.strike = {{ max_per_day = {1 << 256} }}"), f"{ACTION}.limits.strike.max_per_day: is above 2^256 - 1"),
        (limit("limits.above = { max_per_hour = 1 }"), f"{ACTION}.limits.above: max_per_hour is for integers, above is bool"),
        (limit("limits.to = { in_list = 'friends' }"), f"{ACTION}.limits.to.in_list: there is no [address_lists.friends]; there are: none"),
        (limit("limits.to = { not_in_list = 'foes' }") + LISTS, f"{ACTION}.limits.to.not_in_list: there is no [address_lists.foes]; there are: friends, nobody"),
        (limit("limits.to = { in_list = 'nobody' }") + LISTS, f"{ACTION}.limits.to.in_list: address_lists.nobody is empty"),
        (limit("limits.strike = { in_list = 'friends' }") + LISTS, f"{ACTION}.limits.strike: in_list and not_in_list are for addresses, strike is uint256"),
        (GOOD + LISTS.replace(MARKET, "0x" + "0" * 40), "address_lists.friends: is the zero address"),
        (GOOD + LISTS.replace(MARKET, MARKET[:-1] + "3"), "address_lists.friends: "),
        # budgets
        (changed("max_value_wei_per_day = 1000\n", "max_value_wei_per_day = 1000\nmax_transactions_per_hour = 3\nmax_transactions_per_day = 2\n"),
         "vaults.main.max_transactions_per_hour: is above max_transactions_per_day = 2"),
        (plugin("budget = { max_transactions_per_hour = 3, max_transactions_per_day = 2 }"), "plugins.alpha.budget.max_transactions_per_hour: is above"),
        (plugin('broadcast = "private_first"'), "plugins.alpha.broadcast: private_first needs private_rpc in the chain of its vault"),
        (plugin("budget = { max_value_wei_per_day = 1001 }"), "plugins.alpha.budget.max_value_wei_per_day: is above max_value_wei_per_day = 1000 of the vault"),
        # plugins
        (plugin('module = "a:B"'), "plugins.alpha: needs exactly one of path, module, entry_point; it has path, module"),
        (changed('path = "plugins/alpha.py"', ""), "plugins.alpha: needs exactly one of path, module, entry_point; it has none"),
        (changed("plugins/alpha.py", "plugins/none.py"), "plugins.alpha.path: no such file: DIR/plugins/none.py"),
        (
            plugin("sandbox.max_threads = 23"),
            "plugins.alpha.sandbox.max_threads: must be at least 24: parallel = 16, and 8 more",
        ),
        (
            plugin('sandbox = { namespaces = "off", require = ["namespaces"] }'),
            "plugins.alpha.sandbox.namespaces: is off, and sandbox.require demands namespaces",
        ),
        (plugin('venv = "none"'), "plugins.alpha.venv: is not a virtual environment, it has no lib: DIR/none"),
        (plugin('python = "plugins/alpha.py"'), "plugins.alpha.python: is not a program: DIR/plugins/alpha.py"),
        (plugin('pin = "sha256:1"'), "plugins.alpha.pin: "),
        (plugin('sandbox.readable_paths = ["none"]'), "plugins.alpha.sandbox.readable_paths: no such file: DIR/none"),
        (plugin("restart = { backoff_first_s = 5, backoff_max_s = 2 }"), "plugins.alpha.restart: backoff_max_s is below backoff_first_s"),
        (
            plugin('triggers = [{ kind = "event", topic = "t" }, { kind = "event", topic = "t", overlap = "queue" }]'),
            "plugins.alpha.triggers: event t stands twice: leave one out, or let them differ by job or filter",
        ),
        (plugin('triggers = [{ kind = "cron", expression = "61 * * * *" }]'), "plugins.alpha.triggers[0].expression: bad cron expression '61 * * * *'"),
        (
            plugin('triggers = [{ kind = "block" }, { kind = "block", chain = "elsewhere" }]'),
            "plugins.alpha.triggers[1].chain: there is no chain 'elsewhere'; configured: ",
        ),
        (
            plugin('triggers = [{ kind = "metric", read = { name = "moon" }, above = 1 }]'),
            "plugins.alpha.triggers[0].read.name: there is no [vaults.",
        ),
        (
            plugin(f'triggers = [{{ kind = "log", addresses = ["0x{"11" * 20}"], event = "Trade(uint7 size)" }}]'),
            "plugins.alpha.triggers[0].event: in 'Trade(uint7 size)': 'uint7' is not an ABI type",
        ),
        (
            plugin(
                f'triggers = [{{ kind = "log", addresses = ["0x{"11" * 20}"], event = "T(bool a)", where = {{ b = 1 }} }}]'
            ),
            "plugins.alpha.triggers[0].where: where: T has no argument b; it has: a",
        ),
        (
            plugin(f'triggers = [{{ kind = "log", addresses = ["0x{"aB" * 20}"], event = "T(bool a)" }}]'),
            "plugins.alpha.triggers[0].addresses: 0x",
        ),
        (plugin('triggers = [{ kind = "cron", expression = "0 0 30 2 *" }]'), "plugins.alpha.triggers[0].expression: bad cron expression '0 0 30 2 *'"),
        (
            plugin('triggers = [{ kind = "cron", expression = "* * * * *", timezone = "Mars/Base" }]'),
            "plugins.alpha.triggers[0].timezone: unknown time zone 'Mars/Base'; use an IANA name such as Europe/Berlin or UTC",
        ),
        (plugin(f'params = {{ text = "{"x" * (1 << 20)}" }}'), "plugins.alpha.params: do not fit the 1048576 bytes of one message"),
        # sockets
        (f'control_socket = "/{"x" * 107}"\n' + GOOD, "control_socket: is longer than 107 bytes, the kernel's limit"),
        (f'control_socket = "/{"ü" * 60}"\n' + GOOD, "control_socket: is longer than 107 bytes, the kernel's limit"),
        (f'runtime_dir = "/{"x" * 90}"\n' + GOOD, "runtime_dir: is too long for the sockets in it: at most 81 bytes with these plugin names"),
    ],
)  # fmt: skip
def test_contradiction_is_named_by_its_key(place: Place, text: str, expected: str) -> None:
    """Before anything is started, and with what would be right."""
    assert any(problem.startswith(expected) for problem in place.problems(text)), place.problems(text)


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD + '[plugins.alpha.jobs.settle]\nparallel = 16\n[router]\nlayers = { parallel = 2 }\nfallback = { plugin = "alpha" }\n',
        limit("limits.strike = { one_of = [1, 2] }"),
        limit("limits.above = { one_of = [true] }"),
        limit(f"limits.to = {{ one_of = ['{MARKET}', '{MARKET.lower()}'] }}"),
        changed('passphrase_file = "keys/passphrase"', 'passphrase_credential = "operator"'),
        kms(),
        kms(f"kms_region = 'eu-central-1'\nkms_endpoint_url = 'https://vpce.example'\naddress = '{VAULT}'"),
        kms("kms_region = 'eu-central-1'", key="arn:aws:kms:eu-central-1:1:key/k"),
        kms('[wallets.two]\nkms_key_id = "alias/other"'),
        remote(),
        remote("signer_token_file = 'keys/passphrase'\nsigner_ca_file = 'keys/passphrase'\nsigner_client_cert_file = 'keys/passphrase'"),
        remote("signer_token_credential = 'c'", url="http://127.0.0.1:9000"),
        remote("signer_token_credential = 'c'", url="http://[::1]:9000"),
        remote(url="http://signer:9000"),
        remote(f"[wallets.two]\nsigner_url = 'https://signer.example'\naddress = '{MARKET}'"),
        changed('path = "plugins/alpha.py"', 'module = "strategies.alpha:Alpha"'),
        changed("http://127.0.0.1:8545", "ipc:///run/node.ipc"),
        adapter("safe", multisend=MARKET),
        adapter("safe_multisig", multisend=MARKET, intent_registry=MARKET),
        adapter("eip7702", delegate=MARKET),
        adapter("roles", multisend=MARKET, roles_modifier=MARKET, role_key="0x" + "ab" * 32),
        GOOD + '\n[database]\ndsn = "postgresql:///runnerd?host=/run"\nevent_dsn = "host=h dbname=d"\n',
        f'control_socket = "/{"x" * 106}"\n' + GOOD,
        f'runtime_dir = "/{"x" * 80}"\n' + GOOD,
        plugin('triggers = []'),
        limit("limits.strike = { max_per_call = 5, max_per_hour = 5, max_per_day = 5 }"),
        limit("reducing = true\nlimits.strike = { min = 1 }"),
        plugin("budget = { max_value_wei_per_day = 1000, max_gas_wei_per_day = 0, max_transactions_per_day = 0 }"),
    ],
)  # fmt: skip
def test_what_is_right_passes(place: Place, text: str) -> None:
    """The positive controls of the list above, at their limits."""
    assert place.problems(text) == []


@pytest.mark.parametrize("dsn", ["postgresql://u:hunter2@[h", "hunter2", "host=h password='hunter2", "hunter2=5"])
def test_a_malformed_dsn_is_refused_without_a_word_of_it(place: Place, dsn: str) -> None:
    """libpq's own message repeats parts of the string, and one of them may be the password."""
    (problem,) = place.problems(GOOD + f'\n[database]\ndsn = "{dsn}"\n')
    assert problem.startswith("database.dsn: is not a connection string")
    assert "hunter2" not in problem


def test_several_contradictions_are_told_together(place: Place) -> None:
    """Each with its own line."""
    text = (
        GOOD.replace("keys/operator.json", "none")
        .replace("plugins/alpha.py", "none")
        .replace("uint256 strike", "strike")
    )
    assert [problem.split(":")[0] for problem in place.problems(text)] == [
        "wallets.hot.keystore", f"{ACTION}.function", "plugins.alpha.path",
    ]  # fmt: skip


def test_longest_runtime_directory_really_holds_the_sockets(place: Place) -> None:
    """The bound of the check is the one of the kernel: the longest link that spawning would name still fits."""
    config = place.load(f'runtime_dir = "/{"x" * 80}"\n' + GOOD)
    request = spawn_request("alpha", 99_999_999, config.plugins["alpha"], str(config.runtime_dir))
    assert len(request.link_address.removeprefix("ipc://")) == 107
