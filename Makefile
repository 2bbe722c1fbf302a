# Every target does its own set-up: a fresh machine needs Python 3.11 and make.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.installed
DEV_STAMP := .venv/.installed-dev
UV_VERSION := $(shell sed -n 's/^uv==//p' constraints.txt)
COMPILE = $(BIN)/python -m compileall -q -j 0 .venv/lib >/dev/null || true # once, not in every process; packages hold files for other Pythons too
INSTALL = $(BIN)/uv pip install --quiet --python $(BIN)/python --constraints constraints.txt

.PHONY: demo test fuzz fuzz-long test-faults faults-long faults-boards check format bench bench-fleet lab lab-down test-lab environments audit sbom clean

demo: $(STAMP) ## the example suite on this machine, and where its report is
	$(BIN)/fleetmark run examples/fashion/suite.yaml --profile quick

test: $(DEV_STAMP)
	tests/setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

check: $(DEV_STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/vermin -t=3.6- --violations --eval-annotations --no-tips agent backends

fuzz: $(DEV_STAMP) ## minutes; what it finds lies in .fuzz/findings and stays until it is mended
	PYTHONPATH=tests $(BIN)/python -m fuzz --seconds 20 --seed 1

fuzz-long: $(DEV_STAMP) ## more than an hour; writes benchmarks/RESULTS.md
	PYTHONPATH=tests $(BIN)/python -m fuzz --seconds 600 --results

test-faults: $(DEV_STAMP) ## five campaigns of faults on loopback devices; as root
	PYTHONPATH=tests $(BIN)/python -m faults --seeds 5

faults-long: $(DEV_STAMP) ## an hour or more; writes benchmarks/RESULTS.md
	PYTHONPATH=tests $(BIN)/python -m faults --seeds 190 --results

faults-boards: $(DEV_STAMP) lab ## ten campaigns on the emulated boards; writes benchmarks/RESULTS.md
	PYTHONPATH=tests FAULTS_SCALE=4 $(BIN)/python -m faults --boards --seeds 10 --results

format: $(DEV_STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(DEV_STAMP) ## takes minutes, compression an hour or more (Debian's dataset-fashion-mnist); writes benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks.fidelity
	$(BIN)/python -m benchmarks.sensors
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.summary
	$(BIN)/python -m benchmarks.report
	$(BIN)/python -m benchmarks.store
	$(BIN)/python -m benchmarks.compression

bench-fleet: $(DEV_STAMP) .venv/peers/.installed ## a quarter of an hour; up to 500 simulated devices, beside ssh and scp, parallel-ssh and Ansible
	$(BIN)/python -m benchmarks.fleet

lab: ## two emulated arm64 boards (docs/LAB.md); as root, minutes when it builds them for the first time
	PYTHON="$(PYTHON)" tests/lab/lab up

lab-down:
	tests/lab/lab down

test-lab: $(DEV_STAMP) lab ## the main job over both boards and this machine
	$(BIN)/python -m pytest tests/lab/test_lab.py

audit: $(DEV_STAMP) ## known vulnerabilities, from the package index's own service; fails where it cannot be asked
	$(BIN)/python .ci/audit.py

sbom: $(DEV_STAMP) ## a bill of materials in CycloneDX: dist/sbom.cdx.json
	$(BIN)/python .ci/sbom.py

clean:
	rm -rf .venv results

.venv/bin/uv: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "fleetmark needs Python 3.11 or later: make PYTHON=/path/to/python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	touch $@

$(STAMP): .venv/bin/uv pyproject.toml constraints.txt
	$(INSTALL) --editable '.[tflite,openvino]'
	$(COMPILE)
	touch $@

$(DEV_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch # uv would not find pip's own CPU build
	$(INSTALL) --editable '.[tflite,openvino,train,search,dask,parquet,mlflow,postgres,dev]'
	$(INSTALL) --no-deps --target .venv/stubs tensorrt-stubs # not beside the rest: it would pose as TensorRT, and asks for it
	$(COMPILE)
	touch $@

.venv/peers/.installed: benchmarks/fleet/peers.txt $(DEV_STAMP) # the tools that the fleet's benchmark compares with
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv/peers
	$(BIN)/uv pip install --quiet --python .venv/peers/bin/python --requirements benchmarks/fleet/peers.txt
	touch $@

environments: $(DEV_STAMP) ## resolves the wheels of controller/environments.toml again
	$(BIN)/python -m controller.resolve_environments
