#!/bin/sh
# Stands where a device has its model, for the executor `command`: run.sh PROMPT_FILE, the answer goes to stdout.
# It works in the folder where it is called from (a link to it, made by `Runner`), and keeps count there: a line in
# `started` for each run, one in `ended` for each that came to its end, the prompt in `prompt_AWARD`. The files there
# say how it answers: `beginning` is printed at once, as long as `hold` is there it goes no further, `delay` is slept,
# `status` makes it fail, `answer` is the answer; without one the answer is the prompt.

cd "$(dirname "$0")" || exit 1
cp "$1" "prompt_$BIDMESH_TASK_ID"
echo "$BIDMESH_TASK_ID $BIDMESH_MODE $$" >> started
if [ -f beginning ]; then cat beginning; fi
while [ -f hold ]; do sleep 0.02; done
if [ -f delay ]; then sleep "$(cat delay)"; fi
if [ -f status ]; then
    echo "the model is broken" >&2
    exit "$(cat status)"
fi
if [ -f answer ]; then cat answer; else cat "$1"; fi
echo "$BIDMESH_TASK_ID" >> ended
