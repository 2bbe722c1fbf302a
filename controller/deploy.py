"""Builds the agent zipapp, the same bytes every time."""

import hashlib
import io
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import agent
import backends

MAIN = b"import sys\n\nfrom agent.__main__ import main\n\nsys.exit(main())\n"
EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Zipapp:
    """The agent as one file: its bytes, their sha256, and the name it has on a device."""

    content: bytes
    sha256: str

    @property
    def name(self) -> str:
        """Give the file's name below the agent's folder."""
        return f"agent-{self.sha256[:12]}.pyz"


@cache
def build_zipapp() -> Zipapp:
    """Give the agent with the backends as a zipapp; two builds of the same sources are the same bytes."""
    members = {"__main__.py": MAIN}
    for package in (agent, backends):
        root = Path(package.__path__[0])
        members |= {f"{root.name}/{path.relative_to(root).as_posix()}": path.read_bytes() for path in root.rglob("*.py")}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, EPOCH)
            info.external_attr = 0o644 << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, members[name])
    content = buffer.getvalue()
    return Zipapp(content, hashlib.sha256(content).hexdigest())
