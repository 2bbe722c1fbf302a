"""Mutates JSON lines as JSON: a value somewhere becomes a hostile one, goes, or comes twice; else libFuzzer changes bytes."""

import json
import random
from typing import Any

import atheris

DEEP: Any = 1
for _ in range(40):
    DEEP = [DEEP]
HOSTILE: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1.5,
    2**31,
    2**63 - 1,
    2**63,
    10**400,
    1e308,
    float("nan"),
    float("-inf"),
    "",
    "\ud800",
    "\0\x1b[2J<script>",
    "../../x",
    "/etc/passwd",
    "x" * 5000,
    "²",
    [],
    {},
    DEEP,
)


def json_lines(data: bytes, max_size: int, seed: int) -> bytes:
    """A mutation of `data` of at most `max_size` bytes."""
    rng = random.Random(seed)  # noqa: S311 - libFuzzer's choice, which has to be the same again
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    if rng.random() < 0.5:
        try:
            lines[at] = json.dumps(_mutated(json.loads(lines[at]), rng)).encode()
        except (ValueError, RecursionError):
            return atheris.Mutate(data, max_size)
    elif rng.random() < 0.3:
        lines.insert(rng.randrange(len(lines) + 1), lines[at])
    else:
        return atheris.Mutate(data, max_size)
    whole = b"\n".join(lines)
    return whole if len(whole) <= max_size else atheris.Mutate(data, max_size)


def _mutated(value: Any, rng: random.Random) -> Any:
    """`value` with one change at a place of it."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not keys or rng.random() < 0.1:
        return _other(value, rng)
    key = rng.choice(keys)
    kind = rng.random()
    if kind < 0.05:
        del value[key]
    elif kind < 0.1 and isinstance(value, list):
        value *= rng.choice((2, 10, 300))
    elif kind < 0.15 and isinstance(value, dict):
        value[rng.choice(("", "x", "\ud800", "type", key * 9))] = rng.choice(HOSTILE)
    else:
        value[key] = _mutated(value[key], rng)
    return value


def _other(value: Any, rng: random.Random) -> Any:
    """Something hostile, or near to what was there."""
    if isinstance(value, str) and value and rng.random() < 0.4:
        at = rng.randrange(len(value))
        return value[:at] + rng.choice(("", "\0", "\n", "/", "é", "9", value)) + value[at + 1 :]
    if isinstance(value, int | float) and rng.random() < 0.4:
        return value * rng.choice((-1, 2, 10, 1000)) + rng.choice((-1, 0, 1))
    return rng.choice(HOSTILE)
