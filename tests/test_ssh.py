"""SshTransport against real OpenSSH servers: login shells, host keys, logins, jump hosts, and links that break."""

import os
import re
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from sshd import Sshd, account, free_port, left_since, make_key, public_file, require_root

from agent.schema import Fault, FaultError
from controller.timeouts import Timeouts
from controller.transport import SshSettings, connect, presented_host_key

NASTY = ["", "two words", "it's", '"quoted"', "line\nbreak\n", "!! !x", "$HOME `id`", "back\\slash\\\\", "ünï ☂", "*?[a]{b,c}~", "-n"]
BANNERS = {
    ".bashrc": 'echo Welcome; printf "no newline"; cd /; export group=none LC_ALL=xx IFS=/ CDPATH=/tmp PATH=; set -o noclobber; umask 777',
    ".tcshrc": 'echo "Welcome to csh"; cd /tmp; setenv group none; set noclobber; set verbose; alias cat false',
    ".config/fish/config.fish": 'echo "Welcome to fish"; cd /; set -x group none; function cat; false; end',
}


@pytest.fixture(autouse=True)
def no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent of the person who runs the tests plays no part in them."""
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


def refusal(settings: SshSettings) -> Fault:
    """The fault that connecting ends with; no thread outlives it."""
    before = set(threading.enumerate())
    with pytest.raises(FaultError) as error:
        connect("pi4-a", settings)
    assert not left_since(before)
    return error.value.fault


# Login shells


@pytest.mark.parametrize("shell", ["bash", "tcsh", "fish", "dash"])
def test_a_login_shell_with_a_banner_and_odd_settings_changes_nothing(shared_sshd: Sshd, shell: str) -> None:
    """Banners, cd, exported variables, noclobber, verbose and aliases of bash, tcsh and fish touch neither words nor files."""
    require_root()
    with account(shell, BANNERS) as user, connect("device", shared_sshd.settings(user=user)) as transport:
        printed = transport.run(["/usr/bin/printf", "%s\\0", *NASTY], timeout_s=30).stdout
        assert printed.decode().split("\0")[:-1] == NASTY
        path = f"{transport.home()}/it's a file"
        assert path.startswith(f"/home/{user}/")
        content = bytes(range(256)) * 1000
        transport.put(content[:1000], path)
        transport.put(content, path, offset=1000)
        assert transport.get(path, max_bytes=len(content)) == content


def test_an_account_without_a_login_is_a_clear_fault(shared_sshd: Sshd) -> None:
    """A login shell that ends without running the command is `protocol`, with what it said."""
    require_root()
    with (
        account("/usr/sbin/nologin") as user,
        connect("device", shared_sshd.settings(user=user)) as transport,
        pytest.raises(FaultError) as error,
    ):
        transport.run(["true"], timeout_s=30)
    assert error.value.fault.code == "protocol"
    assert "not available" in error.value.fault.message


# Host keys


def test_the_pinned_key_opens_the_door(shared_sshd: Sshd) -> None:
    """With the right pin the device is reached, and tells which key it presented."""
    with connect("pi4-a", shared_sshd.settings()) as transport:
        assert transport.run(["echo", "hello"], timeout_s=30).stdout == b"hello\n"
        assert transport.description == f"pi4-a (127.0.0.1:{shared_sshd.port})"
        assert transport.host_key == presented_host_key("pi4-a", shared_sshd.settings(host_key=None)) == shared_sshd.host_key


def test_a_changed_key_is_refused_in_the_words_of_the_interface(sshd: Sshd) -> None:
    """A device whose key is not the pinned one: what it presented, what is pinned, what to do; and nothing was logged in to."""
    old = sshd.settings()
    sshd.kill()
    sshd.new_host_key()
    sshd.start()
    fault = refusal(old)
    presented, pinned = sshd.host_key.split()[1], str(old.host_key).split()[1]
    assert fault.code == "host_key"
    assert fault.message == f"refusing to connect to pi4-a (127.0.0.1:{sshd.port}): it presented {presented}, the inventory pins {pinned}"
    assert fault.next == "if you reinstalled it: fleetmark device trust pi4-a\notherwise treat it as a possible interception"
    sshd.kill()
    assert not any("Accepted" in line for line in sshd.log)


def test_only_the_pinned_algorithm_is_negotiated() -> None:
    """Of a server's two keys the pinned one is asked for; a kind that the server has not is refused."""
    server = Sshd(key_type="rsa")
    try:
        second = make_key(server.folder / "second_key", "ecdsa")
        with (server.folder / "sshd_config").open("r+") as config:
            text = config.read()
            config.seek(0)
            config.write(f"HostKey {second}\n{text}")
        server.start()
        with connect("pi4-a", server.settings()) as transport:
            assert transport.host_key == server.host_key
        fault = refusal(server.settings(host_key=server.host_key.replace("ssh-rsa", "ssh-ed25519")))
    finally:
        server.stop()
    assert fault.code == "host_key"
    assert "no host key of the kind ssh-ed25519" in fault.message


def test_without_a_pin_known_hosts_decides(shared_sshd: Sshd, tmp_path: Path) -> None:
    """A known key, also in a hashed file, is believed; unknown, changed and revoked ones are refused."""
    files = tmp_path / "known_hosts"
    config = tmp_path / "config"
    config.write_text(f"UserKnownHostsFile {files}\nGlobalKnownHostsFile /dev/null\nIdentityFile {shared_sshd.client_key}\n")
    settings = shared_sshd.settings(host_key=None, config=config)
    files.write_text(shared_sshd.known_hosts_line)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(files)], check=True, capture_output=True)
    assert "127.0.0.1" not in files.read_text()
    connect("pi4-a", settings).close()

    files.write_text("")
    fault = refusal(settings)
    assert (fault.code, shared_sshd.host_key in fault.message) == ("host_key", True)
    assert fault.next.endswith("fleetmark device trust pi4-a")

    changed = public_file(make_key(tmp_path / "key")).read_text()
    files.write_text(f"[127.0.0.1]:{shared_sshd.port} {changed}")
    assert "possible interception" in refusal(settings).next

    files.write_text(f"{shared_sshd.known_hosts_line}@revoked * {shared_sshd.known_hosts_line.split(' ', 1)[1]}")
    assert "@revoked" in refusal(settings).message


def test_a_malformed_pin_connects_to_nothing(shared_sshd: Sshd) -> None:
    """A pin that cannot be read is a refusal, not a missing pin."""
    assert refusal(shared_sshd.settings(host_key="SHA256:abc")).code == "host_key"


# Logins


def test_an_ssh_config_alias_leads_to_the_device(shared_sshd: Sshd, tmp_path: Path) -> None:
    """Host, User, Port and IdentityFile may all come from an included file."""
    entry = f"Host board\n HostName 127.0.0.1\n Port {shared_sshd.port}\n User {shared_sshd.user}\n IdentityFile {shared_sshd.client_key}\n"
    (tmp_path / "included").write_text(entry)
    (tmp_path / "config").write_text(f"Include {tmp_path}/included\n")
    settings = SshSettings("board", host_key=shared_sshd.host_key, config=tmp_path / "config")
    with connect("pi4-a", settings) as transport:
        assert transport.address == f"127.0.0.1:{shared_sshd.port}"
        assert transport.run(["id", "-un"], timeout_s=30).stdout.decode().strip() == shared_sshd.user


def test_a_key_that_the_device_does_not_know_is_an_auth_fault(shared_sshd: Sshd, tmp_path: Path) -> None:
    """The fault names the device, the user, each key that was refused or could not be used, and what to do."""
    stranger, locked, broken = make_key(tmp_path / "stranger"), make_key(tmp_path / "locked", passphrase="secret"), tmp_path / "broken"
    broken.write_text("not a key")
    files = "".join(f"IdentityFile {path}\n" for path in (stranger, broken))
    (tmp_path / "config").write_text(files)
    fault = refusal(shared_sshd.settings(config=tmp_path / "config"))
    assert fault.code == "auth"
    assert f"does not let {shared_sshd.user} in: it refused {stranger}; {broken} is no usable key" in fault.message
    assert "ssh-copy-id" in fault.next

    (tmp_path / "config").write_text(f"{files}IdentityFile {locked}\n")
    fault = refusal(shared_sshd.settings(config=tmp_path / "config"))
    assert f"{locked} is encrypted" in fault.message
    assert fault.next == f"add it to the SSH agent: ssh-add {locked}"


def test_the_ssh_agent_opens_what_an_encrypted_key_file_does_not(
    shared_sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key in the SSH agent is used, the one of IdentityFile before others, and with IdentitiesOnly no other."""
    socket_path = tmp_path / "agent"
    started = subprocess.run(["ssh-agent", "-a", str(socket_path)], capture_output=True, text=True, check=True)
    pid = re.search(r"SSH_AGENT_PID=(\d+)", started.stdout)
    assert pid
    monkeypatch.setenv("SSH_AUTH_SOCK", str(socket_path))
    try:
        key = tmp_path / "key"
        key.write_bytes(shared_sshd.client_key.read_bytes())
        key.chmod(0o600)
        public_file(key).write_bytes(public_file(shared_sshd.client_key).read_bytes())
        for at in range(8):  # more than sshd lets a client try
            subprocess.run(["ssh-add", "-q", str(make_key(tmp_path / f"other{at}"))], check=True)
        subprocess.run(["ssh-add", "-q", str(key)], check=True)
        subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", str(key)], check=True, capture_output=True)
        config = tmp_path / "config"
        config.write_text(f"IdentityFile {key}\n")
        connect("pi4-a", shared_sshd.settings(config=config)).close()
        config.write_text(f"IdentityFile {tmp_path}/other3\nIdentitiesOnly yes\n")
        assert "refused the SSH agent's other3" in refusal(shared_sshd.settings(config=config)).message
        config.write_text("IdentityFile /nonexistent\n")
        assert refusal(shared_sshd.settings(config=config)).message.count("it refused") < 8
    finally:
        os.kill(int(pid[1]), signal.SIGTERM)


# The way there


def test_a_jump_host_leads_to_the_device(sshd: Sshd, other_sshd: Sshd) -> None:
    """Through a second sshd, with both host keys pinned; the device's own file name is seen there."""
    sshd.write_config(f"Host 127.0.0.1\nPort {other_sshd.port}\n")
    settings = sshd.settings(jump=f"{other_sshd.user}@127.0.0.1", jump_host_key=other_sshd.host_key)
    (other_sshd.folder / "authorized_keys").write_bytes(public_file(sshd.client_key).read_bytes())
    with connect("ncs2-1", settings) as transport:
        content = os.urandom(3_000_000)
        transport.put(content, str(sshd.folder / "blob"))
        assert transport.get(str(sshd.folder / "blob"), max_bytes=len(content)) == content
        assert transport.host_key == presented_host_key("ncs2-1", settings) == sshd.host_key
        other_sshd.cut()
        with pytest.raises(FaultError) as error:
            transport.run(["true"], timeout_s=30)
        assert error.value.fault.code == "link_lost"


def test_each_host_on_the_way_is_verified_and_named(sshd: Sshd, other_sshd: Sshd) -> None:
    """A wrong jump host key, a wrong device key behind it, and a device that is off are told apart."""
    (other_sshd.folder / "authorized_keys").write_bytes(public_file(sshd.client_key).read_bytes())
    jump = f"127.0.0.1:{other_sshd.port}"
    fault = refusal(sshd.settings(jump=jump, jump_host_key=sshd.host_key))
    assert (fault.code, f"pi4-a (jump host {jump})" in fault.message) == ("host_key", True)
    fault = refusal(sshd.settings(jump=jump, jump_host_key=other_sshd.host_key, host_key=other_sshd.host_key))
    assert (fault.code, f"pi4-a (127.0.0.1:{sshd.port})" in fault.message) == ("host_key", True)
    closed = free_port()
    fault = refusal(sshd.settings(jump=jump, jump_host_key=other_sshd.host_key, port=closed))
    assert (fault.code, f"pi4-a (127.0.0.1:{closed})" in fault.message) == ("unreachable", True)


def test_a_closed_port_is_unreachable() -> None:
    """Nobody listens: the fault names the address and the reason of the operating system."""
    port = free_port()
    fault = refusal(SshSettings("127.0.0.1", port=port))
    assert fault.code == "unreachable"
    assert fault.message == f"cannot reach pi4-a (127.0.0.1:{port}): Connection refused"


@pytest.mark.parametrize("greeting", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-mute\r\n"])
def test_a_server_that_does_not_speak_ssh_is_unreachable(greeting: bytes) -> None:
    """Silence, another protocol, and a server that falls silent after its banner all end within the connect timeout."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        ended = threading.Event()

        def serve() -> None:
            with server.accept()[0] as client:
                client.sendall(greeting)
                ended.wait(30)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with pytest.raises(FaultError) as error:
                connect("pi4-a", SshSettings("127.0.0.1", port=port, connect_timeout_s=0.3))
        finally:
            ended.set()
            thread.join()
    assert error.value.fault.code == "unreachable"
    assert f"127.0.0.1:{port}" in error.value.fault.message


# Links that break


@pytest.mark.parametrize("end", ["kill", "cut"])
def test_a_link_that_is_cut_under_a_command_is_link_lost(sshd: Sshd, end: str) -> None:
    """The reader, the waiter and whoever asks for more on that link get `link_lost`; a new link works once the server is there."""
    with connect("pi4-a", sshd.settings()) as transport:
        until_nobody_reads = ["sh", "-c", "while echo again; do sleep 0.05; done"]
        with transport.exec(until_nobody_reads, timeout_s=60) as process:
            assert process.stdout.readline() == b"again\n"
            getattr(sshd, end)()
            with pytest.raises(FaultError) as error:
                list(process.stdout)
            assert error.value.fault.code == "link_lost"
            assert f"pi4-a (127.0.0.1:{sshd.port})" in error.value.fault.message
            with pytest.raises(FaultError, match="the link was lost"):
                process.wait()
        with pytest.raises(FaultError) as error:
            transport.run(["true"], timeout_s=30)
        assert error.value.fault.code == "link_lost"
    if end == "kill":
        sshd.start()
    with connect("pi4-a", sshd.settings()) as transport:
        assert transport.run(["true"], timeout_s=30).status == 0


def test_a_device_that_hangs_is_noticed(sshd: Sshd) -> None:
    """Without any answer, TCP intact, the keepalive gives the link up."""
    timeouts = Timeouts(keepalive_s=0.1, reply_s=0.5)
    with connect("pi4-a", sshd.settings(), timeouts) as transport, transport.exec(["cat"], stdin=None, timeout_s=60) as process:
        assert process.wait() == 0
        with transport.exec(["sleep", "1000"], timeout_s=60) as process:
            sshd.freeze()
            with pytest.raises(FaultError) as error:
                process.wait()
    assert error.value.fault.code == "link_lost"


def test_a_link_outlives_many_keepalives(shared_sshd: Sshd) -> None:
    """A server that answers keepalives keeps its link."""
    with connect("pi4-a", shared_sshd.settings(), Timeouts(keepalive_s=0.001)) as transport:
        assert transport.run(["sleep", "0.5"], timeout_s=30).status == 0
        assert transport.run(["true"], timeout_s=30).status == 0


def test_an_upload_cut_short_goes_on_where_it_stopped(sshd: Sshd, tmp_path: Path) -> None:
    """What had arrived when the link was cut is not sent again."""
    content = os.urandom(20_000_000)
    path = str(sshd.folder / "upload")
    reached = threading.Event()

    def progress(sent: int) -> None:
        if sent > 10_000_000 and not reached.is_set():
            reached.set()
            sshd.cut()

    with connect("pi4-a", sshd.settings()) as transport, pytest.raises(FaultError) as error:
        transport.put(content, path, progress=progress)
    assert error.value.fault.code == "link_lost"
    with connect("pi4-a", sshd.settings()) as transport:
        arrived = int(transport.run(["stat", "-c", "%s", path], timeout_s=30).stdout)
        assert 0 < arrived < len(content)
        seen: list[int] = []
        transport.put(content, path, offset=arrived, progress=seen.append)
        assert seen[0] > arrived
        assert transport.get(path, max_bytes=len(content)) == content


def test_closing_leaves_nothing(sshd: Sshd) -> None:
    """After `close` there is no thread, no socket and no session; closing twice is harmless."""
    before = set(threading.enumerate())
    transport = connect("pi4-a", sshd.settings())
    process = transport.exec(["cat"], stdin=None, timeout_s=60)
    process.wait()
    process.close()
    transport.close()
    transport.close()
    assert not left_since(before)


def test_many_commands_share_one_link(shared_sshd: Sshd) -> None:
    """Commands at the same time on one link do not disturb each other."""
    with connect("pi4-a", shared_sshd.settings()) as transport:
        answers: dict[int, bytes] = {}
        threads = [
            threading.Thread(
                target=lambda at=at: answers.update({at: transport.run(["cat"], stdin=b"%d" % at * 100_000, timeout_s=60).stdout})
            )
            for at in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert answers == {at: b"%d" % at * 100_000 for at in range(6)}
