# The guards of the house. `make check` is what a change must pass.
GOFUMPT     = go run mvdan.cc/gofumpt@v0.12.0
STATICCHECK = go run honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: check format lint test race cross arm64 generate-check fuzz bench gpu-check gpu-check-build gpu-check-pack gpu-check-quick

check: format lint cross generate-check test race

format:
	@out="$$($(GOFUMPT) -l $$(git ls-files '*.go' ':!*.pb.go'))"; test -z "$$out" || { echo "not gofumpt-ed:"; echo "$$out"; exit 1; }

lint:
	go vet ./...
	$(STATICCHECK) ./...

test:
	go test ./...

# The packages in which goroutines meet. Losses of a whole file show nothing of
# that, and take a minute.
race:
	go test -race -short -skip Stories260K ./backends/internal/host ./data ./infer ./framework/rng

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
	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go test -exec qemu-aarch64 ./framework/graph ./framework/quanttest ./framework/residualtest ./backends/scalar ./formats/ggml ./quant ./residual ./infer
	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 go run -exec qemu-aarch64 ./cmd/tern generate --tokens 8

# Generated assembly is what its generator writes.
generate-check:
	go generate ./backends/avx2/...
	git diff --exit-code -- backends/avx2

# What only a GPU can show (docs/gpu.md): one table of everything. gpu-check-build
# fills bin/gpu-check: tern, its plugin, the check, and the tests of the packages that
# can use a real device, each with its testdata. gpu-check-pack packs that for a
# machine with a GPU and no Go: the programs have most of their code in common, and
# a window as large as all of them makes the archive a third of a .tar.gz. GPUCHECK
# are flags of the check. gpu-check-quick tries the check itself, with tiny sizes, on
# the fake device.
GPU_DIR = bin/gpu-check
gpu-check: gpu-check-build
	$(GPU_DIR)/gpu-check $(GPUCHECK)

gpu-check-build:
	rm -rf $(GPU_DIR)
	mkdir -p $(GPU_DIR)/tests
	CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o $(GPU_DIR)/ ./cmd/tern ./backends/gpu/cmd/tern-plugin-cuda ./backends/gpu/cmd/gpu-check
	@set -e; for p in $$(go list -f '{{.ImportPath}} {{.TestImports}} {{.XTestImports}}' ./backends/gpu/cuda/... | grep -E ' .*cuda/internal/(cudatest|fake)[] ]' | grep -v cuda/simulated | cut -d' ' -f1); do \
		dir="$$(go list -f '{{.Dir}}' "$$p")"; name="$$(basename "$$p")"; mkdir "$(GPU_DIR)/tests/$$name"; \
		echo "go test -c $$p"; CGO_ENABLED=0 go test -c -trimpath -ldflags='-s -w' -o "$(GPU_DIR)/tests/$$name/$$name.test" "$$p"; \
		if test -d "$$dir/testdata"; then cp -R "$$dir/testdata" "$(GPU_DIR)/tests/$$name/"; fi; \
	done

gpu-check-pack: gpu-check-build
	tar -C bin -cf - gpu-check | xz -T1 --lzma2=preset=1,dict=256MiB > bin/gpu-check.tar.xz

gpu-check-quick: gpu-check-build
	FAKE_CUDA="$(CURDIR)/bin/fake-cuda" go test -count=1 -run TestKeep ./backends/gpu/cuda/simulated
	$(GPU_DIR)/gpu-check -quick -patience 10 -options generate=never -libraries "$(CURDIR)/bin/fake-cuda" -out bin/gpu-check-quick

# Each reader of bytes from outside, for a while.
FUZZTIME = 30s
fuzz:
	@for dir in $$(grep -rlE '^func Fuzz' --include='*_test.go' . | xargs -n1 dirname | sort -u); do \
		for f in $$(grep -hoE '^func Fuzz[A-Za-z0-9]+' $$dir/*_test.go | cut -c6-); do \
			go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$dir || exit 1; \
		done; \
	done

# The benchmarks of the packages; with OLD=REVISION those of two commits
# (NEW is HEAD unless named), round by round in turn, compared by benchstat.
# BENCH selects by name, for example
#   make bench OLD=HEAD~3 BENCH=Ternary/tokens=1/ PACKAGES=./backends/avx2/internal/simd
BENCHSTAT = go run golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
PACKAGES  = ./backends/avx2/... ./data ./backends/internal/host
BENCH     = .
ROUNDS    = 6
NEW       = HEAD
bench:
ifndef OLD
	go test -run '^$$' -bench '$(BENCH)' -benchtime 1s $(PACKAGES)
else
	@set -e; dir="$$(mktemp -d)"; trap 'rm -rf "$$dir"' EXIT; trap 'exit 130' INT TERM; \
	old="$$(git rev-parse --verify --quiet '$(OLD)^{commit}')" || { echo "OLD=$(OLD): no such commit"; exit 2; }; \
	new="$$(git rev-parse --verify --quiet '$(NEW)^{commit}')" || { echo "NEW=$(NEW): no such commit"; exit 2; }; \
	for side in "old $$old" "new $$new"; do \
		set -- $$side; mkdir "$$dir/$$1"; git archive "$$2" | tar -x -C "$$dir/$$1"; \
		(cd "$$dir/$$1" && go test -run '^$$' $(PACKAGES) >/dev/null); \
	done; \
	for round in $$(seq $(ROUNDS)); do \
		for side in old new; do \
			echo "round $$round of $(ROUNDS): $$side" >&2; \
			(cd "$$dir/$$side" && go test -run '^$$' -bench '$(BENCH)' -benchtime 0.2s $(PACKAGES)) >> "$$dir/$$side.txt"; \
		done; \
	done; \
	$(BENCHSTAT) "$(OLD)=$$dir/old.txt" "$(NEW)=$$dir/new.txt"
endif
