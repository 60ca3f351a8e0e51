#!/usr/bin/env bash
# Same seed, same bytes: each run twice in processes of their own, and once in a build without optimisation.
# Usage: sim/determinism.sh [SEEDS]; builds what it needs.
set -euo pipefail
cd "$(dirname "$0")/.."
seeds=${1:-10}
target=${CARGO_TARGET_DIR:-target}
cargo build --locked -q -p bidmesh-sim
cargo build --locked -q --profile sim -p bidmesh-sim
lines=0
for ((seed = 0; seed < seeds; seed++)); do
    first=$("$target/sim/bidmesh-sim" run "$seed" | sha256sum)
    again=$("$target/sim/bidmesh-sim" run "$seed" | sha256sum)
    debug=$("$target/debug/bidmesh-sim" run "$seed" | sha256sum)
    if [[ $first != "$again" || $first != "$debug" ]]; then
        echo "seed $seed differs: once $first, again $again, without optimisation $debug" >&2
        exit 1
    fi
    lines=$((lines + $("$target/sim/bidmesh-sim" run "$seed" | wc -l)))
done
echo "$seeds seeds, $lines lines in all: the same in two processes, with and without optimisation"
