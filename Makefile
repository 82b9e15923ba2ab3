# `make up` runs Keyside here; `make test` is what CI runs. Prerequisites: Linux, Go, gcc, git, make.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build up test lint fmt-check generate generate-check unit system exampledriver sdk fuzz soak chaos bench units image clean

VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
DIR      ?= .dev
FUZZTIME ?= 60s
# Where make generate puts the code, from plugins/driverv1.
OUT      ?= .
export CGO_ENABLED = 1

# Where goroutines share the most; the race detector is too slow for the rest on a small machine.
RACE := ./plugins/driver ./hsmd/... ./sidecar/kms ./sidecar/store ./sidecar/audit

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build ./keyside
	@command -v go >/dev/null || { echo 'go is not installed: get it from https://go.dev/dl, the version that go.mod names or later'; exit 1; }
	@command -v gcc >/dev/null || { echo 'gcc is not installed, and the PKCS#11 driver needs it: apt-get install gcc libc6-dev'; exit 1; }
	go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)" -o keyside .

up: ## install SoftHSM where it is missing (root, apt), build, and run Keyside on a SoftHSM token in DIR (default .dev)
	@.ci/install 'run on SoftHSM and try the examples' softhsm2 curl || true
	@$(MAKE) --no-print-directory build
	@if [ -e $(DIR)/driver ]; then driver=$$(cat $(DIR)/driver); \
	elif .ci/install --check softhsm2; then driver=softhsm; \
	else driver=soft; echo 'SoftHSM is not here: using the built-in soft driver, which keeps its keys in a sealed file.'; fi; \
	exec ./keyside up --dir $(DIR) --driver $$driver

test: ## everything that CI checks (installs SoftHSM, OpenSC, curl, openssl, protoc, systemd and procps where they are missing; root, apt)
	@.ci/install 'run the tests' softhsm2 opensc curl openssl protobuf-compiler systemd procps gcc libc6-dev
	@$(MAKE) --no-print-directory lint generate-check unit exampledriver system sdk units

lint: fmt-check ## go vet, staticcheck, gofmt
	go vet ./...
	go vet -tags soak,chaos ./test/... ./sidecar/kms ./plugins/pkcs11
	go tool staticcheck ./...

fmt-check:
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "not formatted, run gofmt -w:" $$out; exit 1; }

unit:
	go test -race -timeout 8m $(RACE)
	go test -timeout 8m $$(comm -23 <(go list ./... | grep -v /test$$ | sort) <(go list $(RACE) | sort))

system: ## the whole-system tests alone, in test/
	go test -timeout 10m ./test/

exampledriver: ## the driver that imports only plugins/driver, in its own module
	cd test/exampledriver && go vet ./... && go test -timeout 5m ./...

sdk: ## every operation by the cloud's own SDK and its other clients' habits, in a module of its own (installs SoftHSM where it is missing; root, apt)
	@.ci/install 'run the clients against SoftHSM' softhsm2
	cd test/sdk && go vet ./... && go test -timeout 5m ./...

generate: ## make plugins/driverv1 from its proto (needs protobuf-compiler)
	@mkdir -p .bin && go build -o .bin google.golang.org/protobuf/cmd/protoc-gen-go google.golang.org/grpc/cmd/protoc-gen-go-grpc
	cd plugins/driverv1 && PATH=$$OLDPWD/.bin:$$PATH protoc --go_out=$(OUT) --go_opt=paths=source_relative \
		--go-grpc_out=$(OUT) --go-grpc_opt=paths=source_relative driver.proto

generate-check: ## fail when the generated code is not what the proto says
	@out=$$(mktemp -d); trap 'rm -rf $$out' EXIT; $(MAKE) --no-print-directory generate OUT=$$out >/dev/null; \
	for f in $$out/*; do diff -u plugins/driverv1/$$(basename $$f) $$f || { echo 'run make generate, and commit what it made'; exit 1; }; done

fuzz: ## each fuzz target for FUZZTIME (default 60s)
	@for pkg in $$(go list ./...); do \
		for target in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "$$pkg $$target"; go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) $$pkg; \
		done; \
	done

soak: ## the long tests: 2,000 imports, 10,000 random sequences of operations, 10,000 keys due at once, a file of 1 GiB, 20,000 keys, lists of 100,000
	@.ci/install 'run the soak tests' softhsm2 opensc curl openssl
	go test -run AgainstModel -timeout 60m -v ./sidecar/kms -rapid.checks=10000
	go test -tags soak -run Soak -timeout 30m -v ./sidecar/kms ./plugins/pkcs11
	go test -tags soak -run Soak -timeout 60m -v ./test/

chaos: ## drivers and daemons killed at random under load, and while keys and grants change and keys come due
	@.ci/install 'run the chaos tests' softhsm2 opensc curl openssl
	go test -tags chaos -run 'Chaos|Killed' -timeout 30m -v ./test/

bench: build ## the figures of the README: the module called directly against 2 and 3 hops
	./keyside bench --driver softhsm --rounds 5

units: build ## check the systemd units in deploy/, and start by socket activation (installs systemd where it is missing; root, apt)
	@.ci/install 'check the systemd units' systemd procps curl
	deploy/verify

image: ## build the container image
	docker build --build-arg VERSION=$(VERSION) -t keyside .

clean: ## remove what build made; .dev holds keys and stays
	rm -f keyside
