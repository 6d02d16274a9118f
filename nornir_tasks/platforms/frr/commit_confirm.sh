#!/bin/sh
# Changes FRR's running configuration with a way back that needs nobody: armed first, run by this device itself.
#
# A change lives in $base/change from the moment it is armed. Its state is the name of one empty file in there, and
# every move from one state to another is one rename(2), so of two who try only one succeeds:
#     armed -> confirmed            (kept)        armed -> undone | fired        (gone back by hand | by the timer)
# A finished change becomes $base/last. Everything is written before anything is applied, so a full disk changes nothing.
# $base is on a tmpfs: after a reboot there is no change, and the router starts with its last confirmed configuration.
#
# usage: commit_confirm.sh check  BYTES                                       < candidate
#        commit_confirm.sh commit ID SECONDS SHA256 BYTES_PATCH BYTES_BACK    < patch, then the patch back
#        commit_confirm.sh more   ID BYTES                                    < patch
#        commit_confirm.sh confirm ID | rollback ID | status
# exit: 0 done  10 line refused  11 cannot write  12 another change is armed  13 not pending any more
#       14 did not go back  15 running configuration is not the one compared  16 in use  17 not saved  18 was confirmed
set -u
umask 077
# A session that drops must not stop a change half way.
trap '' HUP PIPE
base=${EXTRANET_RUN:-/run/extranet}
startup=/etc/frr/frr.conf
reload=/usr/lib/frr/frr-reload.py
self=$0
cd "$base" || exit 11

say() { printf '%s\n' "$*" >&2; }
now() { cut -d. -f1 /proc/uptime; }
running() { vtysh -c 'show running-config no-header' 2>/dev/null; }
read_word() { head -n 1 "$1" 2>/dev/null; }

# One writer at a time. The lock ends with the process that holds it; what is started to outlive it closes it.
lock() {
    exec 9>>"$base/lock" || exit 11
    flock -w "$1" 9
}

# Lines with the headers they stand under, sorted: equal when two configurations say the same in another order.
plain() {
    awk '/^ *!|^ *$|^ *exit|^end|^frr version|^Building|^Current|^ netns / { next }
         /^[^ ]/ { one = $0; two = ""; if ($0 !~ /^(interface|vrf) /) print one; next }
         /^ [^ ]/ { two = $0; if ($0 !~ /^ address-family /) print one "|" two; next }
         { print one "|" two "|" $0 }' | sort
}

take() { # BYTES FILE: read exactly so many bytes from standard input
    head -c "$1" >"$2" 2>/dev/null && [ "$(wc -c <"$2")" -eq "$1" ]
}

state() { # the state of the change, empty when there is none
    for s in armed confirmed undone fired; do
        if [ -e change/$s ]; then echo $s; return; fi
    done
}

is_mine() { [ "$(read_word change/id)" = "$1" ]; }

went_back() { # does the running configuration say what it said before?
    running | plain | cmp -s - change/before.plain
}

announce() { # PATCH: tell the LANs who has the addresses it gave; else neighbours find out when their entries are old
    command -v python3 >/dev/null || return 0
    awk '/^[^ ]/ { name = $1 == "interface" ? $2 : ""; vrf = $3 == "vrf" ? $4 : "-" }
         name && $1 == "ip" && $2 == "address" { sub("/.*", "", $3); given[vrf] = given[vrf] " " name " " $3 }
         END { for (vrf in given) print vrf given[vrf] }' "$1" |
        while read -r vrf given; do
            where=
            [ -e "/run/netns/$vrf" ] && where="ip netns exec $vrf"
            # shellcheck disable=SC2086 - a word each
            $where python3 -I -S -c "$say_who_has" $given 9>&- </dev/null >/dev/null 2>&1 &
        done
}
say_who_has='
import socket, struct, sys, time
given = list(zip(sys.argv[1::2], sys.argv[2::2]))
for pause_s in (0.02, 0.1, 0.4, 1.0):
    time.sleep(pause_s)
    for name, address in given:
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine:  # only what this router has
                mine.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode() + b"\0")
                mine.bind((address, 0))
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
                wire.bind((name, 0x0806))
                mac, ip = wire.getsockname()[4], socket.inet_aton(address)
                head = b"\xff" * 6 + mac + struct.pack(">HHHBBH", 0x0806, 1, 0x0800, 6, 4, 1)
                wire.send(head + mac + ip + bytes(6) + ip)
        except OSError:
            pass
'

go_back() { # undo the change in $base/change; its state was already moved to undone or fired
    vtysh -f change/back >change/log 2>&1
    announce change/back
    went_back && return 0
    for pause in 0 1 2; do
        sleep $pause
        # The exact way back did not fit what runs: let FRR's own tool find one.
        [ -x $reload ] && $reload --reload --stdout change/before >>change/log 2>&1
        went_back && return 0
    done
    return 1
}

finish() { # the change is over: keep it as the last one
    rm -rf last
    mv -T change last
}

settle() { # finish what somebody was interrupted in
    case $(state) in
    confirmed) save && finish ;;
    undone | fired) go_back && finish ;;
    esac
}

save() {
    # A write that fails half way must not cost the next boot its configuration.
    if [ -e $startup ]; then
        cp -p $startup $startup.extranet 2>/dev/null || { rm -f $startup.extranet; return 1; }
    fi
    if vtysh -c 'write memory' 2>&1 | grep -q '\[OK\]' && [ -s $startup ] && saved_whole; then
        rm -f $startup.extranet
        return 0
    fi
    [ -e $startup.extranet ] && mv -f $startup.extranet $startup
    return 1
}

saved_whole() { [ "$(plain <$startup | wc -l)" -ge "$(running | plain | wc -l)" ]; }

left() { echo $(($(read_word change/deadline) - $(now))); }

start_timer() { # SECONDS NONCE
    # systemd holds the timer where it is this very system's (not that of a machine around our namespaces).
    if [ -d /run/systemd/system ] && [ "$(cat /proc/1/comm)" = systemd ] &&
        [ "$(readlink /proc/1/ns/net)" = "$(readlink /proc/self/ns/net)" ] &&
        [ "$(readlink /proc/1/ns/mnt)" = "$(readlink /proc/self/ns/mnt)" ]; then
        systemd-run --quiet --collect --on-active="$1" --timer-property=AccuracySec=100ms \
            --unit="extranet-back-$2" --setenv=EXTRANET_RUN="$base" /bin/sh "$self" fire "$2" 9>&- >/dev/null 2>&1 && return 0
    fi
    setsid sh "$self" timer "$1" "$2" 9>&- </dev/null >/dev/null 2>&1 &
    echo $! >"$new/timer"
    kill -0 $! 2>/dev/null
}

stop_timer() { # not from within the timer itself
    pid=$(read_word change/timer)
    if grep -q "$(read_word change/nonce)" "/proc/$pid/cmdline" 2>/dev/null; then kill -- "-$pid" 2>/dev/null; fi
    return 0
}

verb=${1:-}
case $verb in
check)
    file=candidate.$$
    trap 'rm -f "$file"' EXIT
    take "$2" "$file" || { say "cannot write $base/$file"; exit 11; }
    if ! reply=$(vtysh -C -f "$file" 2>&1); then
        say "$reply"
        exit 10
    fi
    running
    ;;
commit)
    id=$2 seconds=$3 sum=$4 patch_bytes=$5 back_bytes=$6
    lock 20 || exit 16
    settle
    if [ -e change ]; then
        say "$(read_word change/id)" "$(left)"
        exit 12
    fi
    rm -rf new.*
    new=new.$$
    mkdir "$new" || exit 11
    trap 'rm -rf "$new"' EXIT
    if ! { take "$patch_bytes" "$new/patch" && take "$back_bytes" "$new/back" && running >"$new/before" &&
        plain <"$new/before" >"$new/before.plain" && [ -s "$new/before.plain" ] && grep -q '^end$' "$new/before" &&
        echo "$id" >"$new/id" && echo $(($(now) + seconds)) >"$new/deadline" && echo "$new.$(now)" >"$new/nonce" &&
        echo none >"$new/timer" && : >"$new/log" && : >"$new/armed" && [ -s "$new/timer" ]; } 2>/dev/null; then
        say "cannot write $base/$new"
        exit 11
    fi
    [ "$(sha256sum <"$new/before" | cut -d' ' -f1)" = "$sum" ] || exit 15
    nonce=$(read_word "$new/nonce")
    # The timer runs before the change counts as armed; should we end in between it finds nothing to undo.
    start_timer "$seconds" "$nonce" || { say "cannot start the timer"; exit 11; }
    mv -T "$new" change || exit 12
    vtysh -f change/patch >change/log 2>&1
    announce change/patch
    cat change/log >&2
    running
    ;;
more)
    lock 20 || exit 16
    [ "$(state)" = armed ] && is_mine "$2" || exit 13
    take "$3" change/patch || { say "cannot write $base/change/patch"; exit 11; }
    vtysh -f change/patch >change/log 2>&1
    announce change/patch
    cat change/log >&2
    running
    ;;
confirm)
    lock 60 || exit 16
    settle
    if [ "$(read_word last/id)" = "$2" ] && [ ! -e change ]; then
        [ -e last/confirmed ] && exit 0
        exit 13
    fi
    is_mine "$2" && mv change/armed change/confirmed 2>/dev/null || exit 13
    stop_timer
    save || exit 17
    finish
    ;;
rollback)
    lock 60 || exit 16
    settle
    if is_mine "$2" && mv change/armed change/undone 2>/dev/null; then
        stop_timer
        go_back || { cat change/log >&2; exit 14; }
        finish
    elif is_mine "$2"; then
        [ -e change/confirmed ] && exit 18
        exit 14
    elif [ "$(read_word last/id)" = "$2" ] && [ -e last/confirmed ]; then
        exit 18
    fi
    ;;
status)
    # Asking must not wait for a change that is being applied.
    if lock 5; then
        [ "$(state)" = armed ] && [ "$(left)" -lt -5 ] && sh "$self" fire "$(read_word change/nonce)" locked
        settle
    fi
    [ -e change ] && echo "$(read_word change/id) $(left) $(state)"
    exit 0
    ;;
timer)
    # SECONDS NONCE, in a session of its own
    sleep "$2"
    exec sh "$self" fire "$3"
    ;;
fire)
    # NONCE: nobody confirmed in time. A stuck writer must not keep us from going back.
    [ "${3:-}" = locked ] || lock 30
    [ "$(read_word change/nonce)" = "$2" ] || exit 0
    mv change/armed change/fired 2>/dev/null || exit 0
    go_back && finish
    ;;
*)
    sed -n 's/^# usage: //p' "$self" >&2
    exit 2
    ;;
esac
