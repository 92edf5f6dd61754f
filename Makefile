# `make test` is all that CI runs. Each part sets up what it needs, into target/ and .interop/ (both git-ignored).
#
#   make test       everything
#   make check      the Rust side and the contract: fmt lint unit doc deny proto
#   make interop    real clients and a real MLflow against the development build
#   make bench      Flowgate beside nginx and beside a direct call
#   make bench-models   models beside MLflow's own server and ONNX Runtime

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.PHONY: test check build fmt lint unit doc deny proto interop bench bench-models
MAKEFLAGS += --no-print-directory

SETUP := tests/interop/setup.sh
BUF := .interop/node/node_modules/.bin/buf
# One profile for tests, examples and interop, so that the dependencies are built once.
FLOWGATE_BIN ?= target/debug/flowgate

# In sequence: two heavy things at once do not fit on a small machine.
test:
	$(MAKE) check
	$(MAKE) interop

check:
	for part in fmt proto lint unit doc deny; do $(MAKE) $$part; done

build:
	cargo build --workspace --all-targets

fmt:
	cargo fmt --all --check

lint:
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy --workspace --all-targets --features flowgate-server/onnx -- -D warnings

unit: build
	cargo test --workspace

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

deny:
	$(SETUP) deny
	.interop/cargo/bin/cargo-deny check bans licenses sources

# The contract: lint, and no change that breaks the clients of the version before.
proto:
	$(SETUP) node
	$(BUF) lint
	tests/interop/breaking.sh $(BUF)

# The program has ONNX Runtime's feature here. A test target beside it keeps the features of the dependencies those of `build`.
interop: build
	$(SETUP)
	cargo build --workspace --features flowgate-server/onnx --bin flowgate --test tidy
	FLOWGATE_BIN=$(FLOWGATE_BIN) .interop/venv/bin/pytest tests/interop

bench:
	tests/interop/bench-setup.sh
	cargo build --release -p flowgate-server
	cargo bench -p flowgate-proto --bench gateway

bench-models:
	$(SETUP) python onnx
	cargo build --release -p flowgate-server
	cargo bench -p flowgate-proto --bench models
