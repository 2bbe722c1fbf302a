"""The inventory: which devices there are, how to reach them and what to expect of them, as a person wrote it down."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo, WithJsonSchema, model_validator

import backends
from agent import sensors
from controller import redaction, strict, yamlfile
from controller.hostkeys import parse_pin
from controller.strict import FilePath, Name, Record, UniqueNames, Version, nearest, quoted

BACKENDS = tuple(dict.fromkeys((*backends.NAMES, "edgetpu", "tensorrt")))
HOST_KEY_KINDS = ("ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-rsa")

Kind = Literal["local", "generic", "raspberry-pi", "jetson-nano", "jetson", "ncs2", "coral-usb", "coral-pcie", "coral-dev-board"]
Boundary = Literal["wall", "board", "soc", "rail", "stick", "none"]


_NO_USER = r"""\s:@/'"`;&<>|(){}$"""  # ssh's own commands may have the user's name in them


def known_backends() -> tuple[str, ...]:
    """The backends that may be named: ours, those to come, and those of installed plug-ins."""
    return (*BACKENDS, *(entry.name for entry in metadata.entry_points(group="fleetmark.backends")))


def check_backend(name: str) -> str:
    """`name`, which must be a backend's; raises ValueError."""
    if name not in BACKENDS and name not in known_backends():
        raise ValueError(f"no backend is called {quoted(name)}; {nearest(name, known_backends())}")
    return name


def _check_host(text: str) -> str:
    if "@" in text:
        raise ValueError("a host expected, without the user: write `user: NAME` beside it")
    if text.count(":") == 1:
        raise ValueError("a host expected, without the port: write `port: NUMBER` beside it")
    if not re.fullmatch(r"[A-Za-z0-9_:][A-Za-z0-9._:%-]*", text):
        raise ValueError(f"{quoted(text)} is not a host name, an address or an alias of ~/.ssh/config")
    return text


def _check_jump(text: str) -> str:
    hop = rf"([^{_NO_USER},-][^{_NO_USER},]*@)?([A-Za-z0-9_][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\])(:\d{{1,5}})?"
    if not re.fullmatch(f"{hop}(,{hop})*", text):
        raise ValueError("[user@]host[:port] expected, several with a comma between them")
    return text


def _check_no_option(text: str) -> str:
    if text.startswith("-"):
        raise ValueError(f"{quoted(text)} begins as an option does")
    return text


def _check_host_key(text: str) -> str:
    kind = parse_pin(text).kind
    if kind not in HOST_KEY_KINDS:
        raise ValueError(f"{quoted(kind)} is no kind of host key; {nearest(kind, HOST_KEY_KINDS)}")
    return text


def _check_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and " " not in text
    except ValueError:
        good = False
    if not good:
        raise ValueError("http://HOST or https://HOST expected")
    return text


def _check_sensor(name: str) -> str:
    known = (*sensors.NAMES, *sensors.ALIASES)
    if name not in known:
        raise ValueError(f"no power sensor is called {quoted(name)}; {nearest(name, known)}")
    return name


def _check_driver(name: str) -> str:
    if name not in sensors.METERS:
        raise ValueError(f"no meter has the driver {quoted(name)}; {nearest(name, sensors.METERS)}")
    return name


def _find_token(token: str, info: ValidationInfo) -> str:
    kind, _, where = token.partition(":")
    return f"file:{strict.resolve(where, info)}" if kind == "file" else token


def _find_tokens(env: Mapping[str, str], info: ValidationInfo) -> Mapping[str, str]:
    return {name: _find_token(value, info) if redaction.is_secret_name(name) else value for name, value in env.items()}


def _check_meter(name: str, info: ValidationInfo) -> str:
    if isinstance(info.context, strict.Context) and name not in (known := info.context.document.names("meters")):
        raise ValueError(f"no meter is called {quoted(name)} under `meters`; {nearest(name, known)}")
    return name


def _check_group(name: str, info: ValidationInfo) -> str:
    if isinstance(info.context, strict.Context) and name in info.context.document.names("devices"):
        raise ValueError(f"{quoted(name)} is a device's name: call the group something else")
    return _check_not_reserved(name)


def _check_not_reserved(name: str) -> str:
    if name in ("all", "kind"):
        raise ValueError(f"`{name}` has a meaning in selectors: choose another name")
    return name


BackendName = Annotated[str, AfterValidator(check_backend), WithJsonSchema({"anyOf": [{"enum": list(BACKENDS)}, {"type": "string"}]})]
FreeName = Annotated[Name, AfterValidator(_check_not_reserved)]
HostKey = Annotated[
    str, AfterValidator(_check_host_key), WithJsonSchema({"type": "string", "pattern": "^[a-z0-9-]+ SHA256:[A-Za-z0-9+/]{43}$"})
]
Word = Annotated[str, Field(min_length=1)]


class SshDefaults(Record):
    """How to log in. What is not said here, ~/.ssh/config says: User, Port, IdentityFile, ProxyJump, Include."""

    user: Annotated[str, Field(pattern=f"^[^{_NO_USER}-][^{_NO_USER}]*$")] | None = None
    """Who to log in as."""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """The SSH server's port."""
    jump: Annotated[str, AfterValidator(_check_jump)] | None = None
    """The jump host, [user@]host[:port]; several with a comma between them, the nearest to this machine first."""
    jump_host_key: HostKey | None = None
    """The only key that the last jump host may present: "ssh-ed25519 SHA256:..."."""
    connect_timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """How long to wait for a connection, in seconds."""
    config: FilePath | None = None
    """A file to read in place of ~/.ssh/config."""


class Ssh(SshDefaults):
    """How to reach a device by SSH, with keys and the SSH agent only."""

    host: Annotated[str, AfterValidator(_check_host)]
    """A name, an address or an alias of ~/.ssh/config."""
    host_key: HostKey | None = None
    """The only key that the device may present: "ssh-ed25519 SHA256:..."; without it known_hosts decides."""


class AgentSettings(Record):
    """How the agent runs on the device."""

    python: Annotated[Word, AfterValidator(_check_no_option)] | None = None
    """Its interpreter, Python 3.6 or later; by default the python3 of the PATH."""
    cache_dir: Annotated[Word, AfterValidator(_check_no_option)] = "~/.cache/fleetmark"
    """The only folder on the device that fleetmark writes to."""
    env: Annotated[Mapping[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], str], AfterValidator(_find_tokens)] = Field(
        default_factory=dict[str, str]
    )
    """Environment variables of the measured process; that of a secret (..._TOKEN, ..._PASSWORD) says where it is: env:NAME or file:PATH."""


class Settle(Record):
    """When a launch may begin: below this temperature, or after this time at the latest."""

    max_temp_c: Annotated[float, Field(gt=0, le=125)] | None = None
    """In degrees Celsius; without it no launch waits."""
    timeout_s: Annotated[float, Field(ge=0, le=86400)] = 600.0
    """In seconds."""


class Power(Record):
    """The device's own power sensor."""

    driver: Annotated[Name, AfterValidator(_check_sensor)]
    """Which sensor: jetson, ina226, pi5_pmic, rapl, nvml, command, csv, ..."""
    boundary: Boundary | None = None
    """What it sees; by default what the sensor says of itself. Values of different boundaries are never compared."""
    rail: Word | None = None
    """Of several INA monitors, the one with this label or hwmon folder, such as hwmon3."""
    gpu: Annotated[int, Field(ge=0)] | None = None
    """Of several NVIDIA GPUs, the one with this number."""
    command: tuple[Word, ...] | None = None
    """For `driver: command`: a program on the device, with its arguments, that prints watts."""
    path: Word | None = None
    """For `driver: csv`: a log on the device that grows by a line a reading."""
    column: Word | None = None
    """The log's column with the power, if its header does not show which."""


class Meter(Record):
    """A power meter outside of the devices, read on this machine; devices that share one never run at the same time."""

    driver: Annotated[Name, AfterValidator(_check_driver)]
    """Which meter: shelly (every generation) or tasmota."""
    url: Annotated[str, AfterValidator(_check_url)]
    """Where it answers."""
    boundary: Boundary = "wall"
    """What it sees. Values of different boundaries are never compared."""
    channel: Annotated[int, Field(ge=0, le=99)] = 0
    """Of several switches of a Shelly, the one with this number."""
    user: Annotated[str, Field(pattern=r'^[^\s:"\\]+$')] = "admin"
    """Who logs in, where it wants that."""
    token: Annotated[str, Field(pattern=r"^(env:[A-Za-z_]\w*|file:\S.*)$"), AfterValidator(_find_token)] | None = None
    """Where its password is: env:NAME or file:PATH."""
    period_s: Annotated[float, Field(ge=0.1, le=10)] = sensors.METER_PERIOD_S
    """How often it measures; a launch's window has twenty of these periods at least, and the device idles for ten before and after."""


class Usb(Record):
    """The port that a stick is plugged into."""

    path: Annotated[str, Field(pattern=r"^\d+-\d+(\.\d+)*$")]
    """The name of the port under /sys/bus/usb/devices, such as 2-1.3."""
    min_speed_mbps: Annotated[float, Field(gt=0)] | None = None
    """The speed that it should have at least, in megabits per second: 480 is USB 2, 5000 is USB 3."""


class Expect(Record):
    """What doctor and run warn of when the board says otherwise."""

    power_mode: Word | None = None
    """The name of the Jetson's power mode, such as MAXN."""
    clock_mhz: Annotated[float, Field(gt=0)] | None = None
    """The clock that its processor keeps under load; a launch in which it stays more than 3 % below is throttled."""


class Price(Record):
    """What a device costs."""

    amount: Annotated[float, Field(ge=0)]
    """In units of the currency."""
    currency: Annotated[str, Field(pattern="^[A-Z]{3}$")]
    """ISO 4217: EUR, USD, ..."""


class _Settings(Record):
    """What a device and `defaults` both may say."""

    agent: AgentSettings = AgentSettings()
    settle: Settle = Settle()
    backends: Annotated[tuple[BackendName, ...], UniqueNames] = ()
    """The runtimes to measure; none given: all that the device offers."""
    power: Power | None = None
    tags: Mapping[FreeName, Word] = Field(default_factory=dict[str, str])
    """Words to select by: `room: lab2` is selected by room=lab2."""
    groups: Annotated[tuple[Annotated[Name, AfterValidator(_check_group)], ...], UniqueNames] = ()
    """Names to select by."""
    expect: Expect = Expect()


class Defaults(_Settings):
    """What holds for every device that does not say otherwise; mappings are merged, lists replaced. `ssh` is for devices that have one."""

    ssh: SshDefaults = SshDefaults()


class _Entry(_Settings):
    """A device as it stands in the file."""

    kind: Kind
    """What it is; `local` is this machine."""
    ssh: Ssh | None = None
    meter: Annotated[str, AfterValidator(_check_meter)] | None = None
    """The name of the meter that it is plugged into."""
    usb: Usb | None = None
    price: Price | None = None
    compile_host: bool = False
    """Whether it has edgetpu_compiler."""
    enabled: bool = True
    """Whether it is a target of benchmarks."""

    @model_validator(mode="after")
    def _check_ssh(self) -> Self:
        if (self.kind == "local") == (self.ssh is not None):
            raise ValueError("`kind: local` is this machine and has no `ssh`" if self.ssh else "`ssh` is missing: how is it reached?")
        return self


class Device(_Entry):
    """A device with its name, the defaults filled in; `ssh` is None for this machine, no `backends` are all that it offers."""

    name: FreeName


class _File(Record):
    """The inventory of fleetmark: every device, how it is reached, and what to expect of it. Units are in the names of the keys."""

    version: Version
    """The version of this format, 1."""
    defaults: Defaults = Defaults()
    meters: Mapping[Name, Meter] = Field(default_factory=dict[str, Meter])
    """Power meters outside of the devices, by name."""
    devices: Mapping[FreeName, _Entry] = Field(default_factory=dict[str, _Entry])
    """The devices by name."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """An inventory that was read; `devices` in the file's order, with the defaults filled in."""

    version: int
    defaults: Defaults
    meters: Mapping[str, Meter]
    devices: Mapping[str, Device]
    path: Path


def load(path: Path) -> Inventory:
    """Give the inventory in the file; raises ConfigError with every problem that is in it."""
    return parse(path, yamlfile.text(path))


def parse(path: Path, text: str) -> Inventory:
    """Give the inventory in `text` as if it stood in the file; raises as `load`."""
    file = strict.validate(yamlfile.parse(path, text), _File)
    devices = {name: _device(name, entry, file.defaults) for name, entry in file.devices.items()}
    for device in devices.values():
        redaction.learn_variables(device.agent.env)
    return Inventory(file.version, file.defaults, file.meters, devices, path)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of the file, for editors."""
    return _File.model_json_schema()


def _device(name: str, entry: _Entry, defaults: Defaults) -> Device:
    given = entry.model_dump(exclude_unset=True)
    shared = defaults.model_dump(exclude_unset=True, exclude={"ssh"} if entry.ssh is None else set())
    return Device(name=name, **_merge(shared, given))


def _merge(shared: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    merged = {**shared, **given}
    for key in shared.keys() & given.keys():
        if isinstance(shared[key], dict) and isinstance(given[key], dict):
            merged[key] = _merge(shared[key], given[key])
    return merged
