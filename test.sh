#!/usr/bin/env bash
# The test command: installs what the tests need where it is missing, then formats, lints, builds, tests and documents.
#
#   ./test.sh            everything, as CI runs it
#   ./test.sh fast       formatting, lints and the tests that start no server
#
# Works as root on a bare Debian or Ubuntu with a Rust toolchain and a C compiler, and without root where the packages
# are there already. The tests compare with real etcd, so etcd and etcdctl are needed; protoc is for a client library
# that the tests use, not for Urd. Single parts: see tools/tests/suite/main.rs.
set -euo pipefail
cd "$(dirname "$0")"

durations=()

step() {
    local name=$1 begin=$SECONDS
    shift
    printf '\n== %s: %s\n' "$name" "$*"
    if ! "$@"; then
        printf '\n== %s FAILED after %d s\n' "$name" $((SECONDS - begin)) >&2
        exit 1
    fi
    durations+=("$(printf '%5d s  %s' $((SECONDS - begin)) "$name")")
}

# The Debian packages whose programs are missing.
missing_packages() {
    local pair
    for pair in etcd:etcd-server etcdctl:etcd-client protoc:protobuf-compiler mkfs.ext4:e2fsprogs mount:mount ip:iproute2 nft:nftables; do
        PATH=$PATH:/usr/sbin:/sbin command -v "${pair%%:*}" >/dev/null || printf '%s\n' "${pair##*:}"
    done
    # protoc's own .proto files: only recommended by its package.
    [ -f /usr/include/google/protobuf/descriptor.proto ] || echo libprotobuf-dev
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        printf 'this needs root: %s\n' "$*" >&2
        return 1
    fi
}

install_packages() {
    local packages
    mapfile -t packages < <(missing_packages)
    if [ ${#packages[@]} = 0 ]; then
        echo 'nothing is missing'
        return
    fi
    if ! command -v apt-get >/dev/null; then
        printf 'missing, and there is no apt-get to install them: %s\n' "${packages[*]}" >&2
        return 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    # A bare image has no package lists, an old one has stale ones: the second attempt has fresh ones.
    if ! as_root apt-get install -y --no-install-recommends "${packages[@]}"; then
        as_root apt-get update
        as_root apt-get install -y --no-install-recommends "${packages[@]}"
    fi
    # Debian's package starts a server of its own; the tests start theirs.
    if [ -d /run/systemd/system ] && systemctl is-active --quiet etcd; then
        as_root systemctl disable --now etcd
    fi
}

install_components() {
    cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
    cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
}

check_dependencies() {
    if cargo deny --version >/dev/null 2>&1; then
        # Advisories need the network on every run and change without a commit; they are not a test of this tree.
        cargo deny --all-features check bans licenses sources
    else
        echo 'cargo-deny is not installed: licences, sources and bans stay unchecked (`cargo install cargo-deny --locked`)'
    fi
}

# All tests. Those across processes share a machine with each other, with etcd and its short deadlines, and with whatever
# else runs there: what fails among them, and there only, has a second chance by itself. It is named, and it is worth a look.
run_tests() {
    local output status=0 failed
    output=$(mktemp)
    cargo test --workspace --locked --no-fail-fast 2>&1 | tee "$output" || status=$?
    local targets
    targets=$(sed -n '/^error: [0-9]* targets\? failed:/,$p' "$output" | grep -c '^ *`' || true)
    mapfile -t failed < <(sed -n '/Running tests\/suite\/main.rs/,/Running\|Doc-tests/p' "$output" |
        sed -n 's/^test \([^ ]*\) \.\.\. FAILED$/\1/p' | sort -u)
    rm -f "$output"
    [ "$status" != 0 ] || return 0
    if [ "$targets" != 1 ] || [ ${#failed[@]} = 0 ] || [ ${#failed[@]} -gt "$SECOND_CHANCES" ]; then
        return "$status"
    fi
    printf '\n== UNSTEADY, once more by itself: %s\n' "${failed[@]}"
    cargo test -p urd-tools --test suite --locked -- --exact --test-threads=1 "${failed[@]}"
}

# More failures than this at once are no accident.
SECOND_CHANCES=3

export PATH=$PATH:/usr/sbin:/sbin
step components install_components
step format cargo fmt --all --check
if [ "${1:-}" = fast ]; then
    step lint cargo clippy --workspace --lib --bins --locked -- -D warnings
    step test cargo test --workspace --lib --bins --locked
    step tidy cargo test -p urd-tools --test tidy --locked
else
    step packages install_packages
    step lint cargo clippy --workspace --all-targets --locked -- -D warnings
    # Programs and tests in one build: apart, cargo would build the dependencies twice, with two sets of features.
    step build cargo build --workspace --bins --tests --locked
    step test run_tests
    # Private items too: the modules explain themselves to whoever works on them.
    step document env RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' cargo doc --workspace --no-deps --document-private-items --locked
    step dependencies check_dependencies
fi

printf '\n== all passed\n'
printf '%s\n' "${durations[@]}"
