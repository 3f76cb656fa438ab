"""One real message of each kind, and the bytes of its frame: what both sides of the wire agree on.

`protocol/README.md` shows the same frames. Bytes that change here are a change of the protocol: raise its version.
"""

from datetime import UTC, datetime
from decimal import Decimal

from protocol.actions import Act, Action, Noop
from protocol.expectations import BalanceChange, MinimumOut, SharePrice
from protocol.messages import (
    BlockRef,
    Call,
    Decide,
    DecideFailed,
    Decision,
    FromSupervisor,
    FromWorker,
    Hello,
    LogLevel,
    LogRecord,
    Origin,
    Ping,
    Pong,
    Refused,
    StateCompareAndSet,
    StateDelete,
    StateGet,
    StatePut,
    StateRefused,
    StateReply,
    Stop,
    TriggerKind,
    VaultRef,
    Welcome,
)
from protocol.triggers import Cron, Event, Read

DUE_AT = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
FIRED_AT = datetime(2026, 11, 21, 6, 0, 0, 1500, tzinfo=UTC)
BUILT_AT = datetime(2026, 11, 21, 6, 0, 0, 4210, tzinfo=UTC)

WORKER_FRAMES: dict[str, tuple[FromWorker, bytes]] = {
    "hello": (
        Hello(
            version=3,
            generation=3,
            plugin="range-maker",
            vault="demo",
            triggers=(
                Cron(every_seconds=Decimal("0.5")),
                Cron(
                    expression="0 9 * * mon",
                    timezone="Europe/Berlin",
                    jitter_s=Decimal("0.5"),
                    misfire="once",
                    job="settle",
                    overlap="coalesce",
                ),
                Event(topic="trades", mode="outbox", where={"pair.base": "ETH"}),
            ),
            reads=(
                Read("spot"),
                Read("balance_of", {"owner": "0x00000000000000000000000000000000000000a1"}, alias="mine"),
            ),
            digest="sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            jobs=("decide", "settle"),
        ),
        (
            b'{"type":"hello","version":3,"generation":3,"plugin":"range-maker","vault":"demo","triggers":['
            b'{"kind":"cron","every_seconds":"0.5","expression":null,"timezone":"UTC","jitter_s":"0",'
            b'"misfire":"skip","job":"decide","overlap":"parallel"},'
            b'{"kind":"cron","every_seconds":null,"expression":"0 9 * * mon","timezone":"Europe/Berlin",'
            b'"jitter_s":"0.5","misfire":"once","job":"settle","overlap":"coalesce"},'
            b'{"kind":"event","topic":"trades","mode":"outbox","where":{"pair.base":"ETH"},"job":"decide",'
            b'"overlap":"parallel"}],"reads":[{"name":"spot","args":{},"alias":null},'
            b'{"name":"balance_of","args":{"owner":"0x00000000000000000000000000000000000000a1"},"alias":"mine"}],'
            b'"digest":"sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",'
            b'"jobs":["decide","settle"]}'
        ),
    ),
    "refused": (
        Refused(reason="PluginError: RangeMaker must define decide(self, ctx)"),
        b'{"type":"refused","reason":"PluginError: RangeMaker must define decide(self, ctx)"}',
    ),
    "decision, acting": (
        Decision(
            call_id=7,
            attempt=1,
            outcome=Act(
                actions=(
                    Action("mint_binary", {"strike": 200000, "above": True}, 10**15),
                    Action("mint_range", {"bounds": [199000, 201000], "memo": b"\x00\xff"}),
                )
            ),
            state_writes=(StatePut(key="centre", value="200000"), StateDelete(key="pending")),
        ),
        (
            b'{"type":"decision","call_id":7,"attempt":1,"outcome":{"kind":"act","actions":['
            b'{"name":"mint_binary","args":{"strike":200000,"above":true},"value_wei":1000000000000000},'
            b'{"name":"mint_range","args":{"bounds":[199000,201000],"memo":"0x00ff"},"value_wei":0}]},'
            b'"state_writes":[{"kind":"put","key":"centre","value":"200000"},{"kind":"delete","key":"pending"}]}'
        ),
    ),
    "decision, acting with expectations": (
        Decision(
            call_id=8,
            attempt=1,
            outcome=Act(
                [Action("swap", {"amount": 5})],
                expect=[
                    MinimumOut(990, token="0x00000000000000000000000000000000000000c1"),
                    BalanceChange(min=-5, max=0),
                    SharePrice("share_price", max_change_bps=50),
                ],
            ),
        ),
        (
            b'{"type":"decision","call_id":8,"attempt":1,"outcome":{"kind":"act","actions":['
            b'{"name":"swap","args":{"amount":5},"value_wei":0}],"expect":['
            b'{"kind":"balance_change","token":"0x00000000000000000000000000000000000000c1","min":990,"max":null},'
            b'{"kind":"balance_change","token":null,"min":-5,"max":0},'
            b'{"kind":"share_price","read":"share_price","max_change_bps":50,"args":{}}]},"state_writes":[]}'
        ),
    ),
    "decision, not acting": (
        Decision(call_id=7, attempt=1, outcome=Noop("spot 200000 is within 50 of 200010")),
        (
            b'{"type":"decision","call_id":7,"attempt":1,'
            b'"outcome":{"kind":"noop","reason":"spot 200000 is within 50 of 200010"},"state_writes":[]}'
        ),
    ),
    "decide_failed": (
        DecideFailed(call_id=7, attempt=1, error="KeyError: 'spot'", traceback="Traceback ...\nKeyError: 'spot'\n"),
        (
            b'{"type":"decide_failed","call_id":7,"attempt":1,"error":"KeyError: \'spot\'",'
            b'"traceback":"Traceback ...\\nKeyError: \'spot\'\\n"}'
        ),
    ),
    "state_get": (
        StateGet(request_id=1, key="centre"),
        b'{"type":"state_get","request_id":1,"key":"centre"}',
    ),
    "state_compare_and_set": (
        StateCompareAndSet(request_id=2, key="claim:42", expected=None, value='{"by":7}'),
        b'{"type":"state_compare_and_set","request_id":2,"key":"claim:42","expected":null,"value":"{\\"by\\":7}"}',
    ),
    "log": (
        LogRecord(level=LogLevel.INFO, message="price left the band ±50", call_id=7),
        '{"type":"log","level":"info","message":"price left the band ±50","call_id":7}'.encode(),
    ),
    "pong": (Pong(nonce=1), b'{"type":"pong","nonce":1}'),
}

SUPERVISOR_FRAMES: dict[str, tuple[FromSupervisor, bytes]] = {
    "welcome": (
        Welcome(params={"width": 50, "dry": False, "pairs": ["ETH/USD"], "tiers": {"low": 10, "ids": [1, 2]}}),
        b'{"type":"welcome","params":{"width":50,"dry":false,"pairs":["ETH/USD"],"tiers":{"low":10,"ids":[1,2]}}}',
    ),
    "refused": (
        Refused(reason="shutting down"),
        b'{"type":"refused","reason":"shutting down"}',
    ),
    "decide": (
        Decide(
            call=Call(
                id=7,
                attempt=1,
                trigger=TriggerKind.EVENT,
                topic="trades",
                payload='{"size": 3}',
                due_at=DUE_AT,
                fired_at=FIRED_AT,
                origin=Origin(source="event trades", id="outbox trades 42", principal="pg:trades"),
            ),
            now=BUILT_AT,
            block=BlockRef(
                number=1042,
                hash="0x1c8aff950685c2ed4bc3174f3472287b56d9517b9c948127319a09a7a36deac8",
                timestamp=1795240799,
            ),
            vault=VaultRef(
                name="demo",
                address="0x00000000000000000000000000000000000000A1",
                chain_id=31337,
                actions=("mint_binary", "mint_range"),
            ),
            reads={
                "spot": 200000,
                "mine": 115792089237316195423570985008687907853269984665640564039457584007913129639935,
                "positions": [[199000, 201000, True], []],
            },
        ),
        (
            b'{"type":"decide","call":{"id":7,"attempt":1,"trigger":"event","topic":"trades",'
            b'"payload":"{\\"size\\": 3}",'
            b'"due_at":"2026-11-21T06:00:00Z","fired_at":"2026-11-21T06:00:00.001500Z",'
            b'"origin":{"source":"event trades","id":"outbox trades 42","principal":"pg:trades","block":null},'
            b'"job":"decide","is_dry_run":false},'
            b'"now":"2026-11-21T06:00:00.004210Z","block":{"number":1042,'
            b'"hash":"0x1c8aff950685c2ed4bc3174f3472287b56d9517b9c948127319a09a7a36deac8","timestamp":1795240799},'
            b'"vault":{"name":"demo","address":"0x00000000000000000000000000000000000000A1","chain_id":31337,'
            b'"actions":["mint_binary","mint_range"]},"reads":{"spot":200000,'
            b'"mine":115792089237316195423570985008687907853269984665640564039457584007913129639935,'
            b'"positions":[[199000,201000,true],[]]}}'
        ),
    ),
    "state_reply": (
        StateReply(request_id=2, value='{"by":7}', is_swapped=True),
        b'{"type":"state_reply","request_id":2,"value":"{\\"by\\":7}","is_swapped":true}',
    ),
    "state_refused": (
        StateRefused(request_id=1, reason="the ledger is not reachable"),
        b'{"type":"state_refused","request_id":1,"reason":"the ledger is not reachable"}',
    ),
    "ping": (Ping(nonce=1), b'{"type":"ping","nonce":1}'),
    "stop": (Stop(grace_ms=5000), b'{"type":"stop","grace_ms":5000}'),
}
