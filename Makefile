# Cloudless. 'make dev' runs a cluster with an example on this machine; 'make test' runs the tests.
GO        ?= go
VERSION   ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
COMMIT    ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
LDFLAGS   := -s -w -X github.com/cloudless/cloudless/cli.Version=$(VERSION) -X github.com/cloudless/cloudless/cli.Commit=$(COMMIT)
# grpcnotrace leaves out gRPC's debug pages: they execute templates, for which the linker keeps 7 MB; nopshufb leaves out most of
# the code that reedsolomon has for each shape of a group (docs/RATIONALE.md).
FLAGS     := -trimpath -tags=grpcnotrace,nopshufb
GOBUILD   := CGO_ENABLED=0 $(GO) build $(FLAGS) -ldflags '$(LDFLAGS)'
# Tests are compiled as the binary is: one compilation serves both, and what is tested is what is built.
ASBUILT   := CGO_ENABLED=0 GOFLAGS='$(FLAGS)'
BIN       ?= bin
PREFIX    ?= /usr/local
FUZZTIME  ?= 30s
PACKAGES  := containerd runc containernetworking-plugins iptables nftables iproute2
export PATH := $(PATH):/usr/local/go/bin:/usr/sbin:/sbin

.PHONY: build build-cli dev test test-long test-integration test-cgroup2 race lint fuzz bench benchmark bench-scheduler bench-storage bench-storage-report bench-report bench-sandbox bench-sandbox-report examples \
	install man build-linux-amd64 build-linux-arm64 build-linux-armv7 build-all clean deps test-deps

build: ## one static binary, bin/cloudless; test/tidy holds it to 40 MB
	$(GOBUILD) -o $(BIN)/cloudless ./cli/cloudless

build-cli: build

build-linux-amd64:
	GOOS=linux GOARCH=amd64 $(GOBUILD) -o $(BIN)/cloudless-linux-amd64 ./cli/cloudless
build-linux-arm64:
	GOOS=linux GOARCH=arm64 $(GOBUILD) -o $(BIN)/cloudless-linux-arm64 ./cli/cloudless
build-linux-armv7:
	GOOS=linux GOARCH=arm GOARM=7 $(GOBUILD) -o $(BIN)/cloudless-linux-armv7 ./cli/cloudless
build-all: build-linux-amd64 build-linux-arm64 build-linux-armv7

deps: ## what containers need; wasm needs nothing
	@./deploy/deps.sh run $(PACKAGES)

test-deps:
	@./deploy/deps.sh test $(PACKAGES) gcc libc6-dev serf minisign awscli rclone restic s3cmd

examples: ## builds the guests that this machine can
	./wasm-examples/build.sh

dev: deps build ## a cluster on loopback with the example deployed
	./deploy/dev.sh

test: test-deps ## everything, at bounded counts
	$(ASBUILT) $(GO) vet ./...
	$(ASBUILT) $(GO) test -timeout 15m ./...

race: test-deps
	$(GO) test -race -timeout 40m ./...

test-integration: test-deps
	$(ASBUILT) $(GO) test -count=1 -timeout 20m ./test/... ./sandbox/...

test-cgroup2: ## the tests of containers on a virtual machine with cgroup v2 alone, about 15 minutes; as root
	./test/vm/run.sh

# The seed of the properties is told, so that a failure can be repeated: make test-long SEED=N.
SEED      := $(or $(SEED),$(shell date +%s))
test-long: test-deps ## the large counts, about an hour; docs/TESTING.md keeps the last result
	@echo "commit $(COMMIT), seed $(SEED), $$(date -u +%FT%TZ)"
	$(ASBUILT) $(GO) test -count=1 -timeout 60m ./coordinator/state ./coordinator/schedule ./coordinator/reconcile ./agent/converge ./chunkstore/place -rapid.checks=5000 -rapid.seed=$(SEED)
	$(ASBUILT) CLOUDLESS_TEST_LONG=1 $(GO) test -count=1 -timeout 90m ./...

lint: ## golangci-lint must be on the PATH: go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
	$(GO) vet ./...
	golangci-lint run ./...

# To make what it finds small may take Go a minute each time, and is no search: with little of it a run tries a hundred times as much.
fuzz: ## each decoder for FUZZTIME
	@set -e; for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
		echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s $$p; done; done

bench: build examples ## the cluster's table of docs/BENCHMARKS.md; bench-report writes it there
	$(GO) run ./test/bench -binary $(BIN)/cloudless

benchmark: bench

WORKERD ?= workerd
SANDBOX := $(GO) run ./test/bench -sandbox -binary $(BIN)/cloudless -workerd $(WORKERD)

bench-sandbox: build examples ## the sandbox's table of docs/BENCHMARKS.md; WORKERD=path of npm's workerd, if there is one
	$(SANDBOX)

bench-sandbox-report: build examples
	$(SANDBOX) -out docs/BENCHMARKS.md

bench-scheduler:
	$(GO) test -run '^$$' -bench . -benchmem ./coordinator/schedule ./coordinator/reconcile

MINIO ?=
WEED ?=
STORAGE := $(GO) run ./test/bench -storage -binary $(BIN)/cloudless -minio '$(MINIO)' -weed '$(WEED)'

bench-storage: build ## the object store by its packages, beside plain appends and Pebble alone, and by its S3 door; MINIO=path WEED=path of peers, if there are any
	$(GO) test -run '^$$' -bench . -benchmem ./chunkstore ./chunkstore/split ./chunkstore/place ./chunkstore/gateway ./coordinator/objects ./coordinator/upkeep
	$(STORAGE)

bench-storage-report: build
	$(STORAGE) -out docs/BENCHMARKS.md

bench-report: build examples
	$(GO) run ./test/bench -binary $(BIN)/cloudless -out docs/BENCHMARKS.md

install: build
	install -D -m 0755 $(BIN)/cloudless $(DESTDIR)$(PREFIX)/bin/cloudless
	ln -sf cloudless $(DESTDIR)$(PREFIX)/bin/cloudlessctl

man: build ## manual pages into bin/man1
	./bin/cloudless man bin/man1

clean:
	rm -rf $(BIN) wasm-examples/*/build
