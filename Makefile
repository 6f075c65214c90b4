# The guards of the house. `make check` is what a change must pass.
GOFUMPT     = go run mvdan.cc/gofumpt@v0.12.0
STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: check format lint test race cross generate-check fuzz bench

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
	GOOS=darwin GOARCH=arm64 go build ./...
	GOOS=windows GOARCH=amd64 go build ./...
	go vet -tags purego ./...

# Generated assembly is what its generator writes.
generate-check:
	go generate ./backends/avx2/...
	git diff --exit-code -- backends/avx2

# A minute for each reader of untrusted bytes.
fuzz:
	./docs/fuzz.sh 60s

bench:
	go test -run '^$$' -bench . -benchtime 1s ./backends/avx2/... ./data ./backends/internal/host
