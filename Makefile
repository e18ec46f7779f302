# Hookyard. `make` alone lists what can be asked for.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO      ?= go
DATA    ?= data
LISTEN  ?= 127.0.0.1:8080
BIN     := $(CURDIR)/bin
TOOLS   := $(BIN)/tools
# One package's tests may take this long under the race detector on two cores; those of the running hub take a quarter of an hour.
TEST_TIMEOUT ?= 30m
TEST_ARGS    ?=

build-go = CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN)/

.PHONY: help
help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The go command knows best what has changed: programs are built each time, from its cache.
.PHONY: build
build: ## build bin/hookyard, the one file that runs everything
	$(build-go) ./server/cmd/hookyard

.PHONY: run
run: build ## build and start the hub on SQLite in ./data; prints the URL and the first credentials
	$(BIN)/hookyard serve --data-dir $(DATA) --listen $(LISTEN) --print-credentials

.PHONY: demo
demo: build ## start a hub with a small world and events flowing
	$(build-go) ./server/cmd/demo
	$(BIN)/demo -hookyard $(BIN)/hookyard

.PHONY: smoke
smoke: build ## one event through the whole hub, from the vendor's bytes to the live log
	$(build-go) ./server/cmd/smoke
	$(BIN)/smoke -hookyard $(BIN)/hookyard

.PHONY: test
test: build examples $(TOOLS)/gotestsum ## every test, with the race detector, on SQLite and a throw-away PostgreSQL
	.ci/need gcc postgres
	@.ci/need iproute2 || true # the tests that need it say that they are skipped
	HOOKYARD_TEST_BINARY=$(abspath $(BIN))/hookyard .ci/postgres with $(TOOLS)/gotestsum --format pkgname --jsonfile-timing-events $(BIN)/tests.json --post-run-command .ci/verdict -- \
		-race -timeout $(TEST_TIMEOUT) $(TEST_ARGS) ./...

# What is needed to try both examples; the one in Go has a go.mod and tests of its own.
.PHONY: examples
examples:
	.ci/need node
	npm ci --prefix examples/radar-node --ignore-scripts --no-audit --no-fund --silent
	$(GO) -C examples/acme vet ./...
	$(GO) -C examples/acme test -timeout $(TEST_TIMEOUT) ./...

.PHONY: test-connectors
test-connectors: build examples $(TOOLS)/gotestsum ## the part of make test about connectors: every shipped one, both examples, what runs them, and hubs with third parties'
	.ci/need gcc postgres
	$(TOOLS)/gotestsum --format pkgname --post-run-command .ci/verdict -- -race -timeout $(TEST_TIMEOUT) $(TEST_ARGS) ./connectors/... ./plugins/...
	HOOKYARD_TEST_BINARY=$(abspath $(BIN))/hookyard .ci/postgres with $(TOOLS)/gotestsum --format pkgname --jsonfile-timing-events $(BIN)/tests.json --post-run-command .ci/verdict -- \
		-race -timeout $(TEST_TIMEOUT) $(TEST_ARGS) -run '^(TestConnectorsAreUpgraded|TestABrokenStoreHoldsNobodyUp|TestFaultyConnectors|TestOneNodeHasThePackage|TestTheExamplesDeliver|TestAHostileConnectorGetsNothing|TestEgressIsUnderTheOrganizationsList|TestNobodyFillsTheDatabaseWithLinks|TestARunningHubEndsWhoFillsItsFolder|TestAPoisonedDelivery|TestChattyConnectorsAreToldOfRarely|TestSigningKeysHavePasswords|TestThirdParties\w+|TestSourcesAreAsked|TestPollsSurviveKills|TestTwoNodesAskInTurn|TestTheExampleAsks)$$' ./server

# What a fuzz test finds is kept in the package's testdata/fuzz and is a seed of make test from then on.
FUZZ_TIME ?= 10s
.PHONY: fuzz
fuzz: ## run each fuzz test for FUZZ_TIME (make test runs their seeds only)
	@git grep -E '^func Fuzz[A-Za-z0-9_]*\(' -- '*_test.go' | sed -E 's#^(.*)/[^/]+:func (Fuzz[A-Za-z0-9_]*).*#\1 \2#' | while read -r folder name; do \
		echo "== $$folder $$name"; $(GO) test "./$$folder" -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZ_TIME) </dev/null; done

.PHONY: acceptance
acceptance: build ## the cases of docs/acceptance.md on both databases, a line for each; make test runs them too
	.ci/need postgres
	@.ci/need iproute2 || true # without it one case cannot show all that it says, and tells so
	HOOKYARD_TEST_BINARY=$(abspath $(BIN))/hookyard .ci/postgres with .ci/acceptance

.PHONY: bench
bench: build ## the bench table: SQLite, PostgreSQL and the ceiling, interleaved (about an hour; BENCH_ARGS='-only P1 -repeat 1' for less)
	.ci/need postgres
	$(build-go) ./server/cmd/bench
	$(BIN)/bench all -hookyard $(BIN)/hookyard $(BENCH_ARGS)

.PHONY: soak
soak: build ## ten minutes at half load on five million rows, with retention running
	.ci/need postgres
	$(build-go) ./server/cmd/bench
	$(BIN)/bench soak -hookyard $(BIN)/hookyard $(BENCH_ARGS)

.PHONY: generate
generate: ## write all generated code anew
	$(GO) generate ./...

.PHONY: migration
migration: ## write the SQL that brings both databases to the ent schema: make migration name=add_colour
	@test -n "$(name)" || { echo 'say what it does: make migration name=add_colour'; exit 1; }
	.ci/need postgres
	.ci/postgres with $(GO) run ./ent/migrations/diff $(name)

.PHONY: fmt
fmt: ## format the Go code
	gofmt -w $$(git ls-files -co --exclude-standard '*.go' | grep -v /gen/)

.PHONY: vet
vet: ## go vet
	$(GO) vet ./...

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## the linters of .golangci.yml
	$(TOOLS)/golangci-lint run --allow-parallel-runners

.PHONY: tools
tools: $(TOOLS)/golangci-lint $(TOOLS)/gotestsum ## build the pinned tools into bin/tools

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN)

$(TOOLS)/golangci-lint: .ci/check/go.mod
	CGO_ENABLED=0 $(GO) -C .ci/check build -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(TOOLS)/gotestsum: .ci/check/go.mod
	CGO_ENABLED=0 $(GO) -C .ci/check build -o $@ gotest.tools/gotestsum
