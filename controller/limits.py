"""How much of what a device sends is read at all; what is beyond is refused as `protocol`.

JSON takes up to 25 times its size in memory.
"""

from dataclasses import dataclass

MAX_PACKET_BYTES = 256 << 10  # of SSH, as OpenSSH has it
MAX_EVENT_BYTES = 1 << 20
MAX_EVENTS = 10_000
MAX_ANSWER_BYTES = 4 << 20
MAX_SPOOL_BYTES = 16 << 20
MAX_FILE_BYTES = 80 << 20
MAX_FILES = 64
MAX_FILES_BYTES = 256 << 20  # of a launch together
MAX_WHOLE = 2**63 - 1
MAX_VALUES = 10_000
MAX_LOG_CHARACTERS = 16_384
MAX_TEXT_CHARACTERS = 500
MAX_PATH_CHARACTERS = 4096
MAX_PROBE_ENTRIES = 256
MAX_DETAILS_CHARACTERS = 20_000
MAX_OPERATIONS = 2000
MAX_OPERATION_CHARACTERS = 200


@dataclass(slots=True)
class Allowance:
    """What may still come of a launch's spool, over any number of connections."""

    left_bytes: int

    def takes(self, size_bytes: int) -> bool:
        """Whether so much more may come; it is taken off."""
        self.left_bytes -= size_bytes
        return self.left_bytes >= 0
