# What still uses this router: read only, one go. Arguments: the seconds to listen.
# Each part stands between `@@ NAME` and `@@ end STATUS`; the reader takes a part without an end as cut short.
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"
part() { printf '@@ %s\n' "$1"; shift; "$@" 2>&1; printf '\n@@ end %s\n' "$?"; }

life() {
  pid=$(cat /run/frr/zebra.pid /var/run/frr/zebra.pid 2>/dev/null | head -n 1)
  [ -n "$pid" ] && stat=$(cat "/proc/$pid/stat") || return 1
  set -- ${stat##*)}
  printf '%s %s\n' "$(cat /proc/sys/kernel/random/boot_id)" "${20}"
}
forwarded() { cat /proc/net/snmp && grep OutForwDatagrams /proc/net/snmp6; }
kernel_routes() {
  printf '# \n' && ip -j -4 route show table all && printf '\n' || return 1
  for at in /run/netns/*; do
    [ -e "$at" ] || continue
    name=${at##*/}
    printf '# %s\n' "$name" && ip -n "$name" -j -4 route show table all && printf '\n' || return 1
  done
  for name in $(ip -o link show type vrf 2>/dev/null | cut -d: -f2); do
    printf '# %s\n' "$name" && ip -j -4 route show vrf "$name" && printf '\n' || return 1
  done
}
carriers() {
  # Of every port, in whatever VRF it is: how often it lost or found its carrier.
  grep . /sys/class/net/*/carrier_changes || return 1
  for at in /run/netns/*; do
    [ -e "$at" ] || continue
    ip netns exec "${at##*/}" sh -c 'grep . /sys/class/net/*/carrier_changes' || return 1
  done
}
rules() {
  printf '## \n' && ip -4 rule show || return 1
  for at in /run/netns/*; do
    [ -e "$at" ] || continue
    printf '## %s\n' "${at##*/}" && ip -n "${at##*/}" -4 rule show || return 1
  done
}
filters() {
  # A tool that is not installed has set no rules.
  for tool in 'nft -s list ruleset' iptables-save iptables-legacy-save; do
    command -v "${tool%% *}" >/dev/null || continue
    printf '## \n' && $tool || return 1
    for at in /run/netns/*; do
      [ -e "$at" ] || continue
      printf '## %s\n' "${at##*/}" && ip netns exec "${at##*/}" $tool || return 1
    done
  done
}
sockets() {
  printf '## \n' && ss -H -n -a -t -u || return 1
  for at in /run/netns/*; do
    [ -e "$at" ] || continue
    printf '## %s\n' "${at##*/}" && ss -N "${at##*/}" -H -n -a -t -u || return 1
  done
}
tracked() {
  # The file is there whether or not anything is tracked: only a kernel that tracks has something to tell.
  count=$(cat /proc/sys/net/netfilter/nf_conntrack_count 2>/dev/null) && [ "${count:-0}" -gt 0 ] || return 1
  cat /proc/net/nf_conntrack 2>/dev/null || conntrack -L 2>/dev/null
}
heard() {
  command -v python3 >/dev/null || { echo "no python3"; return 1; }
  python3 -I -S - "$1" <<'PY'
import json, socket, sys, time
ends = time.monotonic() + float(sys.argv[1])
sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
seen = {}
while True:
    left = ends - time.monotonic()
    if left <= 0:
        break
    sock.settimeout(left)
    try:
        frame, (port, kind, way, *_) = sock.recvfrom(256)
    except socket.timeout:
        break
    if way not in (0, 4) or len(frame) < 34:  # to this router alone, or sent by it
        continue
    body = frame[14:]
    if kind == 0x0800:
        size, number = (body[0] & 15) * 4, body[9]
        ends_of = socket.inet_ntop(socket.AF_INET, body[12:16]), socket.inet_ntop(socket.AF_INET, body[16:20])
    elif kind == 0x86DD and len(body) >= 40:
        size, number = 40, body[6]
        ends_of = socket.inet_ntop(socket.AF_INET6, body[8:24]), socket.inet_ntop(socket.AF_INET6, body[24:40])
    else:
        continue
    asked = None
    if number in (6, 17) and len(body) >= size + 4:
        a, b = int.from_bytes(body[size:size + 2], "big"), int.from_bytes(body[size + 2:size + 4], "big")
        asked = min(a, b)
    mac = "" if way == 4 else frame[6:12].hex(":")
    key = (port, *ends_of, mac, {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6"}.get(number, str(number)), asked)
    if key in seen or len(seen) < 2000:
        seen[key] = seen.get(key, 0) + 1
print(json.dumps([[*key, count] for key, count in sorted(seen.items(), key=str)]))
PY
}

part clock date +%s.%N
part session printenv SSH_CONNECTION
part life life
part links ip -j -s -s link
part addresses ip -j address
part neighbors ip -j -s neighbor
part sockets sockets
part forwarded forwarded
part carriers carriers
part kernel-routes kernel_routes
part rules rules
part filters filters
part routing vtysh -c 'show ip route vrf all json'
part config vtysh -c 'show running-config no-header'
part tracked tracked
part heard heard "$1"
