#!/bin/sh
# Stands where a shell device has its model script: run_slm.sh PROMPT_FILE, the answer goes to stdout.
# Keeps a copy of each prompt file in seen/, and is as slow and answers what the files `delay` and `answer` say; with
# a file `repeat` the prompt is the answer.

cp "$1" "seen/$(ls seen | wc -l)"
if [ -f delay ]; then sleep "$(cat delay)"; fi
if [ -f repeat ]; then cat "$1"; elif [ -f answer ]; then cat answer; else echo "An answer."; fi
