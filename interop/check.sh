#!/usr/bin/env bash
# Trains small models, exports them as architecture llama, and holds what
# llama.cpp makes of the files against what tern makes of them:
#
#   interop/check.sh [DIR]
#
# DIR (without it a directory that is removed at the end) keeps llama.cpp's
# libraries and the models; what is there is used again. Needs Go, gcc, npm (installed with apt-get where
# it is missing) and the npm package below, which carries llama.cpp prebuilt.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
dir=${1:-}
if [ -z "$dir" ]; then
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' EXIT
fi
steps=${STEPS:-100}
package=@node-llama-cpp/linux-x64 version=3.22.1
mkdir -p "$dir" && cd "$dir"
dir=$PWD

libs=$dir/package/bins/linux-x64
if ! ls "$libs"/libllama.v*.so >/dev/null 2>&1; then
	if ! command -v npm >/dev/null; then
		apt-get update -q && apt-get install -y -q --no-install-recommends npm
	fi
	npm pack --silent "$package@$version" >/dev/null
	tar xzf ./*linux-x64-"$version".tgz
fi
gcc -O2 -Wall -Wextra -o llamacpp "$root/interop/llamacpp.c" -ldl -lm
(cd "$root" && go build -o "$dir/tern" ./cmd/tern)

failed=0
check() { # name, condition for awk, what was seen
	if awk "BEGIN { exit !($2) }"; then printf 'ok    %s: %s\n' "$1" "$3"; else printf 'FAIL  %s: %s\n' "$1" "$3"; failed=1; fi
}
field() { sed -n "s/.*\"$1\": *\([0-9.eE+-]*\).*/\1/p" | head -1; }

cat "$root"/README.md "$root"/docs/*.md >text.txt
./tern data prepare "$root/data/tinystories/valid.txt.zst" --tokenizer gpt2:4096 --out valid --force >/dev/null
./tern data prepare text.txt --tokenizer gpt2:4096 --out text --force >/dev/null
od -An -v -tu2 valid.bin >valid.ids
od -An -v -tu2 -w2 text.bin | tr -d ' ' | sed '$d' >text.ids # less the end-of-text id

# model trains run-$1 with the flags that follow the types $2.
model() {
	local name=$1 types=$2
	shift 2
	[ -d "run-$name" ] || ./tern train --sub-norm=false --kv-heads 2 --steps "$steps" --eval-windows 8 --out "run-$name" "$@" >"$name.log" 2>&1 ||
		{ cat "$name.log"; exit 1; }
	for type in $types; do
		local file=$name-$type.gguf bound=0.005
		[ "${name#none}" = "$name" ] || bound=0.001
		./tern export "run-$name" --arch llama --type "$type" --out "$file" --force >/dev/null
		ours=$(./tern eval --model "$file" --data valid.bin --windows 20 --window 256 --json | field perplexity)
		theirs=$(./llamacpp "$libs" perplexity "$file" 20 256 <valid.ids 2>/dev/null | field perplexity)
		difference=$(awk "BEGIN { d = $theirs / $ours - 1; print d < 0 ? -d : d }")
		check "perplexity $file" "$difference < $bound" "tern $ours, llama.cpp $theirs, relative difference $difference"
	done
}
model ternary "q2_0 f16" --quant ternary --residual standard
model wide "tq2_0 q2_0" --quant ternary:group=256 --residual standard --dim 256 --ffn 512 --layers 2
model scaled "q2_0 f16" --quant ternary --residual scaled
model none "f16 f32" --quant none --residual standard

file=none-f32.gguf
./tern generate "Once upon a time" --model "$file" --temperature 0 --tokens 60 >ours.txt
printf 'Once upon a time' | ./llamacpp "$libs" generate "$file" 60 2>/dev/null >theirs.txt
check "greedy text of 60 tokens" "$(cmp -s ours.txt theirs.txt && echo 1 || echo 0)" "$(head -c 60 theirs.txt)..."

./llamacpp "$libs" tokenize "$file" <text.txt 2>/dev/null >theirs.ids
n=$(wc -l <text.ids) # of a text without its last line feed, which data prepare leaves out
check "ids of the documentation" "$(head -n "$n" theirs.ids | cmp -s - text.ids && echo 1 || echo 0)" "$n ids"
exit $failed
