"""How much of what a device sends is read at all; what is beyond is refused as `protocol`."""

MAX_EVENT_BYTES = 1 << 20
MAX_SPOOL_BYTES = 64 << 20
MAX_FILE_BYTES = 80 << 20
MAX_FILES = 64
MAX_WHOLE = 2**63 - 1
MAX_VALUES = 10_000
MAX_LOG_CHARACTERS = 16_384
MAX_TEXT_CHARACTERS = 500
MAX_DETAILS_CHARACTERS = 20_000
