# What check.sh and transformers.sh share. It is sourced in the directory that
# they work in, which is $dir; $root is tern's.

libs=$dir/package/bins/linux-x64
python=$dir/venv/bin/python

say() { printf '%s\n' "$*" >&2; }

# try runs a command whose failure shows in what is compared next.
try() { "$@" >/dev/null || say "failed: $*"; }

# need installs Debian's package $1 where the command that follows fails.
need() {
	local package=$1
	shift
	"$@" >/dev/null 2>&1 || { apt-get update -q && apt-get install -y -q --no-install-recommends "$package"; } >&2
}

# install_llamacpp unpacks llama.cpp's libraries from the npm package that has
# them, and builds what opens them.
install_llamacpp() {
	local name=@node-llama-cpp/linux-x64 version=3.22.1
	if ! ls "$libs"/libllama.v*.so >/dev/null 2>&1; then
		need npm npm --version
		npm pack --silent "$name@$version" >/dev/null
		tar xzf ./*linux-x64-"$version".tgz
	fi
	gcc -O2 -Wall -Wextra -o llamacpp "$root/interop/llamacpp.c" -ldl -lm
}

# install_python makes an environment with the packages that follow, unless it can
# import the modules $1.
install_python() {
	if ! "$python" -c "import $1" 2>/dev/null; then
		need python3-venv python3 -m ensurepip --version
		python3 -m venv venv
		"$python" -m pip install -q --disable-pip-version-check "${@:2}"
	fi
}

build_tern() { (cd "$root" && go build -o "$dir/tern" ./cmd/tern); }

# unmarked_stories prints the validation stories without the marks of their ends.
unmarked_stories() {
	need zstd zstd --version
	zstd -dcq "$root/data/tinystories/valid.txt.zst" | grep -v '^<|endoftext|>$'
}

# member prints the number $1 in the JSON of a command, or "none".
member() {
	{ "${@:2}" || say "failed: ${*:2}"; } | sed -n "s/.*\"$1\": *\\([0-9.eE+-]*\\).*/\\1/p" | grep . || echo none
}

: >table.txt

# row adds a line to the table, "ok" where the condition for awk holds.
row() { # condition, what, tern, other, difference, bound
	local verdict=FAIL
	if awk "BEGIN { exit !($1) }"; then verdict=ok; fi
	printf '%-40s %11s %11s %10s %6s  %s\n' "${@:2}" $verdict | tee -a table.txt | grep 'FAIL$' >&2 || true
}

# near adds the row of two numbers that differ by less than a share of the first.
near() { # what, tern, other, bound
	local difference
	case "$2 $3" in
	*none*) row 0 "$1" "$2" "$3" - "$4" ;;
	*)
		difference=$(awk "BEGIN { d = $3 / $2 - 1; printf \"%.1e\", d < 0 ? -d : d }")
		row "$difference < $4" "$1" "$(printf %.5f "$2")" "$(printf %.5f "$3")" "$difference" "$4"
		;;
	esac
}

# print_table prints the table under a heading of its first column and of the
# other program, and fails if a row did.
print_table() { # heading, other, what else was chosen
	printf '%-40s %11s %11s %10s %6s\n' "$1" tern "$2" difference bound
	cat table.txt
	say "$(wc -l <table.txt) lines, $(grep -c 'FAIL$' table.txt || true) of them FAIL; ${3:+$3, }$SECONDS seconds"
	! grep -q 'FAIL$' table.txt
}
