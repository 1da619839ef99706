# Every target works on a fresh machine: it makes its own virtual environment first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: test lint demo bench docs site clean

$(VENV)/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

test: lint
	$(BIN)/python -m pytest -n auto --dist worksteal
	$(BIN)/python tests/timm_suite/run.py

lint: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

demo: $(VENV)/installed
	$(BIN)/robnet-zoo demo --output demo-report

bench: $(VENV)/installed
	$(BIN)/python -m robnet_zoo.benchmarks.speed.forms --output robnet_zoo/benchmarks/results/speed/forms.json
	$(BIN)/python -m robnet_zoo.benchmarks.speed.training --output robnet_zoo/benchmarks/results/speed/training.json
	$(BIN)/python -m robnet_zoo.benchmarks.speed.onnx --output robnet_zoo/benchmarks/results/speed/onnx.json
	$(BIN)/python -m robnet_zoo.benchmarks.speed.search --output robnet_zoo/benchmarks/results/speed/search.json
	$(BIN)/python -m robnet_zoo.benchmarks.speed.threads --output robnet_zoo/benchmarks/results/speed/threads.json

docs: $(VENV)/installed
	$(BIN)/python -m tools.docs

site: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[site]'
	$(BIN)/python -m tools.site

clean:
	rm -rf $(VENV) .build demo-report
