# The few commands of daily work. CARGO_TARGET_DIR and CARGOFLAGS are respected.

CARGO ?= cargo

.PHONY: run test verify audit fix config-docs deb

# Serve on 127.0.0.1:1883 with the data in ./nightjar-data.
run:
	$(CARGO) run --release $(CARGOFLAGS)

# Every test. The interoperability tests need mosquitto and its clients, Python with paho-mqtt, and Node with npm;
# `.ci/run` installs them. NIGHTJAR_SKIP_INTEROP=1 leaves those tests out, NIGHTJAR_SKIP_BROWSER=1 those of the dashboard.
test:
	$(CARGO) test --workspace $(CARGOFLAGS)

# Read-only checks: format, lints, and what the dependencies bring in (if cargo-deny is installed). They need no network.
verify:
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(CARGOFLAGS) -- -D warnings
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --locked check bans licenses sources; else \
		echo "verify: cargo-deny is not installed, dependencies were not checked"; fi

# Whether an advisory concerns a dependency. Fetches the database of RustSec.
audit:
	$(CARGO) deny --locked check advisories

# What a machine can mend: format, simple lints, and the pages that the program writes.
fix: config-docs
	$(CARGO) clippy --workspace --all-targets --fix --allow-dirty --allow-staged $(CARGOFLAGS)
	$(CARGO) fmt --all

# The manual of the settings, the example config file and the list of metrics, from the code.
config-docs:
	$(CARGO) build $(CARGOFLAGS)
	$(CARGO) run --quiet $(CARGOFLAGS) -- config-docs > docs/configuration.md
	$(CARGO) run --quiet $(CARGOFLAGS) -- config-docs --example > deploy/nightjar.toml
	$(CARGO) run --quiet $(CARGOFLAGS) -- config-docs --metrics > docs/metrics.md

# The Debian package, in target/debian. Needs cargo-deb (`cargo install cargo-deb`).
deb:
	$(CARGO) build --release --locked $(CARGOFLAGS)
	mkdir -p target/package/man
	target/release/nightjar man target/package/man
	target/release/nightjar completions bash > target/package/nightjar.bash
	target/release/nightjar completions zsh > target/package/_nightjar
	target/release/nightjar completions fish > target/package/nightjar.fish
	$(CARGO) deb --no-build
