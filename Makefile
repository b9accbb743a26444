# Development tasks. Everything here is also what CI runs; `make` alone lists the targets.

CARGO ?= cargo
# The tests start several servers of 300 MB each and measure times, so they take turns.
E2E_ARGS ?= --test-threads=1

.PHONY: help check fmt fmt-check lint test doc parts e2e sdk drawings coverage fuzz page soak manifests references demo tour bench bench-churn bench-ledger face release size image deny advisories sbom clean-parts

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

check: fmt-check lint test doc ## everything that needs Rust alone

fmt: ## format the code
	$(CARGO) fmt

fmt-check: ## is the code formatted?
	$(CARGO) fmt --check

lint: ## clippy, warnings denied
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --test e2e -- -D warnings # all targets are those that `cargo test` runs

test: ## unit and integration tests
	$(CARGO) test --locked

doc: ## API documentation, warnings denied
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps

parts: ## build the real kube-apiserver, etcd, … for e2e (Go; eight minutes, once), or find them in KUBEBUILDER_ASSETS
	@tests/parts/build.sh

e2e: parts sdk ## end-to-end tests against the real servers; RBAC_EXPORTER_SAR_QUESTIONS=100000 asks longer
	$(CARGO) test --locked --test e2e -- $(E2E_ARGS) --show-output

sdk: ## does Grafana's own model know every key of the dashboards? (Python with venv, PyPI)
	@tests/dashboards/sdk.sh

drawings: ## draw the dashboards with the demo's data into target/drawings (Python, Prometheus, Chromium)
	$(CARGO) build --locked
	tests/dashboards/draw.sh target/drawings

coverage: ## line coverage of the pure layers by the tests that need Rust alone (cargo install cargo-tarpaulin)
	cargo tarpaulin --engine llvm --follow-exec --timeout 600 --target-dir target/coverage --lib --test integration --include-files 'src/object.rs' 'src/rbac/*' 'src/risk/*' 'src/ledger/*' 'src/compare/*'

fuzz: ## what others write, made up by libFuzzer: each target for five seconds; fuzz/README.md says more
	$(CARGO) fmt --check --manifest-path fuzz/Cargo.toml
	$(CARGO) clippy --locked --manifest-path fuzz/Cargo.toml --target-dir target/fuzz -- -D warnings
	fuzz/run 5

page: ## the page in a real browser: axe-core, console, weight, screenshots into target/page (npm, Chromium)
	$(CARGO) build --locked
	npm ci --prefix tests/page --no-audit --no-fund --fetch-timeout=60000
	node tests/page/check.mjs target/debug/rbac-exporter deploy/demo tests/fixtures/hostile.yaml target/page

soak: parts release ## 22 minutes of changes and dying servers; RBAC_EXPORTER_SOAK_SECONDS, _RATE and _DISTURBANCES change that
	RBAC_EXPORTER_BINARY=$(CURDIR)/target/release/rbac-exporter $(CARGO) test --locked --test e2e -- --ignored --show-output soak::

manifests: parts ## render deploy/manifests, and the chart's table of values, from the chart
	RBAC_EXPORTER_WRITE_MANIFESTS=1 $(CARGO) test --locked --test integration -- chart::the_readme
	RBAC_EXPORTER_WRITE_MANIFESTS=1 $(CARGO) test --locked --test e2e -- deploy::the_manifests_are

references: ## write docs/metrics.md, docs/rules.md and the tables of docs/configuration.md from the code
	RBAC_EXPORTER_WRITE_MANIFESTS=1 $(CARGO) test --locked --test integration -- reference::

demo: ## serve the demo cluster on :7222
	$(CARGO) run --locked --release -- --source.manifests deploy/demo

tour: ## from a grant to the page and back, on the demo: exporter, Prometheus, Alertmanager; no cluster needed
	@RBAC_EXPORTER_TOUR=1 $(CARGO) test --quiet --locked --test e2e -- --exact tour::a_grant_its_page_why_and_the_end_of_it --nocapture

bench: ## every figure of docs/benchmarks.md in one table, beside kube-state-metrics if it is on PATH; BENCH_ARGS=--write writes it
	$(CARGO) bench --locked --bench figures -- all $(BENCH_ARGS)

bench-churn: ## ten minutes of rollouts at full size: growth, scrapes, CPU
	$(CARGO) bench --locked --bench figures -- churn $(BENCH_ARGS)

bench-ledger: ## the ledger alone at three sizes, for work on it
	$(CARGO) bench --locked --bench ledger

face: ## what each answer of the page and the API takes at 150,000 pods, and how long the writer waits for it
	$(CARGO) test --locked --profile bench --test full_size -- --nocapture

release: ## optimised binary in target/release
	$(CARGO) build --locked --release

size: release ## is the release binary at most 12 MB?
	@size=$$(wc -c < target/release/rbac-exporter); \
	echo "release binary: $$size bytes"; \
	test "$$size" -le 12000000 || { echo "larger than the 12,000,000 bytes that are promised" >&2; exit 1; }

image: ## the image's file system in target/image: a static binary, certificates, nothing else
	deploy/image/rootfs.sh target/image
	deploy/image/check.sh target/image

deny: ## which crates, licences and sources are in the tree (cargo install cargo-deny)
	cargo deny check bans licenses sources

advisories: ## known vulnerabilities; needs github.com
	cargo deny check advisories

sbom: ## what the binary is made of, as CycloneDX (cargo install cargo-cyclonedx)
	cargo cyclonedx --format json --spec-version 1.5 --override-filename rbac-exporter.cdx

clean-parts: ## delete the built servers
	rm -rf target/parts
