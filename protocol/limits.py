"""Every bound of the wire, in one place. A worker that breaks one is ended with a reason.

The bounds are part of the protocol: both sides check them, the worker to give its author an early error,
the supervisor because nothing from a worker is trusted.
"""

from typing import Final

PROTOCOL_VERSION: Final = 1

MAX_FRAME_BYTES: Final = 1 << 20
"""One ZeroMQ frame, both ways; also set as ZMQ_MAXMSGSIZE, so that a giant frame never reaches Python."""

LINK_HWM: Final = 1_000
"""ZeroMQ high-water mark of a link, in messages, each way."""

MAX_NAME_LENGTH: Final = 64
MAX_TOPIC_BYTES: Final = 63  # PostgreSQL refuses a longer channel name (NAMEDATALEN - 1)
MAX_EXPRESSION_LENGTH: Final = 200
MAX_TEXT_LENGTH: Final = 500  # a reason, an error message
MAX_TRACEBACK_LENGTH: Final = 16_000
MAX_LOG_MESSAGE_LENGTH: Final = 4_000
MAX_PAYLOAD_LENGTH: Final = 256_000

MAX_ACTIONS: Final = 16
MAX_ARGUMENTS: Final = 32
MAX_ARRAY_LENGTH: Final = 256
MAX_STRING_LENGTH: Final = 8_192
MAX_READS: Final = 64
MAX_TRIGGERS: Final = 32

MAX_STATE_WRITES: Final = 256
MAX_STATE_KEY_LENGTH: Final = 256
MAX_STATE_VALUE_LENGTH: Final = 65_536

MAX_LOG_RECORDS_PER_S: Final = 200
"""Records a second that the supervisor takes from one worker, measured over `LOG_BURST` records."""

LOG_BURST: Final = 1_000

MAX_ATTEMPT: Final = (1 << 31) - 1
MAX_GRACE_MS: Final = 366 * 86_400_000

INT_MIN: Final = -(1 << 255)
INT_MAX: Final = (1 << 256) - 1
