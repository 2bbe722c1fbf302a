"""The coded file: what is written is read back, and nothing that a file says is believed."""
# onnx is typed in part.
# pyright: reportUnknownMemberType=false

import contextlib
import itertools
import zlib

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from agent.schema import FaultError
from compress import codebook, coding, huffman

ENTRIES = 8


def model_of(weights: NDArray[np.float32]) -> onnx.ModelProto:
    """A layer with these weights, and a bias."""
    rows, columns = weights.shape
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="a name", doc_string="a sentence")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, rows])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, columns])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.linspace(-1, 1, columns, dtype=np.float32), "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def sparse(rows: int, columns: int, density: float) -> NDArray[np.float32]:
    """Weights of which a share is not zero."""
    rng = np.random.default_rng(3)
    return (rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < density)).astype(np.float32)


def coded(weights: NDArray[np.float32], *, half: bool = False) -> coding.CodedFile:
    return coding.encode(model_of(weights), {"w": coding.Shared(*codebook.share(weights, ENTRIES))}, half=half)


def weights_of(model: onnx.ModelProto) -> dict[str, NDArray[np.float32]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def sealed(body: bytes) -> bytes:
    """The body with a checksum that is right, as an attacker would write it."""
    return body + zlib.crc32(body).to_bytes(4, "little")


FILE = coded(sparse(20, 15, 0.2)).content


@given(st.lists(st.integers(0, 40), min_size=1, max_size=300))
def test_huffman_codes_are_read_back_and_near_the_entropy(symbols: list[int]) -> None:
    """Any symbols come back; the codes take less than a bit a symbol more than their entropy, as Huffman's must."""
    counts = np.bincount(symbols, minlength=41)
    table = huffman.lengths(counts.tolist())
    packed = huffman.pack(np.array(symbols), table)
    assert huffman.unpack(packed, table, len(symbols)).tolist() == symbols
    shares = counts[counts > 0] / len(symbols)
    entropy = -float(shares @ np.log2(shares))
    assert entropy <= float(shares @ table[counts > 0]) < entropy + 1 + 1e-9


def test_huffman_lengths_of_a_known_example() -> None:
    """Frequencies 5, 9, 12, 13, 16, 45 give 4, 4, 3, 3, 3 and 1 bits: the textbook's tree (Cormen et al., Introduction to Algorithms)."""
    assert huffman.lengths([5, 9, 12, 13, 16, 45]).tolist() == [4, 4, 3, 3, 3, 1]


def test_huffman_codes_are_no_longer_than_half_a_byte_says() -> None:
    """Fibonacci counts, whose tree is the deepest there is, are coded in at most 15 bits, and come back."""
    counts = [1, 1]
    while len(counts) < 30:
        counts.append(counts[-1] + counts[-2])
    table = huffman.lengths(counts)
    assert table.max() == huffman.MAX_LENGTH
    symbols = np.arange(30)
    assert huffman.unpack(huffman.pack(symbols, table), table, 30).tolist() == symbols.tolist()


def test_long_streams_are_read_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes that lie across the edges of blocks are read whole."""
    monkeypatch.setattr(huffman, "BLOCK", 3)
    symbols = np.random.default_rng(0).geometric(0.3, 2000) % 23
    table = huffman.lengths(np.bincount(symbols, minlength=23).tolist())
    assert np.array_equal(huffman.unpack(huffman.pack(symbols, table), table, 2000), symbols)


def test_k_means_finds_the_clusters() -> None:
    """Two heaps of numbers have their means as codebook; zeros are no part of either and stay zero."""
    centres, labels = codebook.share(np.array([[0.0, 1.0, 1.5], [-4.0, 0.0, -5.0]]), 2)
    assert centres.tolist() == [-4.5, 1.25]
    assert labels.tolist() == [0, 2, 2, 1, 0, 1]
    assert codebook.values(centres, labels).tolist() == [0.0, 1.25, 1.25, -4.5, 0.0, -4.5]


def test_k_means_is_as_good_as_the_best_split() -> None:
    """On few numbers that are well apart the squared error is that of the best of all ways to split them into three runs."""
    numbers = np.array([-3.0, -2.9, -2.7, 0.5, 0.6, 2.0, 2.2, 2.3])
    cuts = itertools.combinations(range(1, 8), 2)
    best = min(sum(float(((run - run.mean()) ** 2).sum()) for run in np.split(numbers, list(cut))) for cut in cuts)
    found = codebook.values(*codebook.share(numbers, 3))
    assert float(((numbers - found) ** 2).sum()) == pytest.approx(best)


def test_few_values_are_kept_exactly() -> None:
    """Weights that share already, as after trained quantisation, are not clustered again."""
    values = np.array([0.1, -0.25, 7.0, 1e-20], np.float32)
    weights = values[np.random.default_rng(0).integers(0, 4, 100)]
    assert np.array_equal(codebook.values(*codebook.share(weights, 4)), weights)


@pytest.mark.parametrize("density", [0.0, 0.02, 0.3, 1.0])
@pytest.mark.parametrize("half", [False, True])
def test_what_is_written_is_read_back(density: float, half: bool) -> None:
    """At every density the file gives the clustered weights bit for bit (rounded to float16 where asked for), and a valid model."""
    weights = sparse(40, 30, density)
    shared = codebook.values(*codebook.share(weights, ENTRIES)).reshape(weights.shape)
    read = coding.decode(coded(weights, half=half).content, "m.fmdc")
    onnx.checker.check_model(read, full_check=True)
    expected = {"w": shared, "b": np.linspace(-1, 1, 30, dtype=np.float32)}
    for name, array in weights_of(read).items():
        assert np.array_equal(array, expected[name].astype(np.float16).astype(np.float32) if half else expected[name]), name
    assert not read.graph.node[0].name
    assert read.graph.node[0].output == ["y"]


def test_what_float16_cannot_hold_is_float32() -> None:
    """A weight beyond 65,504 does not become infinite."""
    weights = sparse(4, 4, 1.0)
    weights[0, 0] = 1e6
    assert weights_of(coding.decode(coded(weights, half=True).content, "m"))["w"][0, 0] == 1e6


def test_it_is_small() -> None:
    """Of 100,000 weights a tenth, with 32 values: below 9.5 bits for each that is left, its position included."""
    weights = sparse(400, 250, 0.1)
    file = coding.encode(model_of(weights), {"w": coding.Shared(*codebook.share(weights, 32))}, half=True)
    assert 8 * file.tensor_bytes["w"] / np.count_nonzero(weights) < 9.5
    assert file.weights == 100_250
    assert len(file.content) == len(coding.MAGIC) + 1 + file.graph_bytes + sum(file.tensor_bytes.values()) + 4


@settings(max_examples=100, deadline=None)
@given(st.integers(0, len(FILE) - 1), st.integers(1, 255))
def test_an_altered_file_is_refused(at: int, change: int) -> None:
    """Whatever byte differs, the file is refused with its name."""
    altered = bytearray(FILE)
    altered[at] ^= change
    with pytest.raises(FaultError, match=r"m\.fmdc") as refusal:
        coding.decode(bytes(altered), "m.fmdc")
    assert refusal.value.fault.code == "bad_model"


def test_a_file_cut_off_anywhere_is_refused() -> None:
    """At every length below its own, with its checksum made right too."""
    for end in range(len(FILE)):
        for content in (FILE[:end], sealed(FILE[: min(end, len(FILE) - 5)])):
            with pytest.raises(FaultError, match="m: "):
                coding.decode(content, "m")


@settings(max_examples=200, deadline=None)
@given(st.integers(len(coding.MAGIC), len(FILE) - 5), st.binary(min_size=1, max_size=8))
def test_a_hostile_file_is_refused_or_makes_a_model(at: int, patch: bytes) -> None:
    """With a right checksum nothing else than a declared fault or a model of the announced sizes comes out."""
    body = FILE[:at] + patch + FILE[at + len(patch) : -4]
    with contextlib.suppress(FaultError):
        for tensor in coding.decode(sealed(body), "m").graph.initializer:
            numpy_helper.to_array(tensor)


def hostile(graph: bytes, records: bytes = b"") -> bytes:
    deflated = zlib.compress(graph)
    size = bytes([128 | len(deflated) & 127, len(deflated) >> 7])
    return sealed(coding.MAGIC + size + deflated + records)


def announced(*dims: int) -> bytes:
    """A graph with an initializer of these sizes and no values."""
    model = model_of(sparse(2, 2, 1.0))
    for tensor in model.graph.initializer:
        tensor.ClearField("raw_data")
    model.graph.initializer[0].dims[:] = dims
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no coded model"),
        (hostile(bytes(coding.MAX_GRAPH_BYTES + 1)), "too large"),
        (hostile(announced(1 << 40, 1 << 20)), "more than"),
        (hostile(announced(-1, -4)), "sizes below zero"),
        (hostile(announced(2, 2)), "ends too early"),
        (hostile(announced(2, 2), b"\x09"), "no layout 9"),
        (hostile(announced(2, 2), b"\x02\x00" + bytes(4) + b"\x3f"), "63 bits"),
        (hostile(announced(2, 2), b"\x01\x00" + bytes(4) + b"\x11\xff\xff\xff\xff\xff"), "too many digits"),
        (hostile(announced(2, 2), b"\x02\x00" + bytes(4) + b"\x02\x02\x00\x01\x01\x00\x10\x01\x00"), "beyond the end"),
        (hostile(announced(2, 2), b"\x01\x01" + bytes(8) + b"\x11\x10\x01\x00"), "no code"),
    ],
)
def test_what_a_file_announces_is_checked(content: bytes, reason: str) -> None:
    """Sizes, layouts and codes that make no sense are refused before memory is taken for them."""
    with pytest.raises(FaultError, match=reason):
        coding.decode(content, "m")


def test_a_file_never_leads_to_another_one() -> None:
    """An initializer that points to a file outside is refused."""
    model = model_of(sparse(2, 2, 1.0))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(FaultError, match="no external weights"):
        coding.decode(hostile(model.SerializeToString()), "m")


def test_a_model_beyond_the_bounds_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the reader would refuse is refused by the writer."""
    monkeypatch.setattr(coding, "MAX_WEIGHTS", 10)
    with pytest.raises(FaultError, match="larger than a coded file may be"):
        coded(sparse(4, 4, 1.0))
