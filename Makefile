# make run   installs what is missing, builds, serves on 127.0.0.1:2379 / 2380
# make test  the same, then every test
.DELETE_ON_ERROR:
MARTLET := .build/release/martlet
RUN_FLAGS ?= --data-dir build/default.martlet
PYTEST := .venv/bin/python -m pytest

.PHONY: run build test unit lint fix bench crash conformance simulate soak teeth clean

run: build
	@mkdir -p build
	exec $(MARTLET) $(RUN_FLAGS)

build:
	@scripts/setup --run
	swift build -c release --static-swift-stdlib --product martlet

test:
	@scripts/setup --test
	@scripts/check
	swift build -c release --static-swift-stdlib --product martlet
	swift test
	$(MAKE) simulate
	$(PYTEST) Tests/Conformance Tests/Connections Tests/FirstRun Tests/Crash

unit:
	swift test

lint:
	@scripts/check

fix:
	@scripts/fix

conformance: build
	@scripts/setup --test
	$(PYTEST) Tests/Conformance

crash: build
	@scripts/setup --test
	$(PYTEST) Tests/Crash

# 1000 seeds of simulated clusters; SEEDS="first count" for others.
SEEDS ?= 1 1000
SIMULATE := swift build -c release --product martlet-sim && exec .build/release/martlet-sim

simulate:
	$(SIMULATE) seeds $(SEEDS)

# Seeds until told to stop.
soak:
	$(SIMULATE) soak

# Whether the simulator finds the bugs it is known to be up against.
teeth:
	$(SIMULATE) teeth

bench: build
	@scripts/setup --test
	scripts/bench

clean:
	rm -rf .build build
