# make test is everything that must hold. It needs Go, git, make and a C compiler (for the race detector), and what it
# compiles besides, the servers and the linter, goes to the user's cache folder once.

FUZZTIME ?= 60s
TIMEOUT ?= 20m

# Packages tested at a time: half as many as there are processors, since one that runs real servers keeps about two
# busy, and servers that starve lose their leader; but two at least, since most wait for a while. Tests within a package
# run as many at a time as Go likes, and compiling is not held back: it is done before.
TESTP ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$(( n > 4 ? n / 2 : 2 )))

EACH = .ci/each
TOOL = go run ./internal/testserver/pinned/build

# The steps of test are in an order that fails early and ends with the tests.
.NOTPARALLEL:
.PHONY: test browser lint fmt build servers unit race-build fuzz soak bench microbench clean-servers

test: lint unit browser

# Tests of pages skip where there is no browser, which go test doesn't show.
browser:
	@.ci/browser >/dev/null || { \
		echo; echo "NOTE: no Chromium was found, so the pages were NOT tested in a browser."; \
		echo "      Install one (Debian: apt-get install chromium), or name it in POLYKV_CHROMIUM."; echo; } >&2

# Everything that test compiles, it compiles with the race detector, so that it does so once. The linter vets too.
lint:
	lint=$$($(TOOL) golangci-lint) && \
		GOFLAGS="$$GOFLAGS -race" $(EACH) "$$lint" run --allow-parallel-runners --config "$(CURDIR)/.golangci.yml" ./...

fmt:
	lint=$$($(TOOL) golangci-lint) && $(EACH) "$$lint" fmt --config "$(CURDIR)/.golangci.yml" ./...

build:
	$(EACH) go build ./...
	go build -o bin/polykv ./cmd/polykv

servers:
	$(TOOL) etcd consul

race-build:
	$(EACH) sh -c 'go list -race -export -test -deps ./... >/dev/null'

unit: servers race-build
	$(EACH) go test -race -vet=off -p $(TESTP) -timeout $(TIMEOUT) ./...

# The seeds of all fuzz targets run with the tests. Looking for more is for whoever has time.
fuzz:
	.ci/fuzz $(FUZZTIME)

soak: servers race-build
	POLYKV_SOAK=1 $(EACH) go test -race -count=1 -p 1 -timeout 3h ./...
	.ci/fuzz $(FUZZTIME)

# bench measures polykv beside other libraries and writes docs/benchmarks.md: about 25 minutes, or 6 with BENCH=-quick.
# What links the other libraries isn't compiled by anything else, so it is checked here.
BENCH ?=
bench: servers
	for contestant in dskit cortex; do (cd bench/contestants/$$contestant && go vet .) || exit 1; done
	cd bench && go run . $(BENCH)

# microbench measures single functions, with allocations, for benchstat.
microbench: servers
	$(EACH) go test -run '^$$' -bench . -benchmem -p 1 -timeout 1h ./...

clean-servers:
	$(TOOL) -clean
