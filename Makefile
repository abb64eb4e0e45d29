# The two that matter: `make run` (a whole Sendpi on this machine) and `make test`.
.DEFAULT_GOAL := help
.PHONY: help run test lint bench mutants soak

# The nats-server that tests/tools found or installed.
NATS_SERVER = $$(tests/tools --print nats)

help: ## list these commands
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

run: ## start Sendpi here, with NATS and the embedded store (ARGS="--port 9000 --nodes 3")
	@tests/tools nats
	@echo "run: building the release binary"
	@cargo build --quiet --release -p sendpi
	@SENDPI_NATS_SERVER="$(NATS_SERVER)" exec target/release/sendpi dev $(ARGS)

test: ## build everything and run all tests
	@tests/run

lint: ## check formatting and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

bench: ## measure this machine's Sendpi (ARGS are passed on)
	@tests/tools nats
	@echo "bench: building the release binary"
	@cargo build --quiet --release -p sendpi
	@SENDPI_NATS_SERVER="$(NATS_SERVER)" exec target/release/sendpi bench $(ARGS)

soak: ## play chaos for an hour and see that nothing leaks (SECONDS=1200 for less)
	@SENDPI_SOAK_SECONDS=$(or $(SECONDS),3600) tests/soak

mutants: ## break each promise on purpose and see that a test notices
	@tests/mutants
