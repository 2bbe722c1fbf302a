"""Canonical Huffman codes: a table of code lengths is all that a reader needs."""

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

MAX_LENGTH = 15
"""Bits of the longest code, so that a length takes half a byte in a file."""

BLOCK = 1 << 16
"""Bytes that are read at once, which bounds the memory that reading takes."""

Ints = NDArray[np.int64]


def lengths(counts: Sequence[int]) -> Ints:
    """The code length of each symbol in bits, 0 for those that do not occur.

    As Huffman, A Method for the Construction of Minimum-Redundancy Codes, 1952; where codes grow longer than MAX_LENGTH, counts are halved
    until they do not.
    """
    found = _lengths(counts)
    while found.max(initial=0) > MAX_LENGTH:
        counts = [-(-count // 2) for count in counts]
        found = _lengths(counts)
    return found


def pack(symbols: NDArray[np.integer], table: Ints) -> bytes:
    """The codes of the symbols one after the other, most significant bit first, zeros up to a whole byte."""
    sizes = table[symbols]
    codes, starts = _codes(table)[symbols], np.cumsum(sizes) - sizes
    bits = np.zeros(int(sizes.sum()), np.uint8)
    for at in range(int(sizes.max(initial=0))):
        longer = sizes > at
        bits[starts[longer] + at] = (codes[longer] >> (sizes[longer] - 1 - at)) & 1
    return np.packbits(bits).tobytes()


def unpack(stream: bytes, table: Ints, count: int) -> Ints:
    """The first `count` symbols of a stream; raises ValueError where the table is no code or the stream does not hold them."""
    if count > 8 * len(stream):
        raise ValueError(f"{count} codes in {len(stream)} bytes")
    symbols, steps = _lookup(table)
    found = [np.zeros(0, np.int64)]
    missing, at = count, 0
    for start in range(0, len(stream), BLOCK):
        ahead = _ahead(stream[start : start + BLOCK + 2], 8 * min(BLOCK, len(stream) - start))
        starts, at = _walk(steps[ahead].tolist(), at, missing)
        found.append(symbols[ahead[starts]])
        missing -= len(starts)
        at -= len(ahead)
    if missing or at > 0:
        raise ValueError("the codes are cut off")
    return np.concatenate(found)


def _ahead(block: bytes, positions: int) -> Ints:
    """The next MAX_LENGTH bits at each of the first positions of a block, zeros after its end."""
    bits = np.append(np.unpackbits(np.frombuffer(block, np.uint8)), np.zeros(MAX_LENGTH, np.uint8)).astype(np.int64)
    return sum((bits[at : at + positions] << (MAX_LENGTH - 1 - at) for at in range(MAX_LENGTH)), np.zeros(positions, np.int64))


def _walk(steps: list[int], at: int, most: int) -> tuple[Ints, int]:
    """Where codes start from bit `at` on, at most so many, and the bit after them."""
    starts: list[int] = []
    while len(starts) < most and at < len(steps):
        if steps[at] == 0:
            raise ValueError("a code that the table does not have")
        starts.append(at)
        at += steps[at]
    return np.array(starts, np.int64), at


def _lengths(counts: Sequence[int]) -> Ints:
    found = np.zeros(len(counts), np.int64)
    heap = [(count, symbol, [symbol]) for symbol, count in enumerate(counts) if count > 0]
    if len(heap) == 1:
        found[heap[0][1]] = 1
    heapq.heapify(heap)
    while len(heap) > 1:
        rare, first, members = heapq.heappop(heap)
        next_rare, second, others = heapq.heappop(heap)
        merged = members + others
        found[merged] += 1
        heapq.heappush(heap, (rare + next_rare, min(first, second), merged))
    return found


def _codes(table: Ints) -> Ints:
    """The code of each symbol: shorter ones first, among equal ones in the order of the symbols."""
    codes = np.zeros(len(table), np.int64)
    code, before = 0, 0
    for symbol in _order(table):
        code <<= int(table[symbol]) - before
        before = int(table[symbol])
        codes[symbol] = code
        code += 1
    return codes


def _order(table: Ints) -> list[int]:
    return sorted((symbol for symbol in range(len(table)) if table[symbol]), key=lambda symbol: (int(table[symbol]), symbol))


def _lookup(table: Ints) -> tuple[Ints, Ints]:
    """By the next MAX_LENGTH bits, the symbol that they begin with and its length, 0 for none."""
    spans = [1 << (MAX_LENGTH - int(table[symbol])) for symbol in _order(table)]
    if sum(spans) > 1 << MAX_LENGTH:
        raise ValueError("the code lengths are those of no code")
    symbols, steps = np.zeros(1 << MAX_LENGTH, np.int64), np.zeros(1 << MAX_LENGTH, np.int64)
    start = 0
    for symbol, span in zip(_order(table), spans, strict=True):
        symbols[start : start + span], steps[start : start + span] = symbol, table[symbol]
        start += span
    return symbols, steps
