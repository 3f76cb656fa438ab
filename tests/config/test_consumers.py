"""`[consumers.NAME]`: each kind has its own keys, and what is wrong is said by its place and what is allowed there."""

# ruff: noqa: E501  # a case a line: what is written, and what is answered

from pathlib import Path

import pytest

from runnerd.config.consumer_model import AppriseConsumerConfig, SubmitConsumerConfig, WebhookConsumerConfig
from tests.config.toml_bench import GOOD, MARKET, Place

ANSWER = f"""
[vaults.main.actions.answer]
contract = "{MARKET}"
function = "answer(uint256 id, bytes32 block, string text)"
"""
ARGUMENTS = 'arguments = { id = "$log.args.id", block = "$block.hash", text = "$result.reason" }'


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    (tmp_path / "secret").touch()
    return place


def hook(keys: str = "", url: str = "https://example.net/x", secret: str = 'secret_file = "secret"') -> str:
    return f'{GOOD}[consumers.hook]\nkind = "webhook"\nurl = "{url}"\n{secret}\n{keys}\n'


def submit(keys: str = ARGUMENTS, name: str = "oracle", action: str = "answer", plugin: str = "alpha") -> str:
    return f'[consumers.{name}]\nkind = "submit"\nplugin = "{plugin}"\naction = "{action}"\n{keys}\n'


def test_each_kind_has_the_documented_defaults_and_absolute_paths(place: Place) -> None:
    """Relative to the file, as everywhere."""
    config = place.load(
        hook() + ANSWER + submit() + '[consumers.chat]\nkind = "apprise"\nurl_file = "secret"\n'
        '[consumers.bell]\nkind = "notify"\nchannel = "results"\n'
    )
    assert config.consumers["hook"] == WebhookConsumerConfig(
        url="https://example.net/x",
        secret_file=place.directory / "secret",
        allow_private=False,
        plugins=(),
        outcomes=(),
    )
    chat, oracle = config.consumers["chat"], config.consumers["oracle"]
    assert isinstance(chat, AppriseConsumerConfig)
    assert chat.outcomes == ("acted", "denied", "failed", "expired", "dead")
    assert isinstance(oracle, SubmitConsumerConfig)
    assert (oracle.trigger, oracle.outcomes) == ("log", ("acted", "noop"))


def test_what_is_private_or_in_the_clear_needs_to_be_allowed(place: Place) -> None:
    """The control of two refusals below."""
    assert place.problems(hook("allow_private = true", url="http://127.0.0.1:8080/")) == []


@pytest.mark.parametrize("text, expected", [
    ('[consumers.a]\nkind = "pigeon"', "consumers.a.kind: is 'pigeon'; allowed: webhook, notify, apprise, submit, entry_point"),
    ('[consumers.a]\nurl = "x"', "consumers.a.kind: is missing; allowed: webhook"),
    ("consumers = 3\n", "consumers: "),
    ('[consumers.a]\nkind = "notify"\nchannel = "x"\nurl = "y"', "consumers.a.url: unknown key; allowed: kind, channel, plugins, outcomes"),
    ('[consumers.a]\nkind = "notify"', "consumers.a.channel: is missing, and has no default"),
    ('[consumers.a]\nkind = "notify"\nchannel = "two words"', "consumers.a.channel: "),
    ('[consumers.a]\nkind = "notify"\nchannel = "x"\noutcomes = ["won"]', "consumers.a.outcomes[0]: Invalid enum value 'won'; allowed: acted, noop, denied, failed, expired, dead"),
    ('[consumers.a]\nkind = "notify"\nchannel = "x"\nplugins = ["gamma"]', "consumers.a.plugins: there is no [plugins.gamma]; there are: alpha"),
    ('[consumers.a]\nkind = "apprise"', "consumers.a: needs exactly one of url_file and url_credential"),
    ('[consumers.a]\nkind = "apprise"\nurl_file = "none"', "consumers.a.url_file: no such file: DIR/none"),
    ('[consumers.a]\nkind = "entry_point"\nentry_point = "pigeon"', "consumers.a.entry_point: is 'pigeon', which no package in runnerd's environment has in runnerd.consumers"),
])  # fmt: skip
def test_a_wrong_key_is_named_with_what_is_allowed(place: Place, text: str, expected: str) -> None:
    """By its dotted path."""
    top = text.startswith("consumers =")
    problems = place.problems(text + GOOD if top else f"{GOOD}{text}\n")
    assert any(problem.startswith(expected) for problem in problems), problems


@pytest.mark.parametrize("text, expected", [
    (hook(secret=""), "consumers.hook: needs exactly one of secret_file and secret_credential"),
    (hook('secret_credential = "hook"'), "consumers.hook: needs exactly one of secret_file and secret_credential"),
    (hook(secret='secret_file = "none"'), "consumers.hook.secret_file: no such file: DIR/none"),
    (hook(url="ftp://example.net"), "consumers.hook.url: is not a url that can be used: write https://HOST/PATH"),
    (hook(url="http://example.net"), "consumers.hook.url: would cross the internet in the clear"),
    (hook(url="https://me:hush@example.net"), "consumers.hook.url: holds credentials"),
    (hook(url="https://10.0.0.1/"), "consumers.hook.url: 10.0.0.1 is not on the internet; allow_private = true lets it"),
    (hook(url="https://localhost/"), "consumers.hook.url: localhost is not on the internet"),
    (hook(url="https://[64:ff9b::7f00:1]/"), "consumers.hook.url: 64:ff9b::7f00:1 is not on the internet"),
    (hook(url="https://127.1/"), "consumers.hook.url: 127.1 is an old spelling of an address: write 127.0.0.1"),
    (hook("allow_private = true", url="https://0xa9fea9fe/"), "consumers.hook.url: 0xa9fea9fe is an old spelling of an address: write 169.254.169.254"),
    (GOOD + submit(), "consumers.oracle.action: there is no [vaults.main.actions.answer]; there are: mint"),
    (GOOD + ANSWER + submit(plugin="gamma"), "consumers.oracle.plugin: there is no [plugins.gamma]"),
    (GOOD + ANSWER + submit("arguments = {}"), "consumers.oracle.arguments.id: is missing: answer needs a value"),
    (GOOD + ANSWER + submit(ARGUMENTS.replace("{ ", "{ odd = 1, ")), "consumers.oracle.arguments.odd: answer has no such argument; it has: id, block, text"),
    (GOOD + ANSWER + submit(ARGUMENTS.replace("$block.hash", "$block.name")), "consumers.oracle.arguments.block: there is no $block.name in what a log asks; allowed: $call.id"),
    (GOOD + ANSWER + submit(f'trigger = "block"\n{ARGUMENTS}'), "consumers.oracle.arguments.id: there is no $log.args.id in what a block asks"),
    (GOOD + ANSWER + submit(ARGUMENTS.replace('"$log.args.id"', '"7"')), "consumers.oracle.arguments.id: argument id: text ('7') given, uint256 takes an integer"),
    (GOOD + ANSWER + submit(f'trigger = "webhook"\n{ARGUMENTS}'), "consumers.oracle.trigger: Invalid enum value 'webhook'"),
    (GOOD + ANSWER + submit() + submit(name="other"), "consumers.other.outcomes: acted of a log is answered by consumers.oracle already: one answer to a call"),
    (GOOD + 'triggers = [{ kind = "event", topic = "results" }]\n[consumers.bell]\nkind = "notify"\nchannel = "results"\n', "consumers.bell.channel: results calls alpha again with each of its results, without end: take another channel"),
    (GOOD + '[router.fallback]\nplugin = "alpha"\ntopics = ["results"]\n[consumers.bell]\nkind = "notify"\nchannel = "results"\n', "consumers.bell.channel: results calls alpha again with each of its results"),
])  # fmt: skip
def test_keys_that_do_not_go_together_are_named(place: Place, text: str, expected: str) -> None:
    """Also with the rest of the file; no text repeats a secret."""
    problems = place.problems(text)
    assert any(problem.startswith(expected) for problem in problems), problems
    assert not any("hush" in problem for problem in problems)


def test_two_that_answer_different_outcomes_go_together(place: Place) -> None:
    """The control of the refusal above."""
    failed = submit(f'{ARGUMENTS}\noutcomes = ["failed"]', name="other")
    assert place.problems(GOOD + ANSWER + submit() + failed) == []
