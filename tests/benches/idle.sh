#!/bin/sh
# What an idle device costs: a release `bidmesh up` with two peers, all on this machine, left alone.
#
#   cargo build --release -p bidmesh && sh tests/benches/idle.sh [SECONDS]
#
# Prints the size of the program, the device's resident memory, and how often its threads woke in a second: voluntary
# context switches, each of which is a thread that slept and was woken. BIDMESH_BIN names another program. Linux only.
set -eu

seconds=${1:-30}
bin=${BIDMESH_BIN:-${CARGO_TARGET_DIR:-$(dirname "$0")/../../target}/release/bidmesh}
[ -x "$bin" ] || { echo "no program at $bin: run cargo build --release -p bidmesh, or set BIDMESH_BIN" >&2; exit 1; }

dir=$(mktemp -d)
devices=
end() {
    [ -z "$devices" ] || kill $devices 2>/dev/null || :
    wait
    rm -rf "$dir"
}
trap end EXIT
trap 'exit 1' INT TERM

# start ID [PEER_DIR...]: peers are known by the address that each peer's device wrote into its my_info.txt.
start() {
    id=$1
    shift
    flags=
    for peer; do
        line=$(cat "$peer/my_info.txt")
        flags="$flags --peer ${line%%:*}=${line#*:}"
    done
    # The flags are words without blanks.
    # shellcheck disable=SC2086
    HOME=$dir "$bin" --quiet --dir "$dir/$id" up --id "$id" --listen "127.0.0.1:$port" --executor none $flags \
        >/dev/null 2>"$dir/$id.err" &
    pid=$!
    devices="$devices $pid"
    waited=0
    until HOME=$dir "$bin" --quiet --dir "$dir/$id" status >/dev/null 2>&1; do
        kill -0 "$pid" 2>/dev/null && [ "$waited" -lt 100 ] || { cat "$dir/$id.err" >&2; exit 1; }
        waited=$((waited + 1))
        sleep 0.1
    done
}

# Times that the threads of the device slept and were woken.
wakes() {
    cat /proc/"$pid"/task/*/status | awk '/^voluntary_ctxt_switches/ { sum += $2 } END { print sum }'
}

memory() {
    awk -v name="$1:" '$1 == name { printf "%.2f", $2 / 1024 }' /proc/"$pid"/status
}

port=$((20000 + $$ % 10000))
start B
port=$((port + 1))
start C
port=$((port + 1))
start A "$dir/B" "$dir/C"

# Greetings and first readings of the sensors are no idling.
sleep 10
before=$(wakes)
sleep "$seconds"
after=$(wakes)

awk -v bytes="$(wc -c <"$bin")" 'BEGIN { printf "program            %.2f MiB   (goal: under 5)\n", bytes / 1048576 }'
echo "resident memory    $(memory VmRSS) MiB   (goal: under 8; of it not shared with the file: $(memory RssAnon))"
awk -v woke="$((after - before))" -v time="$seconds" \
    'BEGIN { printf "wake-ups a second  %.2f   (goal: under 2; %d in %d s)\n", woke / time, woke, time }'
