# make test is everything that must hold. It needs Go, git, make and a C compiler (for the race detector), and what it
# compiles besides, the servers and the linter, goes to the user's cache folder once.

FUZZTIME ?= 60s
TIMEOUT ?= 45m

# Packages tested at a time: half as many as there are processors, since one that runs real servers keeps about two
# busy, and servers that starve lose their leader; but two at least, since most wait for a while. Tests within a package
# run as many at a time as Go likes: with twice as many of both, a run took longer by half. Compiling is not held back:
# it is done before.
TESTP ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$(( n > 4 ? n / 2 : 2 )))

# Everything in the workspace (go.work) is built, checked and tested at once, with the newest versions. The longest go
# first, so that nothing is waited for alone in the end.
LONGEST = ./e2e ./kv/consul ./kv/coordination ./kv/etcd ./cli ./kv/memberlist ./drivers/nats ./examples
PACKAGES = $(LONGEST) $(shell .ci/modules | sed 's|^\.$$||; s|.*|./&/...|; s|//|/|')
TOOL = go run ./internal/testserver/pinned/build

.NOTPARALLEL:
.PHONY: test compile browser postgres lint tidy tidy-fix fmt build servers unit tests weeks race-build floors fuzz soak busy mutants bench microbench clean-servers

# What only computes takes what the tests leave of the processors. Host programs have servers, too, which may not starve.
test: compile
	@MAKE='$(MAKE)' .ci/beside tests tidy lint weeks
	@$(MAKE) --no-print-directory floors browser

compile:
	@MAKE='$(MAKE)' .ci/beside race-build servers

# Tests of pages skip where there is no browser, which go test doesn't show.
browser:
	@.ci/browser >/dev/null || { \
		echo; echo "NOTE: no Chromium was found, so the pages were NOT tested in a browser."; \
		echo "      Install one (Debian: apt-get install chromium), or name it in POLYKV_CHROMIUM."; echo; } >&2

# Nor does it show that the tests on PostgreSQL skipped.
postgres:
	@.ci/postgres >/dev/null || { \
		echo; echo "NOTE: no PostgreSQL was found, so what needs it (drivers/postgres, a test of cmd/polykv) was NOT tested."; \
		echo "      Install one (Debian: apt-get install postgresql)."; echo; } >&2

# Everything that test compiles, it compiles with the race detector, so that it does so once. The linter vets too.
lint:
	lint=$$($(TOOL) golangci-lint) && GOFLAGS="$$GOFLAGS -race" "$$lint" run --allow-parallel-runners $(PACKAGES)

# Every go.mod and go.sum says just what its module needs. "make tidy-fix" mends them.
tidy:
	.ci/tidy -diff

tidy-fix:
	.ci/tidy

fmt:
	lint=$$($(TOOL) golangci-lint) && "$$lint" fmt .

build:
	go build $(PACKAGES)
	go build -o bin/polykv ./cmd/polykv

servers:
	$(TOOL) etcd consul

race-build:
	go list -race -export -test -deps $(PACKAGES) >/dev/null

unit: servers race-build tests

# Go takes the result of an earlier run for a package that is as it was. What it doesn't see, files of other modules and
# what is compiled by a test, is in the variable, at which tests look that depend on such.
tests: export POLYKV_TREE = $(shell git ls-files -zco --exclude-standard | xargs -0 cat 2>/dev/null | git hash-object --stdin)
tests:
	go test -race -vet=off -p $(TESTP) -timeout $(TIMEOUT) $(PACKAGES)

# Simulated weeks of gossip, many: without -race, which makes them ten times as slow. One processor at a time costs a
# third less than several, since the goroutines of a week take turns. Beside other tests it may have to wait for long.
WEEKS ?= 200
weeks:
	POLYKV_SIM_SEEDS=$(WEEKS) GOGC=400 go test -vet=off -cpu 1 -timeout 1h -run '^TestLightWeeks$$' ./kv/memberlist

# The library by itself, with the lowest versions that it asks for, its parts that are modules of their own likewise,
# and then every program that it has to fit into, with the versions that those choose.
floors:
	GOWORK=off go vet ./...
	GOWORK=$(CURDIR)/floors.work go build ./drivers/bolt ./drivers/nats ./drivers/postgres ./kv/otel
	.ci/compat

# The seeds of all fuzz targets run with the tests. Looking for more is for whoever has time.
fuzz:
	.ci/fuzz $(FUZZTIME)

soak: servers race-build
	POLYKV_SOAK=1 go test -race -count=1 -p 1 -timeout 3h $(PACKAGES)
	.ci/fuzz $(FUZZTIME)

# mutants makes one small mistake after another in the code of these packages and runs the package's tests on each: those
# that survive are printed. MUTATING chooses tests and files: -run '^TestConfig' -files '^config.go$$'.
MUTATED ?= ./kv/driver/kit ./codec ./kv/factory
MUTATING ?=
mutants: servers
	go run ./tools/mutation -p $(TESTP) $(MUTATING) $(MUTATED)

# bench measures polykv beside other libraries and writes docs/benchmarks.md: about 25 minutes, or 6 with BENCH=-quick.
# What links the other libraries isn't compiled by anything else, so it is checked here.
BENCH ?=
bench: servers
	for contestant in dskit cortex; do (cd bench/contestants/$$contestant && GOWORK=off go vet .) || exit 1; done
	cd bench && go run . $(BENCH)

# busy runs the tests ten times on a machine that is made busy. Each must pass.
busy: servers race-build
	.ci/busy 10 $(MAKE) tests TIMEOUT=1h

# microbench measures single functions, with allocations, for benchstat.
microbench: servers
	go test -run '^$$' -bench . -benchmem -p 1 -timeout 1h $(PACKAGES)

clean-servers:
	$(TOOL) -clean
