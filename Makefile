# The guards of the house. `make check` is what a change must pass.
GOFUMPT     = go run mvdan.cc/gofumpt@v0.12.0
STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: check format lint test race cross arm64 generate-check fuzz bench

check: format lint cross generate-check test race

format:
	@out="$$($(GOFUMPT) -l $$(git ls-files '*.go'))"; test -z "$$out" || { echo "not gofumpt-ed:"; echo "$$out"; exit 1; }

lint:
	go vet ./...
	$(STATICCHECK) ./...

test:
	go test ./...

# The packages in which goroutines meet.
race:
	go test -race -short ./backends/internal/host ./data ./infer ./framework/rng

# What cannot be run here is at least built.
cross:
	GOOS=linux GOARCH=arm64 go vet ./...
	GOOS=linux GOARCH=arm64 go build -o /dev/null ./cmd/tern
	GOOS=darwin GOARCH=arm64 go build -o /dev/null ./cmd/tern
	GOOS=windows GOARCH=amd64 go build -o /dev/null ./cmd/tern
	go vet -tags purego ./...
	go test -tags purego ./backends/avx2/...

# The reference kernels on a processor that fuses multiply and add, under
# emulation (Debian's package qemu-user).
arm64:
	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go test -exec qemu-aarch64 ./framework/graph ./framework/quanttest ./framework/residualtest ./backends/scalar ./quant ./residual ./infer
	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go run -exec qemu-aarch64 ./cmd/tern generate --tokens 8

# Generated assembly is what its generator writes.
generate-check:
	go generate ./backends/avx2/...
	git diff --exit-code -- backends/avx2

# Each reader of bytes from outside, for a while.
FUZZTIME = 30s
fuzz:
	@for dir in $$(grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do \
		for f in $$(grep -hoE '^func Fuzz[A-Za-z0-9]+' $$dir/*_test.go | cut -c6-); do \
			go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$dir || exit 1; \
		done; \
	done

bench:
	go test -run '^$$' -bench . -benchtime 1s ./backends/avx2/... ./data ./backends/internal/host
