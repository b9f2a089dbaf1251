# make demo, make test: each makes .venv and installs what it needs when it is not there yet.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
# one process per core, each with one thread, which keep their byte code; each has whole files, until one has none left
PYTEST := OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist worksteal

.PHONY: install demo dist docs lint format test test-slow test-gpu bench bench-before bench-train bench-methods bench-cka bench-knowledge bench-families bench-coverage bench-shares bench-fidelity bench-map bench-null bench-similarity bench-loader bench-sweep bench-gpu clean
.DELETE_ON_ERROR:

install: $(STAMP)

$(STAMP): setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test,dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/kdprobe demo --out demo

# what has been built once is read again, gallery included: only changed examples run
docs: .venv/.docs
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -b html -W --keep-going -q docs docs/_build/html
	@echo docs/_build/html/index.html

.venv/.docs: $(STAMP) setup.cfg
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(STAMP)
	$(PYTEST) -m "not slow and not gpu and not browser"

test-slow: $(STAMP)
	$(PYTEST) -m "(slow or browser) and not gpu"

test-gpu: $(STAMP)
	$(BIN)/pytest -m gpu

bench: bench-before bench-cka bench-train bench-methods bench-knowledge bench-loader bench-sweep

# another revision: make bench-before BEFORE=HEAD~1
BEFORE ?= 24c0671
bench-before: $(STAMP)
	$(BIN)/python -m tests.benchmarks.bench_before $(BEFORE)

bench-train: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m tests.benchmarks.bench_train

bench-methods: $(STAMP)
	$(BIN)/python -m tests.benchmarks.bench_methods

bench-cka: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m tests.benchmarks.bench_cka
	$(BIN)/python -m tests.benchmarks.bench_store

bench-knowledge: $(STAMP)
	$(BIN)/python -m tests.benchmarks.bench_knowledge

bench-families: $(STAMP)
	$(BIN)/python -m tests.benchmarks.bench_families

bench-coverage: $(STAMP)
	$(BIN)/python -m tests.benchmarks.bench_coverage

bench-map: $(STAMP)
	$(BIN)/python -m tests.benchmarks.bench_map

bench-shares: $(STAMP)
	$(BIN)/python -m tests.benchmarks.bench_shares

bench-fidelity: $(STAMP)
	$(BIN)/python -m tests.benchmarks.bench_fidelity

bench-null: $(STAMP)
	$(BIN)/python -m tests.benchmarks.bench_null

bench-similarity: $(STAMP)
	$(BIN)/python -m tests.benchmarks.bench_similarity
	$(BIN)/python -m tests.benchmarks.bench_similarity --neighbours 50000

bench-loader: $(STAMP)
	$(BIN)/python -m tests.benchmarks.bench_loader

bench-sweep: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	$(BIN)/python -m tests.benchmarks.bench_sweep

bench-gpu: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	KDPROBE_TRUST=tests.benchmarks.bench_gpu $(BIN)/python -m tests.benchmarks.bench_gpu

# wheel and sdist; the wheel is tried in an environment of its own, away from these files. URL=https://... says where the
# repository lies: there lead the README's links on a package index
dist: $(STAMP)
	@test -n "$(URL)" || echo "the README's links stay relative and lead nowhere on a package index; give URL=https://..." >&2
	$(BIN)/python -m pip install --quiet build
	rm -rf dist
	KDPROBE_URL="$(URL)" $(BIN)/python -m build
	set -e; apart=$$(mktemp -d); trap 'rm -rf "$$apart"' EXIT; \
	$(PYTHON) -m venv "$$apart"/venv; \
	"$$apart"/venv/bin/python -m pip install --quiet dist/*.whl; \
	cd "$$apart"; venv/bin/kdprobe demo --seeds 1 --quiet; test -s demo/report.html

clean:
	rm -rf .venv build dist docs/_build docs/examples docs/reference/made *.egg-info .pytest_cache .mypy_cache .ruff_cache
