#!/bin/sh
# The sending command of the shell mesh, to test bidmesh against: sends one message to one device or to all.
#
# Written for these tests from measurements of the shell mesh's own sender, as mesh_listener.sh was: `echo` ends each
# message with a newline, and under mksh and dash it interprets backslash escapes on the way.
#
# usage: mesh_sender.sh COMMAND, with MESH_DIR and MESH_NC in the environment as for mesh_listener.sh:
#   text TARGET WORDS...              a line of text
#   slm TARGET WORDS...               a prompt, to be answered with SLM_RESULT
#   bid_request TARGET TASK_ID JSON   a bid request
#   task TARGET JSON                  a task
#   raw TARGET MESSAGE                a whole message as it is
#   discover                          asks all peers to say HELLO
# TARGET is a device of peers.txt, or all.

MESH_DIR=${MESH_DIR:-/data/local/tmp/mesh}
NC=${MESH_NC:-nc}

cd "$MESH_DIR" || exit 1
MY_ID=$(cut -d: -f1 my_info.txt)
MY_PORT=$(cut -d: -f3 my_info.txt)

send_to() {
    echo "$3" | $NC -w 2 "$1" "$2" > /dev/null 2>&1 && return
    echo "$3" | $NC -q 1 -w 2 "$1" "$2" > /dev/null 2>&1 && return
    echo "$3" | $NC -N -w 2 "$1" "$2" > /dev/null 2>&1 && return
    echo "$3" | $NC -w 1 "$1" "$2" > /dev/null 2>&1 && return
    echo "$3" | $NC "$1" "$2" > /dev/null 2>&1
}

send_to_line() {
    [ -z "$1" ] && return 1
    send_to "$(echo "$1" | cut -d: -f2)" "$(echo "$1" | cut -d: -f3)" "$2"
}

send_to_target() {
    if [ "$1" != all ]; then
        send_to_line "$(grep "^$1:" peers.txt | head -n 1)" "$2"
        return
    fi
    status=0
    for line in $(cat peers.txt); do
        case "$line" in "$MY_ID":*) continue ;; esac
        send_to_line "$line" "$2" || status=1
    done
    return $status
}

# Empty where there is no wlan0; the message then begins with a colon.
wifi_address() {
    ip addr show wlan0 2> /dev/null | grep -o 'inet [0-9.]*' | cut -d' ' -f2 | head -n 1
}

usage() {
    sed -n 's/^#   //p' "$0" >&2
    exit 2
}

[ $# -ge 1 ] || usage
command=$1
shift
if [ "$command" = discover ]; then
    send_to_target all "DISCOVER|$MY_ID|$(wifi_address):$MY_PORT"
    exit
fi
[ $# -ge 2 ] || usage
target=$1
shift
case "$command" in
    text) send_to_target "$target" "TEXT|$MY_ID|$*" ;;
    slm) send_to_target "$target" "SLM_PROMPT|$MY_ID|$*" ;;
    bid_request) send_to_target "$target" "BID_REQUEST|$MY_ID|$2" ;;
    task) send_to_target "$target" "TASK|$MY_ID|$*" ;;
    raw) send_to_target "$target" "$*" ;;
    *) usage ;;
esac
