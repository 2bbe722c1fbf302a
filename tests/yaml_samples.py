"""The files of the interface document, whole, and with one key renamed for property tests of the loaders."""

import string
from pathlib import Path

from hypothesis import strategies as st

from controller import yamlfile
from controller.yamlfile import Place

KEY = "ssh-ed25519 SHA256:" + "q9B" * 14 + "A"
INVENTORY = f"""\
version: 1
defaults:
  ssh: {{user: bench, connect_timeout_s: 10}}
  settle: {{max_temp_c: 50, timeout_s: 600}}
meters:
  plug-3: {{driver: shelly, url: "http://192.0.2.93", boundary: wall}}
devices:
  laptop:
    kind: local                        # this machine, no SSH
  pi4-a:
    kind: raspberry-pi
    ssh: {{host: 192.0.2.11, host_key: "{KEY}"}}
    agent: {{python: /usr/bin/python3, cache_dir: ~/.cache/fleetmark, env: {{OMP_NUM_THREADS: "4"}}}}
    backends: [tflite, onnxruntime]
    power: {{driver: ina226, boundary: board}}
    tags: {{room: lab2, cooling: passive}}
    groups: [pis]
  nano-a:
    kind: jetson-nano
    ssh: {{host: nano-a}}
    backends: [tensorrt]
    power: {{driver: jetson}}
    expect: {{power_mode: MAXN}}
  ncs2-1:
    kind: ncs2
    ssh: {{host: nuc-1.lab, jump: lab-gw.example, host_key: "{KEY}", jump_host_key: "{KEY}"}}
    usb: {{path: "2-1.3", min_speed_mbps: 5000}}
    backends: [openvino]
    meter: plug-3
  coral-1:
    kind: coral-usb
    ssh: {{host: nuc-1.lab, jump: lab-gw.example, host_key: "{KEY}", jump_host_key: "{KEY}"}}
    usb: {{path: "2-1.4", min_speed_mbps: 5000}}
    backends: [edgetpu]
    meter: plug-3
    price: {{amount: 60, currency: USD}}
  builder:
    kind: generic
    ssh: {{host: build.lab}}
    compile_host: true
    enabled: false
"""

SUITE = """\
version: 1
models:
  fashion-cnn:
    source: examples/fashion/model.onnx
    tflite: examples/fashion/model.tflite
    data: examples/fashion/data.npz
    inputs: {image: {shape: [1, 1, 28, 28], dtype: float32, layout: NCHW, mean: 0.2860, std: 0.3530}}
    task: classification
recipes: [fp32, fp16, int8, prune-50-int8]
devices: [all]
backends: [auto, {name: onnxruntime, options: {threads: 4, providers: [XNNPACKExecutionProvider]}}]
workloads: [single_stream, {name: offline, batch: 8}, {name: server, p99_ms: 20}]
profile: standard
launches: 5
gates:
  all: {latency_p90_ms: 20, accuracy_drop_pp: 1.0}
  "kind=coral-usb": {accelerator_time_share: {min: 0.9}, energy_net_mj: 5}
"""
FREE = ("devices", "meters", "env", "tags", "models", "inputs", "gates")  # a person chooses the names in there

Mutation = tuple[str, tuple[int, int], str]


def renamed(path: Path, schema: dict[str, object]) -> st.SearchStrategy[Mutation]:
    """The file's text with one key renamed to a name that no record has; where that stands; and the name."""
    known = set(_properties(schema))
    text = path.read_text()
    keys = {place: at for place, at in yamlfile.read(path).keys.items() if place[-2:-1] not in [(free,) for free in FREE]}
    names = st.text(string.ascii_lowercase + "_", min_size=1, max_size=12).filter(lambda name: name not in known)
    return st.builds(lambda place, name: (_rename(text, place, keys[place], name), keys[place], name), st.sampled_from(list(keys)), names)


def _rename(text: str, place: Place, at: tuple[int, int], name: str) -> str:
    lines = text.splitlines(keepends=True)
    line, column = at[0] - 1, at[1] - 1
    lines[line] = lines[line][:column] + name + lines[line][column + len(str(place[-1])) :]
    return "".join(lines)


def _properties(node: object) -> list[str]:
    if isinstance(node, dict):
        return [*node.get("properties", {}), *(name for value in node.values() for name in _properties(value))]
    return [name for value in node for name in _properties(value)] if isinstance(node, list) else []
