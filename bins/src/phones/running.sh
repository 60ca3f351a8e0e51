device() {
    p=$(sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' "$D/control.json" 2>/dev/null)
    [ -n "$p" ] && grep -q bidmesh "/proc/$p/cmdline" 2>/dev/null && echo "$p"
}
listener() { grep -l '[m]esh_listener' /proc/[0-9]*/cmdline 2>/dev/null | head -n 1; }
