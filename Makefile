# make demo       train a small ResNet-RS on real scanned digits, with plots  (about 3 minutes)
# make study      pseudo-labels on Fashion-MNIST, 30 networks, and their page (20 to 60 minutes)
# make test       ruff and all tests
# make test-fast  ruff and the tests that are not marked slow, for every change
# make lint       ruff alone

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell \
  $(name) -c 'import sys; sys.version_info >= (3, 11) and print("$(name)")' 2>/dev/null)))
VENV ?= .venv
DEMO ?= runs/demo
DATA ?= runs/data
STUDY ?= runs/study
# The directory of Fashion-MNIST's four files, where they are not to be downloaded.
FASHION_MNIST ?=

# pip compiles bytecode on one core, compileall on all. It reports files that no Python 3 compiles
# (templates, tests of old syntax), which nothing imports.
install = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -r $(1) \
  && { $(VENV)/bin/python -m compileall -qq -j 0 $(VENV)/lib || true; }

# A worker takes a whole file, so that fixtures are made once; the longest files go first.
pytest = $(VENV)/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
  --durations=10 --durations-min=1

.PHONY: demo study test test-fast lint

demo: $(VENV)/run
	$(VENV)/bin/python -m resnet_rs.datasets.prepare digits --data_dir=$(DATA)
	$(VENV)/bin/python main.py --config=configs/digits.py --workdir=$(DEMO) \
	  --config.data.data_dir=$(DATA)
	$(VENV)/bin/python -m resnet_rs.demo --workdir=$(DEMO)

study: $(VENV)/run
	$(VENV)/bin/python -m resnet_rs.datasets.prepare fashion_mnist --data_dir=$(DATA) \
	  $(addprefix --manual_dir=,$(FASHION_MNIST))
	TFDS_DATA_DIR=$(DATA) $(VENV)/bin/python -m resnet_rs.sweep \
	  --sweep=configs/sweeps/fashion_few_labels.py --workdir=$(STUDY) --parallel=2
	$(VENV)/bin/python -m resnet_rs.study --sweep=configs/sweeps/fashion_few_labels.py \
	  --workdir=$(STUDY) --output=$(STUDY)_page

test: lint
	$(pytest)

test-fast: lint
	$(pytest) -m 'not slow'

lint: $(VENV)/dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check --quiet .

$(VENV)/run: requirements.txt
	@test -n "$(PYTHON)" || { echo 'error: no Python 3.11 or newer found; name one: make PYTHON=...'; exit 2; }
	@echo 'Installing requirements.txt into $(VENV): about 2.6 GB, silent for about a minute ...'
	$(PYTHON) -m venv $(VENV)
	@$(call install,requirements.txt)
	@touch $@

$(VENV)/dev: $(VENV)/run requirements-dev.txt
	@echo 'Installing requirements-dev.txt into $(VENV): another 0.8 GB, silent for half a minute ...'
	@$(call install,requirements-dev.txt)
	@touch $@
