s() { printf '\n%s %s\n' "$N" "$1"; }
z() { for m; do [ -f "$m" ] && echo "$(wc -c < "$m") ${m##*/}"; done; }
f() { [ -f "$D/$1" ] && { s "$1"; cat "$D/$1"; }; }
s abi; a=$(getprop ro.product.cpu.abi 2>/dev/null); echo "${a:-$(uname -m)}"
s serial; getprop ro.serialno 2>/dev/null
s android; getprop ro.build.version.release 2>/dev/null
s addresses; ip -4 -o addr show 2>/dev/null || ifconfig 2>/dev/null
s space; df -k "${D%/*}" 2>/dev/null | tail -n 1
s writable; if [ -d "$D" ]; then [ -w "$D" ]; else [ -w "${D%/*}" ]; fi && echo yes
s clock; date +%s
for n in my_info.txt peers.txt device_config.json config.toml; do f $n; done
if [ -f "$D/bidmesh" ]; then
    s sum; sha256sum "$D/bidmesh" 2>/dev/null
    s version; "$D/bidmesh" --version 2>&1
fi
p=$(device) && {
    s running; echo "$p"
    case $(readlink "/proc/$p/exe" 2>/dev/null) in *' (deleted)') s outdated; echo yes ;; esac
}
s listener; listener
if [ -f "$D/run_slm.sh" ]; then
    s runner; echo "$D/run_slm.sh"
    i=$(sed -n '1s/^#! *\([^ ]*\).*/\1/p' "$D/run_slm.sh"); [ -x "$i" ] && { s interpreter; echo "$i"; }
fi
for g in "$D/genie-t2t-run" "${D%/*}"/genie-t2t-run "${D%/*}"/*/genie-t2t-run; do
    if [ -x "$g" ]; then
        c=$(grep -l '"dialog"' "${g%/*}"/*.json 2>/dev/null | head -n 1)
        [ -n "$c" ] && { s genie; echo "$g"; echo "$c"; break; }
    fi
done
s ports; cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | grep ' 0A '
s models; z "$D"/models/*.gguf
s begun; z "$D"/*.part "$D"/models/*.part
s battery; dumpsys battery 2>/dev/null | grep -E 'level|temperature|powered'
[ -r /sys/class/power_supply/battery/capacity ] && echo "level: $(cat /sys/class/power_supply/battery/capacity)"
s npu
