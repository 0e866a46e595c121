#!/usr/bin/env bash
# Builds the grammar module anew and writes it to the file named, with what built it beside it:
#
#   wasm/grammar/build.sh onekv-grammar.wasm       (root, Debian, about four minutes the first time)
#
# The module is kept in the repository because its compiler is not what everybody has: Rust with the
# standard library for WebAssembly of the same version, which of Debian's suites only the newest
# has, in a copy of 1.7 GB. `npm run release:check` runs this and compares the bytes.
#
# The compiler is in a private Debian (cache folder, as wasm/toolchain/make-private makes one); the
# crates come by cargo from locked.toml before it is entered: inside there is no network.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
out=$(realpath -m "${1:?usage: build.sh FILE.wasm}")
cache=${ONEKV_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/onekv}
copy=$cache/rust-sid-1
packages=rustc,cargo,libstd-rust-dev-wasm32,lld,gcc,libc6-dev,ca-certificates,binaryen

say() { echo "grammar: $*" >&2; }

make_copy() {
  [ -d "$copy" ] && return
  [ "$(id -u)" = 0 ] || { say "a private Debian with Rust needs root"; exit 1; }
  command -v debootstrap >/dev/null || { say "debootstrap is not here"; exit 1; }
  say "making a private copy of Debian with Rust (once, about two minutes, 1.7 GB)"
  mkdir -p "$cache"
  rm -rf --one-file-system "$copy.tmp"
  unshare --mount --propagation private -- debootstrap --variant=minbase \
    --include="$packages" sid "$copy.tmp" ${ONEKV_DEBIAN_MIRROR:-} >"$copy.log" 2>&1 ||
    { tail -n 20 "$copy.log" >&2; exit 1; }
  mkdir -p "$copy.tmp/grammar"
  mv "$copy.tmp" "$copy"
}

# In the copy: everything is under /grammar, so no path of the machine gets into the module.
# llguidance is linked as a library of its own too, where the clock `now` is missing.
build='
  set -euo pipefail
  mount --bind "$2" "$1/grammar"
  mount -t proc proc "$1/proc"
  mount -t tmpfs tmpfs "$1/tmp"
  chroot "$1" /usr/bin/env -i -C /grammar HOME=/tmp LANG=C.UTF-8 PATH=/usr/sbin:/usr/bin:/bin \
    CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER=wasm-ld \
    RUSTFLAGS="-C link-arg=--allow-undefined -C link-arg=--max-memory=536870912" \
    bash -euo pipefail -c "$3"
'
inside='
  features="--enable-bulk-memory --enable-bulk-memory-opt --enable-nontrapping-float-to-int
    --enable-sign-ext --enable-mutable-globals --enable-multivalue --enable-reference-types"
  cargo build --quiet --offline --locked --release --target wasm32-unknown-unknown
  wasm-metadce $features --graph-file exports.json \
    target/wasm32-unknown-unknown/release/onekv_grammar.wasm -o reached.wasm >/dev/null
  wasm-opt -Os $features --strip-debug --strip-producers --strip-target-features \
    reached.wasm -o onekv-grammar.wasm
  printf "%s\n" "$(rustc --version)" "$(wasm-opt --version)" >built-with.txt
'

make_copy
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$here"/{Cargo.toml,src,exports.json} "$work"
# The lock file is kept without the place that crates come from, which is cargo's default.
index=https://github.com/rust-lang/crates''.io-index
sed "s|^checksum|source = \"registry+$index\"\n&|" "$here/locked.toml" >"$work/Cargo.lock"
mkdir "$work/.cargo"
(cd "$work" && cargo vendor --quiet --locked vendor >/dev/null)
printf '[source.crates-io]\nreplace-with = "here"\n[source.here]\ndirectory = "vendor"\n' \
  >"$work/.cargo/config.toml"
# Copied into a private mount namespace, which ends with the command.
unshare --mount --propagation private -- bash -c "$build" grammar "$copy" "$work" "$inside"
mkdir -p "$(dirname "$out")"
cp "$work/onekv-grammar.wasm" "$out"
cp "$work/built-with.txt" "$(dirname "$out")/built-with.txt"
say "$(stat -c %s "$out") bytes in $out"
