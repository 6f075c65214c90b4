#!/usr/bin/env bash
# Builds, vets and tests the example plugins, each a module of its own, as somebody outside tern would. Installs each for a
# user who has none, runs the conformance suite on the program, trains a small model with it for STEPS steps, exports it,
# reads the exported file back to the same bits, and has it write text.
# Needs Go and, in its cache or from a proxy, the modules that tern needs.
set -euo pipefail
cd "$(dirname "$0")"
STEPS=${STEPS:-4}
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
step() { printf '\n-- %s (%ds)\n' "$1" "$SECONDS"; }
refused() { # COMMAND...: must fail, and say what is wanted
	local want="$1"
	shift
	if "$@" >"$work/out" 2>&1; then
		echo "not refused: $*"
		exit 1
	fi
	grep -q "$want" "$work/out" || { cat "$work/out"; echo "does not say '$want': $*"; exit 1; }
}

step "tern"
(cd ../.. && go build -o "$work/tern" ./cmd/tern)
tern="$work/tern"

# What Go needs to know is read before the home directory changes.
GOCACHE="$(go env GOCACHE)" GOMODCACHE="$(go env GOMODCACHE)"
export GOCACHE GOMODCACHE GOWORK=off GOFLAGS=-mod=mod
export HOME="$work/home" XDG_CONFIG_HOME="$work/home/config"
mkdir -p "$XDG_CONFIG_HOME"
unset TERN_PLUGIN_PATH

# example DIR NAME FLAG OPTIONS
example() {
	local dir="$1" name="$2" flag="$3" options="$4"
	local binary="$work/tern-plugin-$name" run="$work/runs/$name"
	step "$name: build, vet, test"
	cp -r "$dir" "$work/$dir.before"
	(cd "$dir" && go build -buildvcs=false -trimpath -ldflags='-s -w' -o "$binary" . && go vet . && go test .)
	diff -r "$work/$dir.before" "$dir" || { echo "$dir: go.mod or go.sum is not tidy"; exit 1; }

	step "$name: through tern"
	refused "tern plugin install" "$tern" train --preset tiny --"$flag" "plugin:$name" --steps 1 --out "$work/unpinned"
	"$tern" plugin install "$binary"
	"$tern" plugin test "$name"
	"$tern" plugin verify "$name"
	"$tern" train --preset tiny --"$flag" "plugin:$name:$options" --steps "$STEPS" --final-windows 8 --out "$run"
	"$tern" generate --model "$run/model.gguf" --tokens 8 --seed 1
	"$tern" convert "$run/model.gguf" "$work/again.gguf" --force # what is read back is what was written
	"$tern" inspect --diff "$run/model.gguf" "$work/again.gguf"
}

example nf4 nf4 quant group=32
example learnedscale learned-scale quant group=32
example kronecker kronecker residual streams=4
step "done"
