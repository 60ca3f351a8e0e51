#!/bin/sh
# A device of the shell mesh, to test bidmesh against: receives one message at a time and acts on it.
#
# This script was written for these tests, from measurements of the shell mesh's own listener (docs/protocol.md has
# them: message formats, how often each text passes through `echo`, what its netcats do). It is meant to behave the
# same on the wire and in its files, faults included: it is deaf while it works, it answers to the first address that
# it ever noted, it pastes raw output into JSON, and its echo interprets what it should not. Do not mend it.
# Two things are left out: the 300 s limit of the model script, and the file names that only its orchestrator used.
#
# usage: mesh_listener.sh, under mksh, dash, busybox sh or bash, with settings in the environment:
#   MESH_DIR             where its files are; my_info.txt (ID:IP:PORT) must be there    /data/local/tmp/mesh
#   MESH_NC              the netcat, such as "toybox nc", nc.openbsd                    nc
#   MESH_AWK             the awk that calculates loads; without one they stay empty     awk
#   MESH_PROC            where stat and meminfo are                                     /proc
#   MESH_POWER           where battery/capacity is                                      /sys/class/power_supply
#   MESH_HELLO_ATTEMPTS  how often each peer is greeted at the start, a second apart    20

MESH_DIR=${MESH_DIR:-/data/local/tmp/mesh}
NC=${MESH_NC:-nc}
AWK=${MESH_AWK:-awk}
PROC=${MESH_PROC:-/proc}
POWER=${MESH_POWER:-/sys/class/power_supply}
HELLO_ATTEMPTS=${MESH_HELLO_ATTEMPTS:-20}

cd "$MESH_DIR" || exit 1
MY_ID=$(cut -d: -f1 my_info.txt)
MY_IP=$(cut -d: -f2 my_info.txt)
MY_PORT=$(cut -d: -f3 my_info.txt)
LOG="mesh_$MY_ID.log"

# --- log, files -----------------------------------------------------------------------------------------------

log() {
    echo "[$(date '+%Y-%m-%d %H:%M:%S')] [$1] $2" >> "$LOG"
}

# The first match counts: a device that moved is still answered where it was first.
peer_line() {
    grep "^$1:" peers.txt | head -n 1
}

remember_peer() {
    grep -q "^$1:$2:$3\$" peers.txt && return
    echo "$1:$2:$3" >> peers.txt
    log PEER "$1 is at $2:$3"
}

load_device_config() {
    [ -f device_config.json ] || echo "{\"device_id\": \"$MY_ID\", \"has_npu\": false}" > device_config.json
}

# --- sending --------------------------------------------------------------------------------------------------

# Answers have no newline at their end. Any status but 0 is taken for "this netcat has no such option", so a message
# that was read before the connection broke is sent again.
send_to() {
    printf '%s' "$3" | $NC -w 2 "$1" "$2" > /dev/null 2>&1 && return
    printf '%s' "$3" | $NC -q 1 -w 2 "$1" "$2" > /dev/null 2>&1 && return
    printf '%s' "$3" | $NC -N -w 2 "$1" "$2" > /dev/null 2>&1 && return
    printf '%s' "$3" | $NC -w 1 "$1" "$2" > /dev/null 2>&1 && return
    printf '%s' "$3" | $NC "$1" "$2" > /dev/null 2>&1
}

send_to_peer() {
    line=$(peer_line "$1")
    if [ -z "$line" ]; then
        log WARN "No address of $1"
        return 1
    fi
    if send_to "$(echo "$line" | cut -d: -f2)" "$(echo "$line" | cut -d: -f3)" "$2"; then
        log SENT "to $1"
    else
        log WARN "Could not send to $1"
    fi
}

greet_peers() {
    cut -d: -f1 peers.txt | sort -u | while read -r peer; do
        [ -z "$peer" ] || [ "$peer" = "$MY_ID" ] && continue
        line=$(peer_line "$peer")
        attempt=1
        while [ "$attempt" -le "$HELLO_ATTEMPTS" ]; do
            send_to "$(echo "$line" | cut -d: -f2)" "$(echo "$line" | cut -d: -f3)" \
                "HELLO|$MY_ID|$MY_IP:$MY_PORT" && break
            attempt=$((attempt + 1))
            sleep 1
        done
    done
}

# --- how this device is ---------------------------------------------------------------------------------------

# awk prints numbers with six digits at most: 0, 1, 0.0675015, 1e-05.
cpu_load() {
    before=$(head -n 1 "$PROC/stat")
    sleep 0.5
    after=$(head -n 1 "$PROC/stat")
    printf '%s\n%s\n' "$before" "$after" | $AWK '{
        total = 0
        for (i = 2; i <= NF; i++) total += $i
        if (NR == 2) print (total > total_before) ? 1 - ($5 - idle_before) / (total - total_before) : 0
        total_before = total
        idle_before = $5
    }' 2> /dev/null
}

ram_load() {
    $AWK '/^MemTotal:/ { total = $2 } /^MemAvailable:/ { free = $2 } END { print 1 - free / total }' \
        "$PROC/meminfo" 2> /dev/null
}

battery_level() {
    cat "$POWER/battery/capacity" 2> /dev/null || echo -1
}

has_npu() {
    if grep -q '"has_npu": *true' device_config.json; then echo true; else echo false; fi
}

# --- what each message makes it do ----------------------------------------------------------------------------

json_text() {
    echo "$1" | grep -o "\"$2\": *\"[^\"]*\"" | cut -d'"' -f4
}

handle_hello() {
    remember_peer "$1" "$(echo "$2" | cut -d: -f1)" "$(echo "$2" | cut -d: -f2)"
}

handle_discover() {
    handle_hello "$1" "$2"
    send_to "$(echo "$2" | cut -d: -f1)" "$(echo "$2" | cut -d: -f2)" "HELLO|$MY_ID|$MY_IP:$MY_PORT"
}

# Blocks until the model script has ended; nobody listens meanwhile. Its exit status is not looked at.
run_model() {
    sh ./run_slm.sh "$1" > "$2" 2> /dev/null < /dev/null
    cat "$2"
}

handle_slm_prompt() {
    prompt_file="outputs/prompt_slm_$$.txt"
    echo "$2" > "$prompt_file"
    if [ -f run_slm.sh ]; then
        output=$(run_model "$prompt_file" "outputs/output_slm_$$.txt")
    else
        output="SLM not available"
    fi
    send_to_peer "$1" "SLM_RESULT|$MY_ID|$output"
}

handle_bid_request() {
    task_id=$(json_text "$2" task_id)
    bid="{\"device_id\": \"$MY_ID\", \"cpu_load\": $(cpu_load), \"ram_load\": $(ram_load), \"battery\": $(battery_level), \"has_npu\": $(has_npu)}"
    echo "$bid" > "bid_${MY_ID}_$task_id.tmp"
    send_to_peer "$1" "BID_RESPONSE|$MY_ID|$bid"
}

handle_task() {
    task_id=$(json_text "$2" task_id)
    prompt=$(json_text "$2" prompt)
    log TASK "$task_id from $1"
    if [ -f run_slm.sh ]; then
        echo "$prompt" > "outputs/prompt_$task_id.txt"
        output=$(run_model "outputs/prompt_$task_id.txt" "outputs/output_$task_id.txt")
        status=completed
    else
        output="SLM not available"
        status=error
    fi
    send_to_peer "$1" "RESULT|$MY_ID|{\"task_id\": \"$task_id\", \"device_id\": \"$MY_ID\", \"status\": \"$status\", \"output\": \"$output\"}"
}

handle_result() {
    task_id=$(json_text "$2" task_id)
    log RESULT "$task_id from $1"
    echo "$2" > "result_$task_id.json"
}

# The message has passed through one echo by now; taking it apart is the second. Every use is a third, and the
# prompt of a TASK meets a fourth after its grep.
handle_message() {
    type=$(echo "$1" | cut -d'|' -f1)
    from=$(echo "$1" | cut -d'|' -f2)
    payload=$(echo "$1" | cut -d'|' -f3-)
    case "$type" in
        HELLO) handle_hello "$from" "$payload" ;;
        DISCOVER) handle_discover "$from" "$payload" ;;
        TEXT) log TEXT "$from: $payload" ;;
        SLM_PROMPT) handle_slm_prompt "$from" "$payload" ;;
        SLM_RESULT) log SLM_RESULT "$from: $payload" ;;
        BID_REQUEST) handle_bid_request "$from" "$payload" ;;
        BID_RESPONSE) log BID_RESPONSE "$from: $payload" ;;
        TASK) handle_task "$from" "$payload" ;;
        RESULT) handle_result "$from" "$payload" ;;
        *) log WARN "Unknown message type: $type" ;;
    esac
}

receive() {
    received=$($NC -l -p "$MY_PORT" 2> /dev/null)
    echo "$received"
}

# --- one message after another --------------------------------------------------------------------------------

mkdir -p outputs
touch peers.txt
load_device_config
log START "$MY_ID at $MY_IP:$MY_PORT"
greet_peers
log LISTEN "port $MY_PORT"
while true; do
    message=$(receive)
    [ -n "$message" ] && handle_message "$message"
    sleep 0.1
done
