#!/bin/sh
# Stands where tests look for adb, as a link: does what the script beside the link says.
. "${0%/*}/script"
