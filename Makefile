# tablekeeper: `make help` lists what there is.
.DEFAULT_GOAL := help
SHELL := bash

GO       ?= go
TOOLS    := $(CURDIR)/.tools/bin
LINT_V   := v2.15.0
LINT     := $(TOOLS)/golangci-lint-$(LINT_V)
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
comma    := ,
PLATFORMS := linux/amd64 linux/arm64 darwin/arm64 windows/amd64

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: ## the demo: throw-away tables, a live writer, the whole cycle
	$(GO) run ./cmd/tablekeeper demo

.PHONY: local
local: ## MinIO, a provisioned bucket, and serve against it; Ctrl-C ends all
	@exec ./localstack/local

.PHONY: build
build: ## bin/tablekeeper, stripped
	$(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/tablekeeper ./cmd/tablekeeper

.PHONY: test
test: setup lint cross test-race test-plain ## all tests: lint, race, heavy data, real S3 servers, README
	@echo "all tests passed"

.PHONY: setup
setup: ## install Debian packages and tools that the tests need
	./localstack/setup

.PHONY: test-race
test-race: ## every test under the race detector (small data)
	$(GO) test -race -timeout 30m ./...

.PHONY: test-plain
test-plain: ## every test without it (the tests with much data run here)
	$(GO) test -timeout 30m ./...

.PHONY: test-short
test-short: ## the quick ones, for the loop while editing
	$(GO) test -short ./...

.PHONY: lint
lint: $(LINT) ## gofmt, go vet, golangci-lint
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not gofmt'ed:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(LINT) run ./...

$(LINT):
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_V)
	mv $(TOOLS)/golangci-lint $@

.PHONY: cross
cross: ## it builds for every platform
	@for p in $(PLATFORMS); do \
	  echo "build $$p"; \
	  CGO_ENABLED=0 GOOS=$${p%/*} GOARCH=$${p#*/} $(GO) build -o /dev/null ./cmd/... || exit 1; \
	done

FUZZTIME ?= 30s

.PHONY: fuzz
fuzz: ## fuzz each parser for FUZZTIME (30s)
	@for package in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
	    $(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$package || exit 1; \
	  done; \
	done

.PHONY: bench
bench: ## the figures of docs/performance.md: ratios against named peers in one run
	$(GO) run ./cmd/bench

.PHONY: bench-fleet
bench-fleet: ## 1,000 tables: the commands on all of them, and a service with 50 browsers
	$(GO) run ./cmd/bench -tables 1000 -streams 50

.PHONY: bench-compaction
bench-compaction: ## what each way of compacting costs a table's users (SIZES="40 1000 10000" for 10 GB too, WAYS="online", ROUNDS=3)
	$(GO) run ./cmd/bench/compaction $(if $(SIZES),-sizes $(subst $(eval) ,$(comma),$(SIZES))) $(if $(WAYS),-ways "$(WAYS)") $(if $(ROUNDS),-rounds $(ROUNDS))

.PHONY: screenshots
screenshots: ## the pictures of the dashboard in docs/, by the test in the browser
	@set -e; folder=$$(mktemp -d); trap 'rm -r $$folder' EXIT; \
	TABLEKEEPER_SCREENSHOTS=$$folder $(GO) test -count=1 -run TestOperatorInABrowser ./cmd; \
	cp $$folder/overview-1280-light.png docs/dashboard.png; cp $$folder/overview-1280-dark.png docs/dashboard-dark.png; \
	cp $$folder/overview-360-light.png docs/dashboard-360.png; cp $$folder/overview-360-dark.png docs/dashboard-360-dark.png

.PHONY: clean
clean: ## remove what was built here
	rm -rf bin .tools localstack/.run
