"""Every bound of the wire, in one place. A worker that breaks one is ended with a reason.

The bounds are part of the protocol: both sides check them, the worker to give its author an early error,
the supervisor because nothing from a worker is trusted.
"""

from typing import Final

PROTOCOL_VERSION: Final = 3

MAX_FRAME_BYTES: Final = 1 << 20
"""One ZeroMQ frame, both ways. The supervisor refuses a longer one from its header; the worker sets ZMQ_MAXMSGSIZE."""

LINK_HWM: Final = 1_000
"""Messages that may wait: the worker's ZeroMQ high-water marks, each way, and the supervisor's queue to it."""

MAX_FRAMES_PER_S: Final = 10_000
"""Frames a second that the supervisor takes from one worker, answers to calls aside, over `FRAME_BURST` frames.
Generous, because a plugin that logs in a loop is no attack: its lines are dropped, and its worker lives.
"""

FRAME_BURST: Final = 500_000
MAX_FRAME_BYTES_PER_S: Final = 8 << 20
"""The same in bytes, over `FRAME_BYTES_BURST`: white space, which no other bound is about, takes 1.7 ms per MiB."""

FRAME_BYTES_BURST: Final = 128 << 20

MAX_NAME_LENGTH: Final = 64
MAX_TOPIC_BYTES: Final = 63  # PostgreSQL refuses a longer channel name (NAMEDATALEN - 1)
MAX_EXPRESSION_LENGTH: Final = 200
MAX_TEXT_LENGTH: Final = 500  # a reason, an error message
MAX_TRACEBACK_LENGTH: Final = 16_000
MAX_LOG_MESSAGE_LENGTH: Final = 4_000
MAX_SOURCE_LENGTH: Final = 1_000
MAX_PAYLOAD_LENGTH: Final = 256_000

MAX_ACTIONS: Final = 16
MAX_ARGUMENTS: Final = 32
MAX_ARRAY_LENGTH: Final = 256
MAX_STRING_LENGTH: Final = 8_192
MAX_READS: Final = 64
MAX_TRIGGERS: Final = 32
MAX_JOBS: Final = 32

MAX_VALUES_PER_ACTION: Final = 1_024
"""Integers, booleans and texts, and the lists that hold them, in the arguments of one Action or Read."""

MAX_EXPECTATIONS: Final = 8
MAX_VALUES_PER_EXPECTATION: Final = 64
"""The same, in the arguments of one expectation's read."""

MAX_CHANGE_BPS: Final = 1_000_000

MAX_STATE_WRITES: Final = 256
MAX_STATE_KEY_LENGTH: Final = 256
MAX_STATE_VALUE_LENGTH: Final = 65_536

MAX_STATE_REQUESTS_PER_S: Final = 500
"""State requests a second that the supervisor answers one plugin, over `STATE_BURST`; those beyond wait for their
answers. A compare-and-set, which is a commit, counts as `STATE_COMMIT_COST` of them.
"""

STATE_BURST: Final = 1_000
STATE_COMMIT_COST: Final = 10

MAX_VALUES_PER_FRAME: Final = 20_000
"""Commas outside of text: `MAX_ACTIONS` times `MAX_VALUES_PER_ACTION`, and what else is in a Decision."""

MAX_OBJECTS_PER_FRAME: Final = 512
"""Opening braces outside of text: a Decision has at most 2 + 2 * (`MAX_ACTIONS` + `MAX_EXPECTATIONS`) +
`MAX_STATE_WRITES`.
"""

MAX_QUOTES_PER_FRAME: Final = 2 * (MAX_VALUES_PER_FRAME + 4 * MAX_OBJECTS_PER_FRAME)

MAX_LOG_RECORDS_PER_S: Final = 200
"""Records a second that the supervisor takes from one worker, measured over `LOG_BURST` records. The default of
`sandbox.log_lines_per_s`: an operator may set another.
"""

LOG_BURST: Final = 1_000

MAX_ATTEMPT: Final = (1 << 31) - 1
MAX_GRACE_MS: Final = 366 * 86_400_000

INT_MIN: Final = -(1 << 255)
INT_MAX: Final = (1 << 256) - 1
