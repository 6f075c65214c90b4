#!/usr/bin/env bash
# Holds tern against Hugging Face's transformers:
#
#   interop/transformers.sh [DIR]
#
# Has transformers_models.py write random models of LLaMA, Mistral and BitNet, and
# compares what transformers and tern compute from each: the loss of 20 windows of
# 64 tokens of the validation stories, which each splits by the vocabulary in the
# directory. Then what tern makes of some of these models, and of runs, as
# transformers reads it, packed weights too; and BitNet in GGUF files of architecture
# bitnet, with llama.cpp, and bitnet-b1.58, which llama.cpp does not know, with the
# PyPI package pytritium. Prints a table; the status is 1 if something in it is not
# as it should be, and 77 where PyPI cannot be reached.
#
# DIR (without it a directory that is removed at the end) keeps what was installed,
# 5 GB, most of it PyTorch: too much for every run of the tests, in which
# modelfile/testdata/transformers stands for it, written by
# "transformers_models.py golden". Needs what check.sh needs.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
dir=${1:-}
if [ -z "$dir" ]; then
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' EXIT
fi
packages=(torch==2.13.0 transformers==5.24.0 accelerate==1.15.0 safetensors==0.8.0 numpy==2.4.6 gguf==0.19.0 pytritium==1.1.0rc2)
mkdir -p "$dir" && cd "$dir"
dir=$PWD
. "$root/interop/lib.sh"

transformers() { "$python" "$root/interop/transformers_models.py" "$@" 2>>python.log || { tail -5 python.log >&2 && false; }; }

install_others() {
	if ! python3 -m pip download -q --disable-pip-version-check --no-deps -d probe safetensors==0.8.0 2>python.log; then
		say "PyPI cannot be reached: $(tail -1 python.log)"
		exit 77
	fi
	install_python "torch, transformers, accelerate, gguf, tritium" "${packages[@]}"
	install_llamacpp
	build_tern
}

# make_texts writes what tokenizers are trained on and what is scored.
make_texts() {
	unmarked_stories >stories.txt
	head -c 100000 stories.txt >corpus.txt
	printf %s "$(head -c 30000 stories.txt)" >text.txt
	./tern data prepare text.txt --tokenizer gpt2:4096 --out text --force >/dev/null
}

# converted has tern write the model $1 as $2, with the flags that follow.
converted() { try ./tern convert "$1" "$2" --force "${@:3}"; }

# make_back has tern write some of transformers' models, and a run of its own.
make_back() {
	local name
	mkdir back
	for name in llama llama-tied-bf16 llama-wide-heads-f16 llama-linear llama-llama3 llama-yarn llama-yarn-deepseek mistral bitnet bitnet-untied bitnet-offline; do
		converted models/$name back/$name --type f32
	done
	converted models/llama-llama3 back/llama3.gguf --type f32
	converted back/llama3.gguf back/llama-llama3-gguf --type f32
	converted models/llama back/llama-bf16 --type bf16
	converted models/llama back/llama-f16.gguf --type f16
	converted models/llama back/llama-q8_0.gguf --type q8_0
	./tern train --steps 20 --dim 64 --ffn 128 --layers 2 --kv-heads 2 --sub-norm=false --residual standard --quant ternary:group=64 \
		--eval-windows 8 --final-windows 8 --out run >run.log 2>&1 || { cat run.log >&2; exit 1; }
	try ./tern export run --format huggingface --type f32 --out back/run
}

# make_packed has tern pack BitNet's weights: of transformers' models, of a file of
# the package gguf, and of a run with a head of its own and a residual whose gains go
# into the scales.
make_packed() {
	local name
	for name in bitnet-offline bitnet-offline-resaved bitnet-bitlinear bitnet-online bitnet-online-kept llama-bitlinear; do
		converted models/$name back/$name-packed --packed
	done
	converted gguf/bitnet-offline-tq2_0.gguf back/bitnet-gguf-packed --packed
	./tern train --steps 20 --dim 64 --ffn 128 --layers 2 --kv-heads 2 --sub-norm --tied=false --head f16 --residual scaled --quant ternary:group=tensor \
		--eval-windows 8 --final-windows 8 --out bits >bits.log 2>&1 || { cat bits.log >&2; exit 1; }
	try ./tern export bits --out back/bits-packed --packed
}

# make_gguf writes BitNet models as GGUF files: by the package gguf in gguf, by tern
# in back.
make_gguf() {
	mkdir gguf
	transformers gguf models/bitnet-silu gguf/bitnet-silu-f16.gguf bitnet f16
	transformers gguf models/bitnet gguf/bitnet-f32.gguf bitnet-b1.58 f32
	transformers gguf models/bitnet-offline gguf/bitnet-offline-tq2_0.gguf bitnet-b1.58 tq2_0
	converted models/bitnet-silu back/bitnet-silu-f16.gguf --arch bitnet --type f16
	converted models/bitnet-offline back/bitnet-offline-tq2_0.gguf --arch bitnet --type tq2_0 --allow-lossy
	converted models/bitnet-offline back/bitnet-offline-q2_0.gguf --arch bitnet --type q2_0 --allow-lossy
}

ours() {
	local data=text.txt
	case $1 in back/run | back/bits-packed | bits) data=text.bin ;; esac # their vocabulary is tern's
	member loss ./tern eval --model "$1" --data $data --windows 20 --window 64 --json
}

# theirs prints what transformers found for a model, which scores.json has.
theirs() { member loss grep -F "\"model\": \"$1\"" scores.json; }

# bound_of prints the relative difference that a model allows. Where activations
# are rounded to 8 bits, one beside the middle of two levels goes to one of them here
# and to the other there, and what follows with it.
bound_of() {
	case $1 in
	back/llama-q8_0.gguf) echo 1e-5 ;; # activations in two parts of 8 bits
	models/*-online* | models/*-offline* | models/*-bitlinear* | *-packed | *-tq2_0.gguf | *-q2_0.gguf) echo 5e-4 ;;
	*) echo 1e-6 ;;
	esac
}

# compare holds tern on the model $1 against transformers on $2, which is left out
# where it is the same.
compare() { near "$1" "$(ours "$1")" "$(theirs "${2:-$1}")" "$(bound_of "$1")"; }

# with_llamacpp holds tern on the file $1 against llama.cpp.
with_llamacpp() {
	near "$1, llama.cpp" "$(ours "$1")" "$(member loss ./llamacpp "$libs" perplexity-text "$1" 20 64 <text.txt)" 1e-5
}

# with_tritium counts for how many of 100 beginnings of the text tritium finds the
# token in the file $1 that transformers finds in the model $2.
with_tritium() {
	local same
	same=$(member same transformers next text.txt 100 "$2" "$1")
	row "${same/none/0} >= 95" "$1, next" - "$same" same 95
}

# same_bytes holds the file of weights in the directory $1 against that in $2.
same_bytes() {
	local same=0
	if cmp -s "$1/model.safetensors" "$2/model.safetensors"; then same=1; fi
	row $same "${1#back/}, bytes" - - same same
}

install_others
make_texts
rm -rf models back gguf run bits
say "transformers' models"
transformers make models corpus.txt
say "tern's"
make_back
make_gguf
make_packed
scored=(models/* back/llama-*.gguf)
for model in back/*/; do scored+=("${model%/}"); done
transformers score text.txt 20 64 "${scored[@]}" >scores.json

for model in "${scored[@]}"; do compare "$model"; done
for file in gguf/bitnet-silu-f16.gguf back/bitnet-silu-f16.gguf; do with_llamacpp $file; done
compare gguf/bitnet-f32.gguf models/bitnet
for file in gguf/bitnet-offline-tq2_0.gguf back/bitnet-offline-tq2_0.gguf back/bitnet-offline-q2_0.gguf; do
	compare $file models/bitnet-offline
	with_tritium $file models/bitnet-offline
done
near "back/bits-packed, the run" "$(ours bits)" "$(theirs back/bits-packed)" "$(bound_of back/bits-packed)"
for name in bitnet-offline bitnet-offline-resaved; do same_bytes back/$name-packed models/bitnet-offline; done
print_table model other
