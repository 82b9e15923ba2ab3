# `make up` runs Keyside in .dev; `make test` is what CI runs. Prerequisites: Linux, Go, gcc, git, make.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build up image clean test lint fmt-check unit unit-race unit-rest system exampledriver sdk units generate generate-check fuzz soak chaos damage bench

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
DIR      ?= .dev
FUZZTIME ?= 60s
# What to test: make unit PKG=./policy RUN=Decide; make system RUN=TestScripts/verbs_key; also sdk and exampledriver take RUN.
PKG      ?=
RUN      ?=
# What make damage damages: CASES='closed, db/MANIFEST .* before' for example.
CASES    ?=
# Where make generate puts the code, from plugins/driverv1.
OUT      ?= .
export CGO_ENABLED = 1

# Packages tested under the race detector: those with the most goroutines. It is too slow for the rest on a small machine.
RACE := ./plugins/driver ./hsmd/... ./sidecar/kms ./sidecar/store ./sidecar/audit

help:
	@awk -F ':.*## ' '/^##@ /{printf "\n%s\n", substr($$0, 5)} /^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ Build and run

build: ## build ./keyside
	@command -v go >/dev/null || { echo 'go is not installed: get it from https://go.dev/dl, the version that go.mod names or later'; exit 1; }
	@command -v gcc >/dev/null || { echo 'gcc is not installed, and the PKCS#11 driver needs it: apt-get install gcc libc6-dev'; exit 1; }
	go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)" -o keyside .

up: ## build, and run Keyside on a SoftHSM token in DIR (default .dev); installs SoftHSM where it is missing (root, apt)
	@.ci/install 'run on SoftHSM and try the examples' softhsm2 curl || true
	@$(MAKE) --no-print-directory build
	@if [ -e $(DIR)/driver ]; then driver=$$(cat $(DIR)/driver); \
	elif .ci/install --check softhsm2; then driver=softhsm; \
	else driver=soft; echo 'SoftHSM is missing: using the built-in soft driver, which keeps its keys in a sealed file.'; fi; \
	exec ./keyside up --dir $(DIR) --driver $$driver

image: ## build the container image
	docker build --build-arg VERSION=$(VERSION) -t keyside .

clean: ## remove what build made; .dev holds keys and stays
	rm -f keyside

##@ Check

test: ## everything that CI checks; installs what is missing (SoftHSM, OpenSC, curl, openssl, protoc, systemd, procps, Prometheus; root, apt)
	@.ci/install 'run the tests' softhsm2 opensc curl openssl protobuf-compiler systemd procps prometheus openssh-client gcc libc6-dev
	@$(MAKE) --no-print-directory lint generate-check unit exampledriver system sdk units

lint: fmt-check ## go vet, staticcheck, gofmt
	go vet ./...
	go vet -tags soak,chaos,damage ./test/... ./sidecar/kms ./plugins/pkcs11
	go tool staticcheck ./...

fmt-check: ## gofmt alone
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "not formatted, run gofmt -w:" $$out; exit 1; }

unit: ## the tests of all packages, or of PKG; RUN selects tests
	$(if $(PKG),go test -timeout 8m -run '$(RUN)' $(PKG),$(MAKE) --no-print-directory unit-race unit-rest)

unit-race:
	go test -race -timeout 8m -run '$(RUN)' $(RACE)

unit-rest:
	go test -timeout 8m -run '$(RUN)' $$(comm -23 <(go list ./... | grep -v /test$$ | sort) <(go list $(RACE) | sort))

system: ## the whole-system tests, in test/; RUN selects tests
	go test -timeout 10m -run '$(RUN)' ./test/

exampledriver: ## the example driver, which imports only plugins/driver, in its own module
	cd test/exampledriver && go vet ./... && go test -timeout 5m -run '$(RUN)' ./...

sdk: ## every operation by the cloud's SDK and the habits of other clients, in its own module; installs SoftHSM where it is missing
	@.ci/install 'run the clients against SoftHSM' softhsm2
	cd test/sdk && go vet ./... && go test -timeout 5m -run '$(RUN)' ./...

units: build ## check the systemd units in deploy/ and start by socket activation; installs systemd where it is missing (root, apt)
	@.ci/install 'check the systemd units' systemd procps curl
	deploy/verify

##@ Generate

generate: ## generate plugins/driverv1 from its proto (needs protobuf-compiler)
	@mkdir -p .bin && go build -o .bin google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
	cd plugins/driverv1 && PATH=$$OLDPWD/.bin:$$PATH protoc --go_out=$(OUT) --go_opt=paths=source_relative \
		--go-grpc_out=$(OUT) --go-grpc_opt=paths=source_relative driver.proto

generate-check: ## fail if the generated code does not match the proto
	@out=$$(mktemp -d); trap 'rm -rf $$out' EXIT; $(MAKE) --no-print-directory generate OUT=$$out >/dev/null; \
	for f in $$out/*; do diff -u plugins/driverv1/$$(basename $$f) $$f || { echo 'run make generate, and commit the result'; exit 1; }; done

##@ Long tests and figures

fuzz: ## each fuzz target for FUZZTIME (default 60s)
	@for pkg in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

soak: ## the long tests: 2,000 imports, the times of good and bad imports, 10,000 random sequences of operations, 10,000 keys due at once, a file of 1 GiB, 20,000 keys, lists of 100,000, 100 kills during backups, a backup of 100,000 keys
	@.ci/install 'run the soak tests' softhsm2 opensc curl openssl
	go test -run AgainstModel -timeout 60m -v ./sidecar/kms -rapid.checks=10000
	go test -tags soak -run Soak -timeout 30m -v ./sidecar/kms ./plugins/pkcs11
	go test -tags soak -run Soak -timeout 60m -v ./test/

chaos: ## drivers and daemons killed at random under load, and while keys and grants change and keys come due
	@.ci/install 'run the chaos tests' softhsm2 opensc curl openssl
	go test -tags chaos -run 'Chaos|Killed' -timeout 30m -v ./test/

damage: ## every file of a node damaged in every way, before its start and while it runs; CASES, a regular expression, selects some
	@.ci/install 'run the tests of damage' softhsm2
	KEYSIDE_DAMAGE='$(CASES)' go test -tags damage -run TestAllDamage -timeout 180m -v ./test/

bench: build ## the figures of docs/speed.md: the module called directly against 2 and 3 hops
	./keyside bench --driver softhsm --rounds 5
