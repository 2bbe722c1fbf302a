"""Where a search begins, by what a device says it is."""

import pytest
from factory_runs import probe

from agent.description import Accelerator, Probe
from compress.advice import MEMORY_SHARE, advise

MB = 1_000_000


def board(cpu: str = "", memory_mb: int = 4000, **accelerator: str) -> Probe:
    """A probe with this processor, and with one accelerator by kind and SM if any."""
    found = [Accelerator(accelerator["kind"], "", "", None, "", {"sm": accelerator.get("sm", "")})] if accelerator else []
    return probe("board")._replace(cpu_model=cpu, memory_bytes=memory_mb * MB, accelerators=found)


@pytest.mark.parametrize(
    ("found", "backends", "names"),
    [
        (board(kind="jetson-gpu", sm="5.3"), ("tensorrt", "onnxruntime"), ["fp16", "prune-50"]),  # the Nano: no INT8 hardware
        (board(kind="jetson-gpu", sm="8.7"), ("tensorrt", "onnxruntime"), ["int8", "fp16"]),
        (board(kind="coral-usb"), ("edgetpu",), ["int8"]),
        (board(kind="ncs2"), ("openvino",), ["fp16"]),
        (board("Cortex-A72", kind="ncs2"), ("onnxruntime", "tflite", "openvino"), ["int8", "prune-50-int8", "lowrank-int8"]),
        (board("Cortex-A76"), ("onnxruntime", "tflite"), ["int8", "int8-dynamic"]),
        (board(""), ("onnxruntime",), ["int8", "int8-dynamic"]),
    ],
)
def test_a_device_gets_the_numbers_that_it_computes_in(found: Probe, backends: tuple[str, ...], names: list[str]) -> None:
    """By its accelerator where that is what is measured, else by its processor; each recipe with a reason."""
    advice = advise(found, backends, 1 * MB)
    assert [one.recipe.name for one in advice] == names
    assert all(one.reason for one in advice)


def test_a_model_too_large_for_the_memory_is_made_to_fit() -> None:
    """In 1 GB a tenth is 100 MB: 90 MB stay as they are, 400 MB fit in int8, of 1,000 MB three fifths have to go too, or all but 4 bit."""
    small = board("Cortex-A53", 1000)
    assert advise(small, ("tflite",), 90 * MB)[0].reason.startswith("Cortex-A53")
    assert advise(small, ("tflite",), 400 * MB)[0].recipe.name == "int8"
    first, second, third = advise(small, ("tflite",), 1000 * MB)[:3]
    assert (first.recipe.steps[0].technique, first.recipe.steps[0].params["ratio"]) == ("prune", 0.6)
    assert (second.recipe.steps[0].technique, second.recipe.steps[0].params["ratio"]) == ("lowrank", 0.6)
    assert third.recipe.name == "int4-weights"
    assert 1000 * MB / 4 * (1 - 0.6) <= MEMORY_SHARE * 1000 * MB
    assert "the float model has 1,000 MB" in first.reason
