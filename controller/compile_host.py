"""Finds edgetpu_compiler on this machine's PATH or on a device that the inventory marks as a compile host, and runs it there."""

import posixpath
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agent.schema import Fault, FaultError
from compress import edgetpu_log
from compress.records import NO_COMPILER, Compiler, CompilerRun
from controller.inventory import Device
from controller.transport import LocalTransport, Transport, connect
from controller.visit import ssh_settings

PROGRAM = "edgetpu_compiler"
HERE = "this machine"
SHORT_S = 60.0
COMPILE_S = 900.0
MAX_TEXT_BYTES = 1 << 20
MAX_MODEL_BYTES = 256 << 20


def find(hosts: Sequence[Device]) -> Compiler | Fault:
    """Give the first compiler that tells its version: the one on the PATH, then those of the compile hosts; or why there is none."""
    places = [_Place(None)] if shutil.which(PROGRAM) else []
    places += [_Place(host) for host in hosts]
    refusals: list[str] = []
    for place in places:
        try:
            return Compiler(place.version(), place.name, place.run)
        except FaultError as error:
            refusals.append(f"{place.name}: {error.fault.message}")
    if not refusals:
        return NO_COMPILER
    return NO_COMPILER._replace(message=f"no {PROGRAM} answers ({'; '.join(refusals)})", next=f"mend that, or {NO_COMPILER.next}")


@dataclass(frozen=True, slots=True)
class _Place:
    """A machine with edgetpu_compiler; this one where `host` is None."""

    host: Device | None

    @property
    def name(self) -> str:
        return self.host.name if self.host else HERE

    def version(self) -> str:
        with self._connected() as transport:
            status, output = _call(transport, ["--version"], SHORT_S)
        if status == 127:
            raise FaultError("compile_fail", f"no {PROGRAM} on the PATH", NO_COMPILER.next)
        return edgetpu_log.version(output)

    def run(self, model: Path) -> CompilerRun:
        """Compile a .tflite in a temporary folder there, which is removed again; raises FaultError `compile_fail`."""
        try:
            with self._connected() as transport:
                return self._run(transport, model)
        except FaultError as error:
            message = f"{PROGRAM} on {self.name}: {error.fault.message}"
            raise FaultError("compile_fail", message, error.fault.next or "try it by hand there", "compile") from error

    def _run(self, transport: Transport, model: Path) -> CompilerRun:
        folder = posixpath.join(self._root(transport), f"compile-{secrets.token_hex(8)}")
        transport.run(["mkdir", "-p", "-m", "700", "--", folder], timeout_s=SHORT_S)
        try:
            source = posixpath.join(folder, "model.tflite")
            transport.put(model, source)
            status, output = _call(transport, ["-s", "-o", folder, source], COMPILE_S)
            log = _fetch(transport, posixpath.join(folder, "model_edgetpu.log"), MAX_TEXT_BYTES) or b""
            compiled = _fetch(transport, posixpath.join(folder, "model_edgetpu.tflite"), MAX_MODEL_BYTES)
            return CompilerRun(status, output, log.decode("utf-8", "replace"), compiled)
        finally:
            with suppress(FaultError):
                transport.run(["rm", "-rf", "--", folder], timeout_s=SHORT_S)

    def _connected(self) -> Transport:
        return connect(self.host.name, ssh_settings(self.host)) if self.host else LocalTransport(HERE)

    def _root(self, transport: Transport) -> str:
        """The agent's cache folder on a device, the usual one for temporary files here."""
        if self.host is None:
            return tempfile.gettempdir()
        folder = self.host.agent.cache_dir
        return posixpath.join(transport.home(), folder[2:]) if folder.startswith("~/") else folder


def _call(transport: Transport, arguments: list[str], timeout_s: float) -> tuple[int, str]:
    """The compiler's exit status, and what it printed on both streams."""
    done = transport.run([PROGRAM, *arguments], timeout_s=timeout_s, max_bytes=MAX_TEXT_BYTES)
    return done.status, done.stdout.decode("utf-8", "replace") + "\n" + done.stderr_tail


def _fetch(transport: Transport, path: str, max_bytes: int) -> bytes | None:
    """The file's content, None where there is no such file that may be fetched."""
    try:
        return transport.get(path, max_bytes=max_bytes)
    except FaultError as error:
        if error.fault.code != "protocol":
            raise
        return None
