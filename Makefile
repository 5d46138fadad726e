# The targets that take longer than `go test ./...` say so.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BUILD = CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.release=$(VERSION)"
STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2
FUZZTIME ?= 20000x
MODELS ?= 3
SEED ?= 0
export MAINTAINER

.PHONY: build cross test race vet fuzz torture soak sdk bench
.PHONY: chart manifests test-k8s test-power
.PHONY: packages image release lint-packages exposure test-tools test-image test-systemd

build: ## bin/sealtail, bin/sealtail-reader, bin/sealtail-emulator
	$(BUILD) -o bin/sealtail ./cmd/agent
	$(BUILD) -o bin/sealtail-reader ./cmd/reader
	$(BUILD) -o bin/sealtail-emulator ./cmd/emulator

cross: ## the same for every platform that is released
	for arch in amd64 arm64; do \
		GOOS=linux GOARCH=$$arch $(BUILD) -o bin/linux-$$arch/sealtail ./cmd/agent && \
		GOOS=linux GOARCH=$$arch $(BUILD) -o bin/linux-$$arch/sealtail-reader ./cmd/reader || exit 1; \
	done

test:
	go test ./...

race:
	go test -race -shuffle=on ./...

vet:
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "gofmt: $$unformatted"; exit 1; fi
	go vet ./...
	go vet -tags torture,image,systemd ./...
	$(STATICCHECK) -tags torture,image,systemd ./...

fuzz: ## each fuzz target for FUZZTIME, a count: with a time, Go 1.26 may fail a target whose time is up (golang/go#75804)
	@for pkg in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
			echo "fuzz $$pkg $$f"; \
			go test $$pkg -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) || exit 1; \
		done; \
	done

torture: ## kill -9 under rotation, nginx with logrotate ROTATIONS (60) times a run, a million envelopes, cores taken by root, MODELS (3) models of rotation, each random or of SEED: minutes
	go test -tags torture -count=1 -timeout 20m -v -run 'KillNine|OwnLogs|Nginx|InAMillion|Core$$' ./e2e ./seal
	for i in $$(seq $(MODELS)); do go test -count=1 -timeout 20m -v -run 'TestModel$$' ./tail -model.seed=$(SEED) -model.steps=10000 || exit 1; done

soak: ## 20 MB/s to the emulator while both CMKs go off and on, for SOAK (60s)
	go test -tags torture -count=1 -timeout 40m -v -run Soak ./e2e

sdk: ## the KMS client held against the vendor's own, which is a module apart
	cd test/alikmssdk && go vet ./... && go test -count=1 ./...

bench:
	go test -run '^$$' -bench . -benchmem ./...

chart: ## the Helm chart linted, rendered and held against Kubernetes' types; the plain manifests against it
	cd test/chart && go vet ./... && go test -count=1 ./...

manifests: ## packaging/kubernetes/sealtail.yaml from the chart
	cd test/chart && go test -count=1 -run PlainManifests . -update

packages: ## deb and rpm of agent and reader for amd64 and arm64, in dist/
	rm -f dist/*.deb dist/*.rpm
	go -C tools run ./release -maintainer "$$MAINTAINER" packages

image: ## the agent's container image for amd64 and arm64, in dist/
	rm -f dist/*-image.tar
	go -C tools run ./release image

release: ## all that is released, in dist/, for MAINTAINER='NAME <ADDRESS>'; SIGN=KEY signs the check sums with a private key of SSH
	rm -rf dist
	go -C tools run ./release -maintainer "$$MAINTAINER" $(if $(SIGN),-sign $(abspath $(SIGN)))

lint-packages: packages ## lintian and rpmlint over them
	lintian --fail-on error,warning dist/*.deb
	rpmlint -c packaging/rpmlint.toml dist/*.rpm

exposure: ## the unit, also with each drop-in, as systemd-analyze security rates it: at most 2.0
	systemd/exposure

test-tools: ## what builds packages and image: manuals, completions, bills of materials; the same programs from two directories
	cd tools && go vet ./... && go test -count=1 ./...

test-power: ## the plug of a virtual machine pulled in full write, five times for each suite: minutes, as root
	cd test/power && go vet ./... && go test -count=1 -timeout 30m -v .

test-k8s: ## the chart on a real node, every line of every pod opened once: minutes, as root
	test/k8s/run

test-image: ## the image under podman and runc without any right, and arm64's under qemu-user
	go test -tags image -count=1 -timeout 15m -v ./test/image

test-systemd: ## the packages on a Debian machine in systemd-nspawn: rsyslog, logrotate, upgrades, pauses, drop-ins, purge
	go test -tags systemd -count=1 -timeout 30m -parallel 4 -v ./test/systemd
