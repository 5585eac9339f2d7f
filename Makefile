# Every target is a few lines; what is longer lives in scripts/.
SHELL := /bin/bash
.DEFAULT_GOAL := help
FUZZTIME ?= 30s
VCS := -buildvcs=$(shell git rev-parse HEAD >/dev/null 2>&1 && echo true || echo false)
export CGO_ENABLED ?= 0

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: ## check for what building and testing need; as root on Debian, install it
	@scripts/setup test

build: ## build bin/spillway, bin/surge and bin/bootstrap (the example function)
	@scripts/setup build
	@go build -trimpath $(VCS) -o bin/ ./cmd/spillway ./cmd/surge
	@go build -trimpath $(VCS) -o bin/bootstrap ./cmd/thumbnail

demo: build ## show a flash crowd on this machine; ARGS="--for 30s --json"
	@bin/spillway demo $(ARGS)

check: setup ## format, vet, lint, modules: everything but the tests
	@scripts/check

test: setup ## the tests, with the race detector, in random order, and conformance
	@scripts/test
	@$(MAKE) --no-print-directory conformance

conformance: build ## the public tests of HTTP caches; ARGS="-http3", ARGS="-fast-path off", ARGS="-test ID"
	@scripts/setup test
	@go run ./scripts/conformance $(ARGS)

test-more: ## browsers and other programs against the node, all simulated origins, 1,000 kills, 20 upgrades: some 35 minutes
	@scripts/setup more
	@scripts/test more
	@SPILLWAY_FAST_PATH=off scripts/test plain ./edge
	@$(MAKE) --no-print-directory conformance ARGS="-fast-path off"
	@scripts/test-kernel
	@SPILLWAY_GRID=. go test -count 1 -run TestGrid ./origin/limit
	@SPILLWAY_HISTORIES=300 go test -count 1 -run TestModel ./edge/cache
	@SPILLWAY_KILLS=1000 go test -count 1 -run TestKilledAtAnyMoment ./edge/cache/disk
	@SPILLWAY_NODE_KILLS=30 go test -count 1 -run TestKilledNodeServesItsDisk ./cmd/spillway
	@SPILLWAY_UPGRADES=20 go test -count 1 -run TestUpgradesLoseNothing/judged ./cmd/spillway

test-kernel: ## the tests of packets on the kernel of Debian 12, in a virtual machine
	@scripts/setup kernel
	@scripts/test-kernel

bench: build ## CPU per request beside nginx and others, crowds, the store, packets: 15 minutes; ARGS="--part hits"
	@scripts/setup bench
	@bin/surge bench $(ARGS)
	@go run ./scripts/figures
	@go test -run '^$$' -bench . -benchtime 100ms -skip '^Benchmark(HitRatio|Million|MixedSet|GetBySize|Purge|Turnover|Packet|Maps)' ./...

bench-crowd: build ## flash crowds against HAProxy and others: an hour, resumable; ARGS="--scenario plain --json --strict"
	@scripts/setup contest
	@bin/surge contest $(ARGS)

bench-flood: build ## floods of new connections in networks of their own, as root: an hour and a half; ARGS="--profile random --rounds 1 --strict"
	@scripts/setup flood
	@bin/surge flood $(ARGS)

bench-peers: build ## CPU of hits and new visitors beside Caddy, nginx and HAProxy: 20 minutes, as root the first time; ARGS="--part m10 --strict"
	@scripts/setup peers
	@bin/surge peers $(ARGS)

fuzz: ## run every fuzz test for FUZZTIME=30s
	@FUZZTIME=$(FUZZTIME) scripts/fuzz

generate: setup ## compile the programs of the kernel and make the example photographs again
	@go generate ./...

licenses: ## write the licences of all that is linked into the program again
	@mkdir -p bin && go run ./scripts/licenses ./cmd/spillway > bin/licenses && mv bin/licenses LICENSES/THIRD-PARTY.txt

sbom: build ## write bin/spillway.cdx.json: what the program is made of (CycloneDX)
	@go run ./scripts/sbom bin/spillway > bin/spillway.cdx.json

install: ## run the node as a service of this machine, as root; ARGS="--dry-run"
	@scripts/install.sh $(ARGS)

tour: build ## a flash crowd on five virtual machines, by Vagrant
	@vagrant up
	@scripts/tour

clean: ## remove what was built
	@rm -rf bin

.PHONY: help setup build demo check test conformance test-more test-kernel bench bench-crowd bench-flood bench-peers fuzz generate licenses sbom install tour clean
