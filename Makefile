# make run          installs what is missing, builds, serves on 127.0.0.1:2379 / 2380
# make test         the same, then every test
# make cluster      three members on loopback, and the etcdctl lines for them
#
# make build        the server: .build/release/martlet
# make lint, fix    looks at the form of all sources; brings them into form
# make unit         the Swift tests alone
# make conformance  beside etcd 3.5.1, command by command
# make crash        kills, torn and flipped bytes; CRASHES, FLIPS and SEED choose
# make faults       a cluster under 200 faults; FAULTS and SEED choose
# make backup       snapshots and data directories, from etcd and back
# make patroni      PostgreSQL under Patroni, beside etcd
# make differential random programs of calls beside etcd; SEEDS="first count"
# make simulate     1000 seeds of simulated clusters; SEEDS="first count" for others
# make soak         seeds until told to stop
# make teeth        whether the simulator finds the bugs that it is known to be up against
# make bench        puts and ranges a second, beside etcd
# make backup-bench what writers feel of a snapshot and of a defragmentation
# make clean        removes what was built
.DELETE_ON_ERROR:
MARTLET := .build/release/martlet
RUN_FLAGS ?= --data-dir build/default.martlet
PYTEST := .venv/bin/python -m pytest

.PHONY: run cluster build test unit lint fix bench backup backup-bench crash faults conformance
.PHONY: differential simulate soak teeth patroni clean help

run: build
	@mkdir -p build
	exec $(MARTLET) $(RUN_FLAGS)

cluster: build
	@scripts/cluster

build:
	@scripts/setup --run
	swift build -c release --static-swift-stdlib --product martlet

test:
	@scripts/setup --patroni
	@scripts/check
	swift build -c release --static-swift-stdlib --product martlet
	swift test
	$(MAKE) simulate SEEDS="1 1000"
	$(PYTEST) -n auto --dist loadfile \
	  Tests/Conformance Tests/Connections Tests/FirstRun Tests/TLS Tests/Crash Tests/Backup \
	  Tests/Cluster Tests/Patroni/test_operators.py Tests/Patroni/test_short.py

unit:
	swift test

lint:
	@scripts/check

fix:
	@scripts/fix

conformance: build
	@scripts/setup --test
	$(PYTEST) Tests/Conformance

# Random programs of calls on etcd and on Martlet; SEEDS as below.
differential: build
	@scripts/setup --test
	SEEDS="$(SEEDS)" $(PYTEST) -n auto Tests/Conformance/test_differential.py

faults: build
	@scripts/setup --test
	FAULTS=$${FAULTS:-200} $(PYTEST) Tests/Cluster/test_faults.py

crash: build
	@scripts/setup --test
	$(PYTEST) Tests/Crash

patroni: build
	@scripts/setup --patroni
	$(PYTEST) Tests/Patroni/test_patroni.py Tests/Patroni/test_operators.py

backup: build
	@scripts/setup --test
	$(PYTEST) Tests/Backup

backup-bench: build
	@scripts/setup --test
	.venv/bin/python Benchmarks/backup.py

SEEDS ?= 1 1000
SIMULATE := swift build -c release --static-swift-stdlib --product martlet-sim && exec .build/release/martlet-sim

simulate:
	$(SIMULATE) seeds $(SEEDS)

soak:
	$(SIMULATE) soak

teeth:
	$(SIMULATE) teeth

bench: build
	@scripts/setup --test
	scripts/bench

clean:
	rm -rf .build build

help:
	@sed -n 's/^# \{0,1\}//p' Makefile
