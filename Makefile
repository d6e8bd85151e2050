# make help lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO ?= go
BIN := bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null)

# The benchmarks that make bench-lab runs on a testbed, as a regular expression.
BENCH ?= .

# How many simulated trials make bench runs, and on how many lanes: with their steps as
# local activities, and as ordinary ones.
BENCH_LANES ?= 10000 100
BENCH_ORDINARY ?= 1000 100

# How often make test-faults injects each fault in each phase, and how many faults it tests
# at the same time: they wait more than they work.
FAULT_SEEDS ?= 3
FAULT_SLOTS ?= 4

# The hypervisor of an emulated testbed that a target starts: xen, kvm or vsphere.
HYPERVISOR ?= xen

# A target passes these to other targets. Here they are emptied, so that variables of the
# environment with the same names have no effect.
SHORT :=
LAB_SKIP :=
LAB_LEAVE_OUT :=
VSPHERE :=

# Debian packages: for the testbed, for its image, for a guest's OVA, and a compiler for the
# race detector. For the tests: UEFI (ovmf), with which QEMU starts such a guest, and the stub
# by which UEFI starts a kernel (systemd-boot-efi), a shell like that of small hosts (busybox),
# iproute2, socat, which carries migrations, sudo, with which users become root, an SFTP
# server, which then shows them files, rpm, uidmap, with which mmdebstrap needs no root, the programs that execute the notebooks, a browser
# for the report, and PostgreSQL, with whose programs make test-production starts a cluster of
# its own.
PACKAGES := qemu-system-x86 qemu-utils mmdebstrap fakeroot e2fsprogs kmod xz-utils lz4 binutils openssh-client \
	dosfstools fdisk mtools ovmf systemd-boot-efi uidmap \
	gcc libc6-dev git ca-certificates busybox iproute2 socat sudo openssh-sftp-server rpm jq \
	jupyter-nbconvert python3-ipykernel python3-matplotlib python3-pandas chromium postgresql openssl

# DuckDB, with which tests read the dataset.
DUCKDB := tools/duckdb/node_modules/.package-lock.json
# Polars, with which tests run some of the queries in docs/queries.md.
POLARS := tools/polars/node_modules/.package-lock.json

# The embedded Temporal server: a module of its own that takes long to compile.
SERVER := $(BIN)/heliotrope-server

# The versions of the tools are pinned in tools/go.mod.
LINTER := $(BIN)/tools/golangci-lint
WORKFLOWCHECK := $(BIN)/tools/workflowcheck
# govmomi's own client of a vCenter: a module of its own.
GOVC := $(BIN)/tools/govc
# How many packages of the linter are compiled at once; the linter is large.
LINTER_JOBS ?= 2

# The folders whose tests need a testbed, the names of these tests as a regular expression,
# the folders of them with benchmarks, and the folders with benchmarks that need no testbed.
LAB_PACKAGES = $(shell grep -rl --include='*_test.go' '^//go:build lab$$' . | xargs -r -n1 dirname | sort -u)
LAB_NAMES = $(shell grep -rl --include='*_test.go' '^//go:build lab$$' . | xargs -r grep -oh '^func Test[A-Za-z0-9_]*' | cut -d ' ' -f 2 | sort -u | paste -sd '|')
LAB_BENCH_PACKAGES = $(shell grep -rl --include='*_test.go' '^func Benchmark' . | xargs -r grep -l '^//go:build lab$$' | xargs -r -n1 dirname | sort -u)
BENCH_PACKAGES = $(shell grep -rl --include='*_test.go' '^func Benchmark' . | xargs -r grep -L '^//go:build ' | xargs -r -n1 dirname | sort -u)

# with_testbed runs $(1) with HELIOTROPE_INVENTORY set: to its value in the environment, or
# else to a testbed of its own, which is destroyed at the end, however $(1) ends. A testbed is
# in RAM, and takes about 3 GiB.
define with_testbed
	@if [ -z "$${HELIOTROPE_INVENTORY:-}" ]; then \
		name="test-$$$$"; \
		trap 'code=$$?; trap "" INT TERM HUP; $(BIN)/heliotrope lab destroy --force --name "$$name" || code=1; exit $$code' EXIT; \
		trap 'exit 130' INT TERM HUP; \
		status="$$($(BIN)/heliotrope lab up --name "$$name" --hypervisor "$(HYPERVISOR)" --json)"; \
		HELIOTROPE_INVENTORY="$$(sed -n 's/^ *"inventory": "\(.*\)",\{0,1\}$$/\1/p' <<< "$$status")"; \
		[ -n "$$HELIOTROPE_INVENTORY" ] || { echo "lab up names no inventory: $$status" >&2; exit 1; }; \
	fi; \
	export HELIOTROPE_INVENTORY="$$(realpath "$$HELIOTROPE_INVENTORY")"; \
	echo "testbed: $$HELIOTROPE_INVENTORY"; \
	$(1)
endef

.PHONY: help
help: ## show this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: deps
deps: ## install the Debian packages that are missing (with sudo when not root)
	@missing=(); \
	for package in $(PACKAGES); do \
		[ "$$(dpkg-query -W -f '$${db:Status-Status}' "$$package" 2>/dev/null || true)" = installed ] || missing+=("$$package"); \
	done; \
	command -v npm > /dev/null || missing+=(nodejs npm); \
	if [ $${#missing[@]} -eq 0 ]; then echo "all packages are there"; exit 0; fi; \
	sudo=(); [ "$$(id -u)" = 0 ] || sudo=(sudo); \
	"$${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get update -q; \
	"$${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$${missing[@]}" < /dev/null

.PHONY: build
build: ## build bin/heliotrope and the programs that it starts
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)' -o $(BIN)/ ./cmd/...

.PHONY: server
server: $(SERVER) ## build bin/heliotrope-server, the Temporal server for both embedded use and production (some minutes, once)

$(SERVER): $(wildcard deploy/server/*.go) deploy/server/go.mod deploy/server/go.sum
	@echo "building the embedded Temporal server (some minutes, once)"
	CGO_ENABLED=0 $(GO) build -C deploy/server -trimpath -buildvcs=false -ldflags '-s -w -X main.version=$(VERSION)' -o $(CURDIR)/$(SERVER) .
	@touch $(SERVER)

$(DUCKDB): tools/duckdb/package.json tools/duckdb/package-lock.json
	cd tools/duckdb && npm ci --no-audit --no-fund --loglevel=error
	@touch $(DUCKDB)

# Not npm ci: Polars lists optional packages for other platforms that were never published.
$(POLARS): tools/polars/package.json tools/polars/package-lock.json
	cd tools/polars && npm install --no-audit --no-fund --loglevel=error
	@touch $(POLARS)

.PHONY: demo
demo: ## run a small version of the thesis' experiment: installs, builds, starts a testbed, migrates (HYPERVISOR=kvm: faster)
	HYPERVISOR=$(HYPERVISOR) tools/demo

# How many packages make test tests at once, and how many parallel tests of each: many tests
# wait more than they work. The package that takes longest is named first.
# The limit of Temporal's SDK, a second for a workflow's task, is off here (TEMPORAL_DEBUG):
# where tests share processors, a task takes longer, and the SDK goes on beside it, which the
# race detector reports. make test-production and make test-lab keep the limit.
TEST_PACKAGES ?= 3
TEST_PARALLEL ?= 4

.PHONY: test
test: build server $(DUCKDB) $(POLARS) ## run the unit tests with the race detector; a skipped test is a failure
	TEMPORAL_DEBUG=1 HELIOTROPE_SERVER=$(CURDIR)/$(SERVER) GO=$(GO) tools/test-all -race -timeout 30m -p $(TEST_PACKAGES) -parallel $(TEST_PARALLEL) ./cmd/heliotrope ./...

.PHONY: test-faults
test-faults: build server ## inject every fault in every phase of simulated trials, and print the matrix (FAULT_SEEDS=1: a third of the runs)
	HELIOTROPE_SERVER=$(CURDIR)/$(SERVER) $(GO) test ./cmd/heliotrope -run '^TestFaults$$' -v -count=1 -timeout 120m -args -fault-seeds $(FAULT_SEEDS) -fault-slots $(FAULT_SLOTS)

# PRODUCTION=-short: each process is killed once instead of three times.
PRODUCTION ?=

.PHONY: test-production
test-production: server ## run two controllers on a Temporal server on PostgreSQL with mutual TLS, and kill each process three times (PRODUCTION=-short: once)
	HELIOTROPE_SERVER=$(CURDIR)/$(SERVER) GO=$(GO) tools/test-all --all -race -tags production -timeout 30m -count=1 $(PRODUCTION) -run '^(TestProduction|TestControllersDoNotMeet)$$' ./cmd/heliotrope

# Most tests need a testbed, but no particular hypervisor: they run on KVM's testbed, which
# is faster. On Xen's testbed run the tests of what only Xen has, a campaign's trial, and
# migrations under load over the other storage systems. On a testbed that
# HELIOTROPE_INVENTORY names, all tests run that are possible with its hypervisor. The tests
# of the testbed itself come last: they kill its nodes, which must not happen to real hosts.
#
# make test-lab leaves to test-lab-full what other tests show: CONTRIBUTING.md has the table.
# These are the tests that it does not run on KVM, the folders all of whose tests it does not
# run, and the test that it does not run on Xen.
KVM_ELSEWHERE := TestMigrateUnderLoad|TestCancelledMigration|TestLabWitnesses|TestLabForeignDisk|TestLabEngines
FOLDERS_ELSEWHERE := ./deploy/vcenter ./deploy/lab/image
XEN_ELSEWHERE := TestMigrateUnderLoad/nfs
OF_HYPERVISOR = $(filter ./internal/hypervisor/$(HYPERVISOR:vsphere=kvm),$(LAB_PACKAGES))
ANY_PACKAGES = $(filter-out ./internal/hypervisor/% ./deploy/lab $(LAB_LEAVE_OUT),$(LAB_PACKAGES))
SKIP = $(if $(LAB_SKIP),-skip '$(LAB_SKIP)')
LAB_TESTS = GO=$(GO) tools/test-all --all -race -tags lab -timeout 60m -p 1 -count=1 -run
# The tests that need a testbed: make test has run the others in their packages.
LAB_ALL = '^($(LAB_NAMES))$$'

.PHONY: test-lab
test-lab: build server $(DUCKDB) ## run the tests that need a testbed and most of examples/controls.yaml, on new testbeds (some minutes on Xen, the rest on KVM); or all of it on HELIOTROPE_INVENTORY
	@if [ -n "$${HELIOTROPE_INVENTORY:-}" ]; then \
		$(MAKE) --no-print-directory test-lab-all HYPERVISOR="$$(sed -n 's/^hypervisor: //p' "$$HELIOTROPE_INVENTORY")"; \
	else \
		$(MAKE) --no-print-directory test-lab-all HYPERVISOR=vsphere SHORT=--short LAB_SKIP='$(KVM_ELSEWHERE)' LAB_LEAVE_OUT='$(FOLDERS_ELSEWHERE)' && $(MAKE) --no-print-directory test-lab-some HYPERVISOR=xen; \
	fi

.PHONY: test-lab-full
test-lab-full: build server $(DUCKDB) $(GOVC) ## run all tests and examples/controls.yaml on a testbed of each hypervisor, a campaign on both in turn, make test-production, faults at the lab's vCenter, and the package's services under systemd
	$(MAKE) --no-print-directory test-lab-all HYPERVISOR=vsphere VSPHERE=--full
	$(MAKE) --no-print-directory test-lab-all HYPERVISOR=xen LAB_LEAVE_OUT=./deploy/lab/image
	$(MAKE) --no-print-directory test-production
	tools/turns-check
	tools/service-check

# A vsphere testbed has the lab's vCenter in front of its KVM hosts. After the checks of the
# vCenter, the other tests run on the KVM hosts behind it.
BEHIND_VCENTER = tools/vsphere-check $(VSPHERE) && HELIOTROPE_INVENTORY="$$(tools/behind-vcenter)" &&

.PHONY: test-lab-all
test-lab-all: build
	$(call with_testbed,$(if $(filter vsphere,$(HYPERVISOR)),$(BEHIND_VCENTER)) $(LAB_TESTS) $(LAB_ALL) $(SKIP) $(OF_HYPERVISOR) $(ANY_PACKAGES) && tools/controls-check $(SHORT) $(if $(filter vsphere,$(HYPERVISOR)),&& tools/outcomes-check $(SHORT)) && $(LAB_TESTS) $(LAB_ALL) $(SKIP) $$(sed -n 's/^kind: hardware.*/-skip ^TestRevive$$/p' "$$HELIOTROPE_INVENTORY") ./deploy/lab)

.PHONY: test-lab-some
test-lab-some: build
	$(call with_testbed,$(LAB_TESTS) $(LAB_ALL) $(OF_HYPERVISOR) && tools/controls-check --one && $(LAB_TESTS) '^TestMigrateUnderLoad$$' -skip '$(XEN_ELSEWHERE)' ./deploy/lab)

.PHONY: bench
bench: build server $(DUCKDB) ## run the benchmarks that need no testbed, percentiles of 100 million I/Os and ingest beside DuckDB, and 10,000 simulated trials on 100 lanes (BENCH_LANES="500 10": fewer), 1,000 with ordinary steps, on the embedded server and on PostgreSQL, and both engines of the load
	HELIOTROPE_SERVER=$(CURDIR)/$(SERVER) $(GO) test -run '^$$' -bench . -benchmem -p 1 $(BENCH_PACKAGES)
	$(GO) test -run '^$$' -bench Percentiles -benchtime 1x ./analysis/samples -args -millions 100
	tools/bench-ingest
	tools/bench-lanes $(BENCH_LANES)
	GO=$(GO) tools/bench-lanes --postgres $(BENCH_LANES)
	tools/bench-lanes --ordinary $(BENCH_ORDINARY)
	GO=$(GO) tools/bench-lanes --postgres --ordinary $(BENCH_ORDINARY)
	@if ! command -v fio > /dev/null; then echo "tools/bench-load was not run: fio is not installed"; \
	elif [ "$$(id -u)" != 0 ]; then echo "tools/bench-load was not run: it makes a loop device on memory, as root only can"; \
	else tools/bench-load; fi

# How long each fuzz test looks for new inputs.
FUZZTIME ?= 30s

.PHONY: fuzz
fuzz: ## let each fuzz test look for new inputs (FUZZTIME=5m: for 5 minutes each)
	@grep -rHo --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | while IFS=: read -r file name; do \
		$(GO) test -run '^$$' -fuzz "^$${name#func }$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x "$$(dirname "$$file")" < /dev/null || exit 1; \
	done

.PHONY: release
release: ## make a deb, an rpm, an SBOM and their checksums in bin/release, reproducibly (tools/release-check checks that)
	GO=$(GO) tools/release/build

.PHONY: bench-lab
bench-lab: build server $(DUCKDB) ## measure a testbed's own speed and whole trials, on a machine that does nothing else (BENCH=Migration: only that benchmark)
	$(call with_testbed,$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime 1x -tags lab -timeout 180m -p 1 -count=1 -v $(LAB_BENCH_PACKAGES) && tools/bench-trials)

# The server's module is loaded with the same flags as in its build, so that packages that
# the build has compiled are used again.
.PHONY: lint
lint: $(LINTER) $(WORKFLOWCHECK) ## check the code: golangci-lint, that its rules on imports find violations, and that workflows are deterministic
	$(LINTER) run ./...
	cd deploy/server && CGO_ENABLED=0 GOFLAGS=-trimpath $(CURDIR)/$(LINTER) run --config $(CURDIR)/.golangci.yml ./...
	tools/lint-bites $(LINTER)
	tools/lint-names
	$(WORKFLOWCHECK) ./workflows/...

.PHONY: vulncheck
vulncheck: ## look for known vulnerabilities in the modules that the programs use; it asks Go's database of them on the internet
	$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./...
	cd deploy/server && $(GO) run golang.org/x/vuln/cmd/govulncheck@v1.1.4 ./...

.PHONY: fmt
fmt: $(LINTER) ## format the code
	$(LINTER) fmt ./...

$(LINTER): tools/go.mod tools/go.sum
	@echo "building golangci-lint (some minutes, once)"
	cd tools && $(GO) build -p $(LINTER_JOBS) -buildvcs=false -o ../$(LINTER) github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(GOVC): $(wildcard tools/govc/*)
	cd tools/govc && CGO_ENABLED=0 $(GO) build -buildvcs=false -o $(CURDIR)/$(GOVC) .
	@touch $(GOVC)

$(WORKFLOWCHECK): tools/go.mod tools/go.sum
	cd tools && $(GO) build -buildvcs=false -o ../$(WORKFLOWCHECK) go.temporal.io/sdk/contrib/tools/workflowcheck

.PHONY: clean
clean: ## remove what was built (testbeds and cached images stay: see heliotrope lab destroy)
	rm -rf $(BIN)
