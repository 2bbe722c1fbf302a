"""No text of an inventory, a suite or a device becomes a command: each remote command, with hostile words, gives its program just these."""

import ast
import json
import os
import posixpath
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sshd import unavailable

from agent.schema import FaultError
from compress.records import Compiler
from controller import compile_host, provision, shellwords, sshconfig
from controller.conversation import BOOTSTRAP
from controller.deploy import build_zipapp
from controller.inventory import AgentSettings, Device, Ssh
from controller.local import LocalStreams
from controller.remote import Remote
from controller.sshconfig import Target
from controller.transport import LocalTransport

CANARY = "canary"
SHELLS = ("sh", "bash", "dash", "fish", "tcsh", "csh", "zsh")
INJECTIONS = (
    f"$(touch {CANARY})",
    f"`touch {CANARY}`",
    f"; touch {CANARY} #",
    f"'; touch {CANARY}; '",
    f'"; touch {CANARY}; "',
    f"\n touch {CANARY}\n",
    f"| touch {CANARY}",
    f"&& touch {CANARY}",
    f">{CANARY}",
    f"\\'; touch {CANARY} #",
    f"!touch {CANARY}",
    f"{{a,b}} && touch {CANARY}",
    f"(touch {CANARY})",
    f"-oProxyCommand=touch {CANARY}",
    "--version",
    "-c",
    "--",
    "-",
    "!!",
    "!$ ^a^b^",
    "\\0047\\047\\x27%b%s",
    "$'\\047'",
    "%h %r %n %%",
    "*?[a-z]",
    "~root",
    "\udcff\udc80",  # bytes that are not UTF-8, as Python holds them
    "\u2028\u202e\ufeffé☂",
    "\x01\x1b[2J\x7f\r\t",
    "x" * 20_000,
    "",
)
WORDS = st.one_of(
    st.sampled_from(INJECTIONS),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40),
    st.tuples(st.sampled_from(INJECTIONS), st.text("'\"\\`$;&|<>(){}!#~*?-= \n%", max_size=12)).map("".join),
    st.binary(max_size=20).map(lambda raw: os.fsdecode(raw.replace(b"\0", b""))),
)
PRINTABLE = WORDS.filter(str.isprintable)  # all that a YAML file may hold here
UNICODE = WORDS.filter(lambda text: not any("\ud800" <= character <= "\udfff" for character in text))
NAMES = WORDS.map(lambda text: text.replace("/", ":")).filter(lambda name: name not in ("", ".", "..") and len(os.fsencode(name)) < 200)
QUICK = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SLOW = settings(QUICK, max_examples=4)  # several programs each
EVERY = "".join(text for text in INJECTIONS if len(text) < 100 and "\udcff" not in text)
A_NAME = "".join(INJECTIONS[:9]).replace("/", ":")

PROGRAM = """\
#!{python} -I
# A fake program of a device: notes its words; as an interpreter it says that the agent is whole and serves until its input ends.
import json, os, sys
with open({noted!r}, "ab") as file:
    file.write(json.dumps([word.encode("utf-8", "surrogateescape").hex() for word in sys.argv]).encode() + b"\\n")
if "runpy" in "".join(sys.argv[3:4]):
    print(json.dumps({{"python": [3, 11, 0], "present": True, "error": "", "root": {root!r}}}), flush=True)
    sys.stdin.read()
elif "cancel" in sys.argv:
    print(json.dumps({{"v": 1, "ok": {{}}}}))
elif "tensorrt" in "".join(sys.argv[3:4]):
    print("3.6.9 True")
elif "--version" in sys.argv:
    print("Edge TPU Compiler version 16.0.384591198")
"""


class ThroughShell(LocalTransport):
    """This machine, where a command line is run as sshd does it: by the user's login shell."""

    def __init__(self, shell: str) -> None:
        super().__init__("device")
        self.shell = shell

    def _start(self, line: str) -> LocalStreams:
        return LocalStreams(f"exec {self.shell} -c {_for_sh(line)}", self.timeouts.close_s)


def _for_sh(line: str) -> str:
    return "'" + line.replace("'", "'\"'\"'") + "'"


class Lab:
    """A folder in which fake programs note their words; `wanted` ones are compared with those that came."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.noted = folder / "noted"
        self.count = 0

    def program(self, name: str, root: str = "/nowhere") -> Path:
        """A fake program called `name`, in a new folder."""
        self.count += 1
        path = self.folder / f"bin{self.count}" / name
        path.parent.mkdir()
        path.write_text(PROGRAM.format(python=sys.executable, noted=str(self.noted), root=root))
        path.chmod(0o700)
        return path

    def came(self) -> list[list[str]]:
        """The words of each program that was run, the first of which is a path."""
        lines = self.noted.read_text().splitlines() if self.noted.exists() else []
        self.noted.unlink(missing_ok=True)
        return [[os.fsdecode(bytes.fromhex(word)) for word in json.loads(line)] for line in lines]

    def check(self) -> None:
        """Nothing was run beside the programs: there is no canary, here or in any folder of theirs."""
        assert not [path for path in self.folder.rglob("*") if path.name == CANARY]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    """A lab that is the current folder."""
    monkeypatch.chdir(tmp_path)
    made = Lab(tmp_path)
    yield made
    made.check()


def installed(shell: str) -> str:
    if shutil.which(shell) is None:
        unavailable(f"no {shell}: install it")
    return shell


def allow(error: FaultError, *codes: str) -> None:
    """A refusal has one of these codes."""
    assert error.fault.code in codes, error


# Each command


@pytest.mark.parametrize("shell", [shell for shell in SHELLS if shell in ("sh", "bash", "tcsh", "fish") or shutil.which(shell)])
@QUICK
@given(words=st.lists(WORDS, min_size=1, max_size=8))
@example(words=[text for text in INJECTIONS if len(text) < 100])
def test_words_are_words_in_every_login_shell(shell: str, lab: Lab, words: list[str]) -> None:
    """Whatever a word holds, a program gets it as it is, and the shell finds no command in it."""
    if sum(map(len, words)) < 25_000:
        done = ThroughShell(installed(shell)).run(["printf", "%s\\0", *words], timeout_s=60)
        assert done.stdout == b"".join(os.fsencode(word) + b"\0" for word in words)
        lab.check()


@pytest.mark.parametrize("shell", ["sh", "tcsh", "fish"])
@SLOW
@given(name=NAMES, cache_dir=WORDS, root=WORDS)
@example(name=A_NAME, cache_dir=EVERY, root=EVERY)
def test_an_interpreter_and_folders_of_any_name_are_just_that(shell: str, lab: Lab, name: str, cache_dir: str, root: str) -> None:
    """agent.python, agent.cache_dir, and the folder that a device names, are one word each of the two commands that start the agent."""
    python, agent, root = str(lab.program(name, f"/{root}")), build_zipapp(), f"/{root}"
    remote = Remote(ThroughShell(installed(shell)), "device", python, cache_dir)
    bootstrap = ["-I", "-c", BOOTSTRAP, cache_dir, agent.name, agent.sha256, str(len(agent.content)), "300"]
    cancel = ["-I", posixpath.join(root, agent.name), "cancel", "--cache", root]
    try:
        remote.cancel("launch")
    except FaultError as error:
        allow(error, "protocol", "env_missing")
    finally:
        remote.close()
    came = lab.came()
    assert came[:1] in ([], [[python, *bootstrap]])
    assert came[1:] in ([], [[python, *cancel]])
    assert came or len(cache_dir) > 10_000
    lab.check()


@QUICK
@given(name=NAMES)
@example(name=A_NAME)
def test_files_of_any_name_are_put_and_fetched(lab: Lab, name: str) -> None:
    """A path is one word of what writes and of what reads a file."""
    path = lab.folder / "files" / name
    path.parent.mkdir(exist_ok=True)
    transport = ThroughShell("sh")
    transport.put(b"content", str(path))
    assert transport.get(str(path), max_bytes=10) == b"content"
    assert os.listdir(os.fsencode(path.parent)) == [os.fsencode(name)]
    path.unlink()
    lab.check()


@QUICK
@given(home=WORDS)
@example(home=EVERY)
def test_a_home_of_any_name_is_that(lab: Lab, home: str) -> None:
    """What a device has as HOME is a path or refused."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HOME", f"/{home}")
        try:
            assert ThroughShell("sh").home() == f"/{home}"
        except FaultError as error:
            allow(error, "protocol")
    lab.check()


@SLOW
@given(text=UNICODE)
@example(text=EVERY)
def test_a_compile_host_gets_its_folder_as_one_word(lab: Lab, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """mkdir, edgetpu_compiler and rm take agent.cache_dir as it is written; what they made is gone afterwards."""
    program = lab.program("edgetpu_compiler")
    cache_dir = f"{lab.folder}/cache/{text.replace('..', '::')}"
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(compile_host, "connect", lambda *_: ThroughShell("sh"))
    monkeypatch.setattr(shutil, "which", lambda _: None)
    host = Device(name="host", kind="generic", ssh=Ssh(host="host"), agent=AgentSettings(cache_dir=cache_dir))
    compiler = compile_host.find([host])
    assert isinstance(compiler, Compiler)
    (lab.folder / "model").write_bytes(b"model")
    try:
        compiler.run(lab.folder / "model")
    except FaultError as error:
        allow(error, "compile_fail")
    for words in lab.came()[1:]:
        assert words[1:3] == ["-s", "-o"]
        assert posixpath.dirname(words[3]) == cache_dir.rstrip("/") or posixpath.dirname(words[3]) == cache_dir
        assert words[4] == f"{words[3]}/model.tflite"
    assert not list(lab.folder.rglob("compile-*"))
    lab.check()


@SLOW
@given(name=NAMES)
@example(name=A_NAME)
def test_an_interpreter_that_a_device_names_is_asked_as_one_word(lab: Lab, name: str) -> None:
    """The path of a Python, which only the device knows, is the program that is asked for TensorRT's bindings."""
    python = str(lab.program(name))
    found: Any = SimpleNamespace(bits=64, python="3.11.2", python_path=python, machine="aarch64", glibc="2.27")
    remote: Any = SimpleNamespace(transport=ThroughShell("sh"), interpreters=())
    choice = provision.choose(Device(name="nano", kind="jetson-nano", ssh=Ssh(host="nano")), "tensorrt", {}, found, remote)
    assert choice.python in ("", python)
    assert [python, "-I", "-c", provision.LOOK] in lab.came()
    lab.check()


@pytest.mark.parametrize("root", ["/a\0b", "/\ud800", "/" + "x" * 200_000, "relative", ""])
def test_a_folder_that_no_command_can_hold_is_refused(lab: Lab, root: str) -> None:
    """A device that names its agent's folder so is told that, as a fault."""
    remote = Remote(ThroughShell("sh"), "device", str(lab.program("python", root)), "cache")
    with pytest.raises(FaultError) as caught:
        remote.cancel("launch")
    assert caught.value.fault.code in ("protocol", "env_missing")
    remote.close()


@pytest.mark.parametrize("argv", [["-a"], ["--"], ["-c", "touch canary"], ["a\0b"], []])
def test_what_is_no_program_is_no_command(lab: Lab, argv: list[str]) -> None:
    """A program whose name begins as an option does would be one of the shell's own exec."""
    with pytest.raises(ValueError, match="command line"):
        shellwords.wrap(argv)
    with pytest.raises(FaultError):
        ThroughShell("sh").run(argv, timeout_s=60)


@pytest.mark.parametrize("digits", [b"9" * 5000, b"9" * 10, b"1 2", b"-1", b"0x1"])
def test_a_process_group_that_no_system_has_is_none(digits: bytes) -> None:
    """What stands in the way of the marker's number is another line of the login shell's."""
    assert shellwords.process_group(shellwords.MARKER.encode() + b" " + digits + b"\n") is None


# ssh's own configuration


@QUICK
@given(host=WORDS, user=st.none() | WORDS, port=st.none() | st.integers(1, 65535))
def test_ssh_is_asked_for_a_host_and_a_user_as_they_are(lab: Lab, host: str, user: str | None, port: int | None) -> None:
    """`ssh -G` gets both as one word each and behind `--`; what its own commands would hand to a shell is refused."""
    fake = lab.folder / "ssh"
    if not fake.exists():
        shutil.move(lab.program("ssh"), fake)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PATH", f"{lab.folder}:{os.environ['PATH']}")
        try:
            sshconfig.ask_ssh(Target(host, user, port), None)
        except FaultError as error:
            allow(error, "unreachable")
    options = [*(["-l", user] if user is not None else []), *(["-p", str(port)] if port is not None else [])]
    assert lab.came() in ([], [[str(fake), "-G", *options, "--", host]])


@pytest.mark.parametrize("user", INJECTIONS)
def test_a_user_does_not_come_into_the_hands_of_match_exec(lab: Lab, user: str) -> None:
    """The real ssh, with a configuration that puts host and user into a command, runs no command of theirs."""
    (lab.folder / "config").write_text('Match exec "true %n %h %r %u"\n  Port 2222\n')
    try:
        found = sshconfig.ask_ssh(Target("host", user), lab.folder / "config")
    except FaultError as error:
        allow(error, "unreachable")
    else:
        assert found["user"] == [user]


@settings(max_examples=60, deadline=None)
@given(host=PRINTABLE, user=PRINTABLE, hop=PRINTABLE)
def test_an_inventory_takes_no_name_that_ssh_is_not_asked_for(host: str, user: str, hop: str) -> None:
    """Whatever host, user and jump host the inventory's loader lets through are names for `ssh -G` too."""
    accepted: list[Target] = []
    for words in ({"host": host}, {"host": "h", "user": user}, {"host": "h", "jump": f"{hop}@gate"}, {"host": "h", "jump": hop}):
        with suppress(ValidationError):
            ssh = Ssh.model_validate(words)
            accepted += [Target(ssh.host, ssh.user), *map(sshconfig.parse_target, ssh.jump.split(",") if ssh.jump else [])]
    for target in accepted:
        assert not set(target.host + (target.user or "")) & sshconfig.SHELLS_OWN
        assert not target.host.startswith("-")
        assert not (target.user or "").startswith("-")


@pytest.mark.parametrize("key", ["python", "cache_dir"])
def test_an_inventory_takes_no_option_for_a_path(key: str) -> None:
    """What begins with a hyphen is neither an interpreter nor a folder."""
    with pytest.raises(ValidationError, match="as an option does"):
        AgentSettings.model_validate({key: "-oProxyCommand=x"})


# None is forgotten

COMMANDS = {
    "controller/base_transport.py": {"_transfer", "exec", "home", "run"},
    "controller/compile_host.py": {"_call", "_fetch", "_run"},
    "controller/conversation.py": {"__init__"},
    "controller/provision.py": {"_with_tensorrt"},
    "controller/remote.py": {"cancel"},
    "controller/sshconfig.py": {"_asked"},
}
"""Every function that gives a device, or ssh, a command: each has a test above."""


def test_every_remote_command_is_tested_here() -> None:
    """A new one is found by its name: add it to COMMANDS, and a test of it above."""
    found: dict[str, set[str]] = {}
    for path in sorted(Path("controller").rglob("*.py")):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.FunctionDef) and any(map(_is_command, ast.walk(function))):
                found.setdefault(str(path), set()).add(function.name)
    assert found == COMMANDS


def _is_command(node: ast.AST) -> bool:
    """Whether a node is transport.run(...) and the like, self.run in a transport, or a call of ssh."""
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    if not is_call or node.func.attr not in ("run", "exec", "put", "get", "_start", "Popen", "check_output"):
        return False
    owner, name = ast.unparse(node.func.value), node.func.attr
    if owner == "subprocess":
        return "ssh" in ast.unparse(node) or "words" in ast.unparse(node)
    return owner.rpartition(".")[2] in ("transport", "_transport") or (owner == "self" and name in ("run", "exec", "_start"))
