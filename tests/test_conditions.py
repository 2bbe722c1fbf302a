"""The device's state, read from fake root folders with the strings of HARDWARE.md."""

import time
from pathlib import Path

import pytest

from agent.cache import Cache
from agent.conditions import Watch, cpu_times, memory_bytes, temperatures
from agent.probe import probe

PI = {
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
    "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv7 Processor rev 3 (v7l)\n\nHardware\t: BCM2711\nModel\t\t: Raspberry Pi 4\n",
    "proc/meminfo": "MemTotal:        3884416 kB\nMemFree:          100000 kB\nMemAvailable:    3500000 kB\n",
    "proc/loadavg": "0.25 0.10 0.05 1/150 1234\n",
    "proc/stat": "cpu  100 0 50 800 40 0 10 0 0 0\ncpu0 1 2 3 4\n",
    "proc/sys/kernel/random/boot_id": "11111111-2222-3333-4444-555555555555\n",
    "etc/os-release": 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nNAME="Debian GNU/Linux"\n',
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "39200\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "1500000\n",
    "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "ondemand\n",
}
JETSON_ZONES = [
    ("AO-therm", "47500"),
    ("CPU-therm", "44000"),
    ("GPU-therm", "42500"),
    ("PLL-therm", "39000"),
    ("PMIC-Die", "100000"),
    ("thermal-fan-est", "-256000"),
    ("iwlwifi", ""),
    ("CPU-therm", "45000"),
]
JETSON = {
    f"sys/class/thermal/thermal_zone{at}/{name}": value
    for at, zone in enumerate(JETSON_ZONES)
    for name, value in zip(("type", "temp"), zone, strict=True)
}


def fake_root(folder: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(folder)


def test_a_raspberry_pi_is_read(tmp_path: Path) -> None:
    """Temperatures, clocks, governors, load and free memory of a Pi 4, in SI units."""
    conditions = Watch(fake_root(tmp_path, PI)).read("before")
    assert conditions.when == "before"
    assert conditions.temps_c == {"cpu-thermal": 39.2}
    assert conditions.clocks_hz == {"cpu0": 6e8, "cpu1": 1.5e9}
    assert conditions.governors == ["ondemand"]
    assert conditions.load_1m == 0.25
    assert conditions.memory_available_bytes == 3_500_000 * 1024
    assert abs(conditions.wall_time_s - time.time()) < 60


def test_a_jetsons_placeholders_are_no_temperatures(tmp_path: Path) -> None:
    """PMIC at 100 °C and -256 °C are left out, an unreadable zone is missing, and of two zones with one name both stay."""
    found = temperatures(fake_root(tmp_path, JETSON))
    assert sorted(found.values()) == [39.0, 42.5, 44.0, 45.0, 47.5]
    assert {"AO-therm", "CPU-therm", "GPU-therm", "PLL-therm"} < set(found)


def test_what_cannot_be_read_is_missing(tmp_path: Path) -> None:
    """An empty root gives None and nothing, never zero and never an error."""
    conditions = Watch(str(tmp_path)).read("after")
    assert (conditions.load_1m, conditions.memory_available_bytes, conditions.cpu_busy_share) == (None, None, None)
    assert (conditions.temps_c, conditions.clocks_hz, conditions.governors) == ({}, {}, [])


@pytest.mark.parametrize("text", ["", "\n", "nan", "cpu", "cpu x y z 1 2", "MemAvailable:\n", "MemAvailable: x kB\n", "\0\xff", "1e999"])
def test_damaged_files_are_missing_data(tmp_path: Path, text: str) -> None:
    """Whatever stands in a system file, the rest is read."""
    root = fake_root(tmp_path, dict.fromkeys(PI, text))
    conditions = Watch(root).read("before")
    assert (conditions.memory_available_bytes, conditions.cpu_busy_share) == (None, None)
    assert (conditions.temps_c, conditions.clocks_hz) == ({}, {})


def test_the_busy_share_is_that_between_two_readings(tmp_path: Path) -> None:
    """Busy is all but idle and waiting for the disk; without progress of the clock there is no share."""
    root = fake_root(tmp_path, PI)
    assert cpu_times(root) == (160.0, 1000.0)
    watch = Watch(root)
    assert watch.read("before").cpu_busy_share is None
    (tmp_path / "proc/stat").write_text("cpu  150 0 50 840 50 0 10 0 0 0\n")
    assert watch.read("after").cpu_busy_share == 0.5
    (tmp_path / "proc/stat").write_text("cpu  0 0 0 0 0 0 0 0 0 0\n")
    assert watch.read("after").cpu_busy_share is None


def test_this_machine_is_read() -> None:
    """The real root gives a load, free memory and a share of busy time within bounds."""
    conditions = Watch().read("before")
    assert conditions.load_1m is not None
    assert conditions.memory_available_bytes is not None
    assert conditions.memory_available_bytes < (memory_bytes("/", "MemTotal") or 0)
    assert conditions.cpu_busy_share is None or 0 <= conditions.cpu_busy_share <= 1


def test_a_board_introduces_itself(tmp_path: Path) -> None:
    """The probe reads board, processor, memory and system below its root; quick, it leaves runtimes alone."""
    found = probe(Cache(str(tmp_path / "cache")), fake_root(tmp_path / "root", PI), None)
    assert found.board == "Raspberry Pi 4 Model B Rev 1.4"
    assert found.cpu_model == "ARMv7 Processor rev 3 (v7l)"
    assert found.memory_bytes == 3_884_416 * 1024
    assert found.os == "Debian GNU/Linux 12 (bookworm)"
    assert found.boot_id == "11111111-2222-3333-4444-555555555555"
    assert (found.emulated, found.backends, found.environments) == ("", [], [])
    assert found.disk_free_bytes > 0


def test_an_emulated_processor_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where uname says aarch64 and /proc/cpuinfo names an x86 vendor, user-mode qemu is at work."""
    machine = "x86_64"
    monkeypatch.setattr("os.uname", lambda: type("Uname", (), {"nodename": "n", "machine": machine, "release": "6", "sysname": "Linux"}))
    root = fake_root(tmp_path / "root", {"proc/cpuinfo": "vendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC\n"})
    cache = Cache(str(tmp_path / "cache"))
    assert probe(cache, root, None).emulated == ""
    machine = "aarch64"
    assert probe(cache, root, None).emulated == "qemu-user"


def test_what_a_pi_says_of_throttling_is_read(tmp_path: Path) -> None:
    """The bits of get_throttled are kept as they are; a vcgencmd that may not ask leaves them out."""
    root = fake_root(tmp_path, {**PI, "usr/bin/vcgencmd": "#!/bin/sh\necho throttled=0x50005\n"})
    program = tmp_path / "usr/bin/vcgencmd"
    program.chmod(0o755)
    assert Watch(root).read("before").throttle == {"get_throttled": 0x50005}
    program.write_text('#!/bin/sh\necho "Can\'t open device file: /dev/vcio_gencmd"\n')
    assert Watch(root).read("before").throttle == {}


def test_counters_limits_and_links_are_read(tmp_path: Path) -> None:
    """Over-current events, throttle counts, limiting trip points (a fan's is none), Edge TPUs, devfreq, USB links and NvMapMemUsed."""
    zone, usb = "sys/class/thermal/thermal_zone0/", "sys/bus/usb/devices/2-1.4/"
    conditions = Watch(
        fake_root(
            tmp_path,
            {
                "sys/class/hwmon/hwmon3/name": "soctherm_oc\n",
                "sys/class/hwmon/hwmon3/oc1_event_cnt": "2\n",
                "sys/class/hwmon/hwmon3/oc3_event_cnt": "text\n",
                "sys/class/hwmon/hwmon4/name": "ina3221\n",
                "sys/class/hwmon/hwmon4/oc1_event_cnt": "9\n",
                "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3\n",
                "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count": "4\n",
                zone + "type": "CPU-therm\n",
                zone + "temp": "44000\n",
                **{f"{zone}trip_point_{at}_type": f"{name}\n" for at, name in enumerate(["active", "critical", "passive"])},
                **{f"{zone}trip_point_{at}_temp": f"{milli}\n" for at, milli in enumerate([40000, 102500, 97000])},
                "sys/class/apex/apex_0/temp": "51800\n",
                "sys/class/apex/apex_0/trip_point0_temp": "85000\n",
                "sys/class/devfreq/57000000.gpu/cur_freq": "921600000\n",
                usb + "idVendor": "18d1\n",
                usb + "idProduct": "9302\n",
                usb + "speed": "5000\n",
                "proc/meminfo": "MemAvailable: 10 kB\nNvMapMemUsed: 512 kB\n",
            },
        )
    ).read("after", {"CPU-therm": 45.0})
    assert conditions.throttle == {"soctherm_oc/oc1_event_cnt": 2, "core_throttle_count": 7}
    assert conditions.temps_c == {"CPU-therm": 44.0, "apex_0": 51.8}
    assert conditions.limits_c == {"CPU-therm": 97.0, "apex_0": 85.0}
    assert conditions.peaks_c == {"CPU-therm": 45.0}
    assert conditions.clocks_hz == {"57000000.gpu": 921.6e6}
    assert conditions.usb_mbps == {"coral-usb 2-1.4": 5000.0}
    assert conditions.shared_gpu_bytes == 512 * 1024
