"""Faults of a device's link and of its SSH server."""

from collections.abc import Generator

from faults.kinds import Scene, kind
from faults.limits import SCALE

LINK = ("link_lost", "unreachable", "timeout", "protocol")  # protocol: of a launch that was noted and never reached the device


@kind("link cut", *LINK)
def cut(scene: Scene) -> Generator[float]:
    """The cable is pulled and put back."""
    scene.device.proxy.refuse(True)
    scene.device.proxy.cut()
    yield scene.rng.uniform(0.1, 3.0)
    scene.device.proxy.refuse(False)


@kind("link cut for a long time", *LINK)
def cut_long(scene: Scene) -> Generator[float]:
    """Longer than the controller tries to come back."""
    scene.device.proxy.refuse(True)
    scene.device.proxy.cut()
    yield scene.stop_s() + 3.0
    scene.device.proxy.refuse(False)


@kind("link reset", *LINK)
def reset(scene: Scene) -> Generator[float]:
    """Every connection is lost at once; new ones can be made."""
    scene.device.proxy.cut()
    yield 0.0


@kind("link cut after some bytes", *LINK, is_early=True)
def cut_in_upload(scene: Scene) -> Generator[float]:
    """It breaks in the middle of what is being sent."""
    scene.device.proxy.cut_after(scene.rng.choice([1, 100, 10_000, 100_000, 500_000, 1_500_000]))
    yield 0.0


@kind("half-open connection", *LINK)
def half_open(scene: Scene) -> Generator[float]:
    """Packets are dropped both ways, without a word to either side."""
    scene.device.proxy.stall(True)
    yield scene.stop_s()
    scene.device.proxy.stall(False)


@kind("slow link", *LINK)
def slow(scene: Scene) -> Generator[float]:
    """A modem's speed."""
    scene.device.proxy.slow_down(scene.rng.choice([20e3, 60e3, 200e3]))
    yield scene.rng.uniform(2.0, 6.0)
    scene.device.proxy.slow_down(0)


@kind("sshd killed", *LINK, where="loopback")
def sshd_killed(scene: Scene) -> Generator[float]:
    """The SSH server dies with its connections and is started again."""
    scene.loopback.sshd.kill()
    yield scene.rng.uniform(0.1, 2.0)
    scene.loopback.sshd.start()


@kind("sshd hangs", *LINK, where="loopback")
def sshd_hangs(scene: Scene) -> Generator[float]:
    """Its sessions stop, links intact."""
    scene.loopback.sshd.freeze()
    yield scene.stop_s()
    scene.loopback.sshd.thaw()


@kind("host key changed", "host_key", *LINK, where="loopback")
def host_key(scene: Scene) -> Generator[float]:
    """Somebody else answers at the device's address, and later it does again itself."""
    scene.loopback.other_key()
    yield scene.stop_s()
    scene.loopback.own_key()


@kind("cable pulled", *LINK, where="board")
def cable_pulled(scene: Scene) -> Generator[float]:
    """The network card is down: nobody is told, packets vanish."""
    scene.board.pull_cable()
    yield scene.rng.uniform(0.5, 2.0) * SCALE
    scene.board.plug_cable()


@kind("cable pulled for a long time", *LINK, where="board")
def cable_pulled_long(scene: Scene) -> Generator[float]:
    """Longer than the controller tries to come back."""
    scene.board.pull_cable()
    yield scene.stop_s() + 3.0 * SCALE
    scene.board.plug_cable()
