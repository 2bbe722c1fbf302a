"""Coral's edgetpu_compiler: what it printed, or the .log that it wrote: where operations run, and memory for parameters. No times."""

from agent.schema import FaultError
from compress import edgetpu_log
from controller.foreign import Reading, Source, one

MEND = "run edgetpu_compiler -s and import what it printed, or the _edgetpu.log beside its output"

_PRINTED = ("Model compiled", "Compilation failed", "Internal compiler error")  # what its output has, and its log has not


def read(source: Source) -> Reading:
    """Give the share of operations on the Edge TPU, and its memory where that is told; raises FleetmarkError."""
    try:
        version = edgetpu_log.version(source.text)
        if any(word in source.text for word in _PRINTED):
            return _printed(source, edgetpu_log.parse(source.text, source.text, 0))
    except FaultError as error:
        raise source.refusal(0, error.fault.message, error.fault.next) from error
    rows = list(edgetpu_log.table(source.text))
    total = sum(row.count for row in rows)
    if not total:
        raise source.refusal(0, "no table of operators", MEND)
    mapped = sum(row.count for row in rows if row.status == edgetpu_log.MAPPED)
    return Reading({"accelerator_operation_share": one(mapped / total)}, details={"version": version, "operations": total})


def _printed(source: Source, told: edgetpu_log.Compilation) -> Reading:
    if not told.operations:
        raise source.refusal(0, "a model without operations", MEND)
    values = {
        "accelerator_operation_share": one(told.operations_on_edgetpu / told.operations),
        "accelerator_memory_bytes": one(float(told.on_chip_used_bytes)),
    }
    about = {"accelerator_memory_bytes": f"parameters kept on the chip; {told.off_chip_bytes} bytes more are streamed to it"}
    details = {"version": told.version, "operations": told.operations, "subgraphs": told.subgraphs, "compile_s": told.compile_s}
    return Reading(values, about=about, details=details)
