"""The files that `fleetmark init` writes: an inventory and a suite, commented for a person who starts."""

from pathlib import Path

from controller.errors import FleetmarkError

INVENTORY = """\
# The devices of the lab. An unknown key or a wrong unit is an error with its line; units are in the names of the keys.
# No secret belongs in here: keys and the SSH agent log in, a meter's token is written as env:NAME or file:PATH.
version: 1

defaults:                     # for every device that does not say otherwise
  ssh: {connect_timeout_s: 10}

meters: {}                    # plug-3: {driver: shelly, url: "http://192.0.2.93", boundary: wall}

devices:
  laptop:
    kind: local               # this machine, no SSH

  # Four examples. Mend the address, say `enabled: true`, and `fleetmark run` measures it too.
  pi4-a:
    kind: raspberry-pi
    enabled: false
    ssh: {host: 192.0.2.11, user: pi}
    # host_key: "ssh-ed25519 SHA256:..." inside ssh pins the device's key; without it ~/.ssh/known_hosts decides
    # agent: {python: /usr/bin/python3, cache_dir: ~/.cache/fleetmark, env: {OMP_NUM_THREADS: "4"}}   # all optional
    backends: [tflite, onnxruntime]             # without this line: all that the device offers
    power: {driver: ina226, boundary: board}    # an INA226 on the supply; a Pi 4 has no sensor of its own
    tags: {room: lab2, cooling: passive}        # selected by room=lab2
    groups: [pis]                               # selected by pis

  nano-a:
    kind: jetson-nano
    enabled: false
    ssh: {host: nano-a}                         # an alias of ~/.ssh/config: User, Port, IdentityFile, ProxyJump count
    backends: [tensorrt]
    power: {driver: jetson}
    expect: {power_mode: MAXN}                  # the power mode that it should be in

  # Two sticks in one host: devices that share a host, or a meter, never run at the same time.
  ncs2-1:
    kind: ncs2
    enabled: false
    ssh: {host: nuc-1.lab, jump: lab-gw.example}
    usb: {path: "2-1.3", min_speed_mbps: 5000}  # the port: a stick changes its id once its firmware runs
    backends: [openvino]

  coral-1:
    kind: coral-usb
    enabled: false
    ssh: {host: nuc-1.lab, jump: lab-gw.example}
    usb: {path: "2-1.4", min_speed_mbps: 5000}
    backends: [edgetpu]
    price: {amount: 60, currency: USD}
"""

SUITE = """\
# What to measure. Paths are relative to this file's folder.
version: 1

models:
  my-model:
    source: model.onnx        # .onnx or .tflite
    # tflite: model.tflite    # the same model, which spares the conversion for the tflite backend
    # data: data.npz          # arrays eval_INPUT, calib_INPUT and eval_labels; without it random inputs, latency and drift only
    # inputs: {image: {shape: [1, 1, 28, 28], dtype: float32, layout: NCHW, mean: 0.286, std: 0.353}}   # read from the model otherwise
    # task: classification    # detection, embedding, anomaly, sequence; without it no accuracy, only drift

recipes: [fp32, fp16, int8-dynamic, int8]       # how to compress it; fp32 is the reference that the others are compared with
devices: [all]                # names, groups, key=value tags; "!laptop" takes one away
backends: [auto]              # all that a device offers, or e.g. {name: onnxruntime, options: {threads: 4}}
workloads: [single_stream]    # or multi_stream, {name: offline, batch: 8}, {name: server, p99_ms: 20}, {name: sustained, duration_s: 600}
profile: standard             # quick: 3 short launches a cell; standard: 5 launches of at least 3 s and 1,000 queries
# operations: false           # without the launch more of each cell that times its operations; profile quick makes none unless true
# rate_per_s: 1               # the report gives power at so many inferences a second

# gates:                      # budgets: a number is a maximum, {min: ...} where more is better
#   all: {latency_p90_ms: 20, accuracy_drop_pp: 1.0}
#   "kind=raspberry-pi": {latency_p90_ms: 50, accuracy: {min: 0.9}, variants: [int8]}   # of these only; models, workloads too
"""


def write(folder: Path) -> list[Path]:
    """Write inventory.yaml and suite.yaml and give their paths; raises FleetmarkError, with neither written, where one is there."""
    files = {folder / "inventory.yaml": INVENTORY, folder / "suite.yaml": SUITE}
    there = [str(path) for path in files if path.exists() or path.is_symlink()]
    if there:
        raise FleetmarkError("nothing was written", f"already there: {', '.join(there)}", "move it away, or go to another folder")
    try:
        for path, text in files.items():
            with path.open("x", encoding="utf-8") as file:
                file.write(text)
    except OSError as error:
        raise FleetmarkError(f"cannot write to {folder}", str(error), "choose a folder that you may write to") from error
    return list(files)
