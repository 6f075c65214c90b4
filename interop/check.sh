#!/usr/bin/env bash
# Holds tern against other programs, on files of both:
#
#   interop/check.sh [DIR]
#
# Trains small models and exports them, has foreign.py and llama.cpp's quantizer
# write others, converts some with tern, and compares what llama.cpp and tern
# compute from each file: the perplexity of 20 windows of 256 tokens of the
# validation stories. Then greedy text, ids, and what Hugging Face's libraries
# read. Prints a table; the status is 1 if something in it is not as it should be.
#
# STEPS (100) says how long the models are trained. DIR (without it a directory
# that is removed at the end) keeps llama.cpp's libraries, Python's packages and
# the trained models; what is there is used again. Needs Linux on amd64, Go, gcc,
# python3 (3.11 or newer) and, installed with apt-get where they are missing, npm,
# zstd and python3-venv.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
dir=${1:-}
if [ -z "$dir" ]; then
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' EXIT
fi
steps=${STEPS:-100}
packages=(numpy==2.4.6 gguf==0.19.0 tokenizers==0.23.3 safetensors==0.8.0)
mkdir -p "$dir" && cd "$dir"
dir=$PWD
. "$root/interop/lib.sh"

install_others() {
	install_llamacpp
	install_python "numpy, gguf, tokenizers, safetensors" "${packages[@]}"
	build_tern
}

# make_texts writes valid.bin and valid.ids, the validation stories as ids of
# gpt2:4096; stories.txt, 30,000 bytes of them without the marks of their ends, for
# other vocabularies; text.txt and text.ids, this documentation.
make_texts() {
	need zstd zstd --version
	zstd -dcq "$root/data/tinystories/valid.txt.zst" >valid.txt
	unmarked_stories >unmarked.txt
	head -c 30000 unmarked.txt >stories.txt
	# Without its last line feed, which data prepare leaves out.
	printf %s "$(cat "$root"/README.md "$root"/docs/*.md | grep -vF '<|endoftext|>')" >text.txt
	./tern data prepare valid.txt --tokenizer gpt2:4096 --out valid --force >/dev/null
	./tern data prepare text.txt --tokenizer gpt2:4096 --out text --force >/dev/null
	od -An -v -tu2 valid.bin >valid.ids
	od -An -v -tu2 -w2 text.bin | tr -d ' ' | sed '$d' >text.ids # less the end-of-text id
}

# bound_of prints the relative difference that a file's weights allow. Where they
# are integers each program rounds activations to 8 bits in its own way (tern by
# token, as models are trained; llama.cpp by block); llama.cpp multiplies bfloat16
# by bfloat16.
bound_of() {
	case ${1##*/} in
	*q[0-9]_* | mixed.gguf | bitnet-scale.gguf) echo 0.005 ;;
	*bf16* | hf) echo 0.001 ;;
	*) echo 0.0001 ;;
	esac
}

# compare holds tern on the model $1 against llama.cpp on the file $2, which is
# left out where it is the same. BY=text lets each split a text by the vocabulary
# in its file; else both are given ids.
compare() {
	local model=$1 file=${2:-$1} data=valid.bin mode=perplexity input=valid.ids bound ours theirs
	if [ "${BY:-ids}" = text ]; then data=stories.txt mode=perplexity-text input=stories.txt; fi
	bound=$(bound_of "$model")
	ours=$(member perplexity ./tern eval --model "$model" --data $data --windows 20 --window 256 --json)
	theirs=$(member perplexity ./llamacpp "$libs" $mode "$file" 20 256 <$input)
	near "$model" "$ours" "$theirs" "$bound"
}

# same compares two files that must be equal.
same() { # what, tern's file, the other's
	if [ -s "$2" ] && cmp -s "$2" "$3"; then row 1 "$1" - - same same; else row 0 "$1" - - differ same; fi
}

# trained trains run-$1 with the flags that follow, exports it as architecture $2
# in each of the types $3, and compares.
trained() {
	local name=$1 arch=$2 types=$3 type
	shift 3
	say "model $name"
	[ -d "run-$name" ] || ./tern train --kv-heads 2 --steps "$steps" --eval-windows 8 --final-windows 8 --out "run-$name" "$@" >"$name.log" 2>&1 ||
		{ cat "$name.log" >&2; exit 1; }
	for type in $types; do
		try ./tern export "run-$name" --arch "$arch" --type "$type" --out "$name-$type.gguf" --force
		compare "$name-$type.gguf"
	done
}

# foreign compares what foreign.py makes of the model $1 in the directory $2.
foreign() {
	local file
	say "files of other programs, $2"
	rm -rf "$2"
	"$python" "$root/interop/foreign.py" "$1" "$2"
	for file in "$2"/*.gguf; do
		case $file in
		*/llama-bpe.gguf | */spm.gguf) BY=text compare "$file" ;;
		*) compare "$file" ;;
		esac
	done
	compare "$2/hf" "$2/bf16-llama3.gguf"
}

# quantized compares what llama.cpp makes of the file $1 in the types that follow.
quantized() {
	local type
	say "llama.cpp's quantizer on $1"
	for type in "${@:2}"; do
		rm -f "llamacpp-$type.gguf"
		try ./llamacpp "$libs" quantize "$1" "llamacpp-$type.gguf" "$type"
		compare "llamacpp-$type.gguf"
	done
}

# converted compares what tern makes of the model $1 in the file $2, with the flags
# that follow.
converted() {
	say "tern's $2"
	rm -f "$2"
	try ./tern convert "$1" "$2" "${@:3}"
	compare "$2"
}

# llamacpp_text compares greedy text, and ids of the documentation, by the file $1.
llamacpp_text() {
	./tern generate "Once upon a time" --model "$1" --temperature 0 --tokens 60 >ours.txt
	printf 'Once upon a time' | ./llamacpp "$libs" generate "$1" 60 >theirs.txt
	same "$1, 60 tokens of greedy text" ours.txt theirs.txt
	./llamacpp "$libs" tokenize "$1" <text.txt >theirs.ids
	same "$1, ids of the documentation" text.ids theirs.ids
}

# hugging_face has tern write the file $1 as a directory, and compares what Hugging
# Face's libraries read there: that no tensor differs, and ids of the documentation.
hugging_face() {
	rm -rf tern-hf
	try ./tern convert "$1" tern-hf --type f32
	PYTHONPATH=$root/interop "$python" - tern-hf "$1" >theirs.ids <<'EOF'
import sys
import foreign, foreign_hf, numpy, safetensors.numpy, tokenizers

directory, file = sys.argv[1:]
want, got = foreign_hf.names(foreign.Model(file)), safetensors.numpy.load_file(directory + "/model.safetensors")
for name in want.keys() | got.keys():
    if not (name in want and name in got and numpy.array_equal(want[name], got[name])):
        print(name, "differs")
text = open("text.txt", encoding="utf-8", newline="").read()
print(*tokenizers.Tokenizer.from_file(directory + "/tokenizer.json").encode(text, add_special_tokens=False).ids, sep="\n")
EOF
	same "tern-hf, tensors and ids" text.ids theirs.ids
}

install_others
make_texts
large=(--dim 256 --ffn 512 --layers 2) # rows are whole blocks of 256

trained ternary llama "q2_0 f16" --sub-norm=false --quant ternary --residual standard
trained int8 llama q2_0 --sub-norm=false --quant ternary --residual standard --tied=false --head int8
trained scaled llama "q2_0 f16" --sub-norm=false --quant ternary --residual scaled
trained subnorm bitnet "q2_0 f16" --sub-norm --quant ternary --residual standard
trained none llama "f16 f32" --sub-norm=false --quant none --residual standard "${large[@]}"
trained wide llama "tq2_0 tq1_0 q2_0 f32" --sub-norm=false --quant ternary:group=256 --residual standard "${large[@]}"

foreign none-f32.gguf foreign-none
foreign wide-f32.gguf foreign-wide

quantized foreign-none/plain.gguf q4_0 q4_1 q5_0 q5_1 q8_0 q4_k q5_k q6_k
quantized foreign-wide/plain.gguf tq1_0 tq2_0

converted foreign-none/plain.gguf tern-q8_0.gguf --type q8_0
converted foreign-none/plain.gguf tern-bf16.gguf --type bf16
converted foreign-none/mixed.gguf tern-f16.gguf --type f16
converted foreign-wide/plain.gguf tern-tq1_0.gguf --type tq1_0
converted foreign-wide/plain.gguf tern-tq2_0.gguf --type tq2_0
converted foreign-none/bitnet.gguf tern-bitnet.gguf --arch bitnet --type f16
converted foreign-none/hf tern-hf-bf16.gguf --type bf16
BY=text converted foreign-none/spm.gguf tern-spm.gguf --type f32
BY=text converted "$root/infer/testdata/stories260K/stories260K.bin" tern-stories260K.gguf --type f32

say "text and ids"
llamacpp_text none-f32.gguf
hugging_face none-f32.gguf

print_table file llama.cpp "$steps steps"
