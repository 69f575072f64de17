# kaizen: everything a developer runs. Nothing here needs more than Go, make and
# the package registries; test set-up installs the rest where it may.

SHELL := /bin/bash
.DELETE_ON_ERROR:

MODULES := . providers server
BIN := bin/kaizen
# The binary is static everywhere. The tag keeps gRPC's debug pages out, and with
# them 30 MB: docs/adr/0005-a-small-binary.md.
BUILD := CGO_ENABLED=0 go build -trimpath -tags grpcnotrace -ldflags '-s -w'

.PHONY: all build demo test test-setup test-page bench bench-ab bench-memory bench-ledger bench-ledger-query fuzz crash tamper lint tidy stack deploy-check clean help

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

all: lint test

build: ## build bin/kaizen
	@$(BUILD) -o $(BIN) ./server/cmd/kaizen

demo: build ## watch a team of agents at work; ARGS="--exit --json" for one JSON object
	@$(BIN) demo $(ARGS)

test-setup: ## install what the tests need, where that is possible
	@scripts/test-setup.sh

# PACKAGES narrows a run: make test PACKAGES=./audit/...
test: test-setup test-page ## every test of every module, with the race detector
	@scripts/test.sh $(PACKAGES)

test-page: ## type-check and test the page's modules
	@server/web/check.sh

bench: ## the benchmarks beside their baselines, as a table of ratios
	@go run ./tools/benchratio
	@go test -run '^$$' -bench ReferenceLoop -benchtime 1000x -count 5 .

AB ?=
bench-ab: ## model calls with and without full observation, in pairs; AB="-pairs 60 -max 200ms" for a quick look
	@go run ./tools/abtest $(AB)

bench-memory: ## the long form of the test of memory: 10 million observations, 1 million spans
	@KAIZEN_MEMORY=full go test -count=1 -run MemoryIsFlat -v .

bench-ledger-query: ## open, query, count, group, verify, seal, recover, memory; KAIZEN_BENCH_ENTRIES=1000000 for a million
	@go test ./audit -run '^$$' -bench 'BenchmarkOpen|BenchmarkQueryStore|BenchmarkVerifyStore|BenchmarkSeal|BenchmarkRecover|BenchmarkMemory' -benchtime 5x

BENCH_LEDGER ?=
bench-ledger: ## the audit ledger beside other stores, in ratios; BENCH_LEDGER=-short for a quick look
	@cd peers && GOWORK=off go run ./ledgerbench $(BENCH_LEDGER)

BENCH_LOGS ?=
bench-logs: ## log lines beside phuslu's, zerolog's and slog's handlers, in ratios; BENCH_LOGS=-short for a quick look
	@cd peers && GOWORK=off go run ./logbench $(BENCH_LOGS)

FUZZTIME ?= 30s
fuzz: ## run every fuzz test for FUZZTIME each
	@scripts/fuzz.sh $(FUZZTIME)

# Rounds of killing a process, and simulated power losses: make test does 200 and 150.
CRASH_ROUNDS ?= 10000
POWER_ROUNDS ?= 100000
crash: ## the long form of the crash and power-loss tests
	@KAIZEN_CRASH_ROUNDS=$(CRASH_ROUNDS) KAIZEN_POWER_ROUNDS=$(POWER_ROUNDS) KAIZEN_FAULT_SEEDS=4 go test -count=1 -timeout 12h -run 'Crash|PowerLoss|Fault|Kill' ./audit/... ./server/...

tamper: ## flip every bit of every file of a ledger that has everything
	@KAIZEN_EVERY_BIT=1 go test -count=1 -timeout 3h -run 'EveryBitFlip|KeyDirBitFlips' -v ./audit

lint: ## formatting, vet, staticcheck, tidiness
	@scripts/lint.sh

tidy: ## go mod tidy in all modules
	@for m in $(MODULES); do (cd $$m && GOWORK=off go mod tidy) || exit 1; done

stack: ## start the server and Grafana in containers: docs/deploy.md
	@deploy/compose/up.sh light

deploy-check: build ## check everything in deploy/ with the tools that it is for
	@scripts/deploy-check.sh

clean:
	@rm -rf bin artifacts
