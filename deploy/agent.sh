#!/bin/sh
# Farol's telemetry agent for pfSense and anything else that cannot run the
# binary. Needs sh, awk, openssl, and curl where no `ca_file` is set.
#
#   agent.sh [--config FILE]           run until stopped
#   agent.sh [--config FILE] --once    one reading, and what waits; for cron
#   agent.sh [--config FILE] --check   is everything in place?
#
# The configuration has a `name=value` a line; docs/OPERATIONS.md says which.
# The secret is read from its file and never becomes an argument of a program.

set -u
LC_ALL=C
export LC_ALL
umask 077
PATH=${PATH:-}:/sbin:/bin:/usr/sbin:/usr/bin:/usr/local/bin
export PATH

VERSION=0.1.0
TEXT_LIMIT=60000
ANSWER_LIMIT=40

say() { printf 'farol agent.sh: %s\n' "$*" >&2; }
# 1: it failed; 2: usage or configuration.
die() { code=$1; shift; say "$*"; exit "$code"; }
need() { command -v "$1" >/dev/null 2>&1; }

# ---------------------------------------------------------------- settings

load_config() {
    url='' key='' secret_file='' ca_file='' hostname='' transport=auto
    interval=30 spool_dir=/var/db/farol-agent spool_max=2880 burst=20
    [ -r "$1" ] || die 2 "cannot read the configuration $1; write it, or name another with --config"
    # Never evaluated: a configuration is data.
    while IFS= read -r line || [ -n "$line" ]; do
        case $line in '' | '#'*) continue ;; *=*) ;; *) die 2 "$1: \`$line\` is not name=value" ;; esac
        name=${line%%=*} value=${line#*=}
        case $name in
            url) url=${value%/} ;;
            key) key=$value ;;
            secret_file) secret_file=$value ;;
            ca_file) ca_file=$value ;;
            hostname) hostname=$value ;;
            transport) transport=$value ;;
            interval) interval=$value ;;
            spool_dir) spool_dir=$value ;;
            spool_max) spool_max=$value ;;
            burst) burst=$value ;;
            *) die 2 "$1: \`$name\` is not a setting; there are url, key, secret_file, ca_file, hostname, transport, interval, spool_dir, spool_max and burst" ;;
        esac
    done <"$1"
    for name in interval spool_max burst; do
        eval "value=\$$name"
        case $value in '' | *[!0-9]* | 0* | ???????*) die 2 "$1: \`$name\` is not a number from 1 to 999999" ;; esac
    done
    case $key in '' | *[!A-Za-z0-9_-]*) die 2 "$1: \`key\` is the id that \`farol host key add\` printed" ;; esac
    case $hostname in *[!A-Za-z0-9._-]*) die 2 "$1: \`hostname\` has letters, digits, dots, dashes and underscores" ;; esac
    [ -n "$hostname" ] || hostname=$(hostname 2>/dev/null)
    [ -n "$hostname" ] || hostname=$(uname -n)
    case $url in
        *[!A-Za-z0-9.:/_[-]* | *[!]A-Za-z0-9.:/_[-]*) die 2 "$1: \`url\` is https://HOST:PORT" ;;
        https://?*) ;;
        http://127.0.0.1:* | http://localhost:*) ;;
        *) die 2 "$1: \`url\` is https://HOST:PORT; without TLS only this machine is spoken to" ;;
    esac
    [ "$transport" != auto ] || if [ -n "$ca_file" ]; then transport=openssl; else transport=curl; fi
    case $transport in
        openssl)
            [ -r "$ca_file" ] || die 2 "cannot read the ca_file \`$ca_file\`; it is the authority that \`farol host key add\` printed"
            case $url in https://*) ;; *) die 2 "$1: transport=openssl needs an https url" ;; esac
            ;;
        curl)
            need curl || die 2 "curl is not here; install it, or set ca_file and transport=openssl"
            [ -z "$ca_file" ] || [ -r "$ca_file" ] || die 2 "cannot read the ca_file \`$ca_file\`"
            ;;
        *) die 2 "$1: \`transport\` is auto, curl or openssl" ;;
    esac
    for tool in awk openssl date tr head sort df mktemp; do
        need "$tool" || die 2 "the program $tool is not here; install it"
    done
}

# The secret has 64 hexadecimal digits: one block of SHA-256. What HMAC needs
# of it are those bytes combined with two constants, as printf's octal escapes.
load_secret() {
    [ -r "$secret_file" ] || die 2 "cannot read the secret_file \`$secret_file\`"
    # shellcheck disable=SC2012 # stat differs from system to system, this does not
    case $(ls -ldn "$secret_file" | awk '{ print substr($1, 1, 10) }') in
        -r[w-]-------) ;;
        *) die 2 "others may read $secret_file; run: chmod 600 $secret_file" ;;
    esac
    if ! inner=$(pad 54 <"$secret_file") || ! outer=$(pad 92 <"$secret_file"); then
        die 2 "$secret_file does not hold the 64 hexadecimal digits that \`farol host key add\` printed"
    fi
}

# Not called xor: some awks have a function of that name.
pad() {
    awk -v with="$1" '
        function differing(a, b,   bit, out) {
            out = 0
            for (bit = 1; bit < 256; bit *= 2) if (int(a / bit) % 2 != int(b / bit) % 2) out += bit
            return out
        }
        NR == 1 { secret = $1 }
        END {
            if (length(secret) != 64) exit 1
            for (i = 1; i <= 64; i++) {
                at = index("0123456789abcdef", substr(secret, i, 1)) - 1
                if (at < 0) exit 1
                text = text sprintf("\\0%03o", differing(at < 10 ? 48 + at : 87 + at, with))
            }
            print text
        }'
}

# ---------------------------------------------------------------- readings

# Anything as the inside of a JSON text: printable ASCII, bounded.
json_text() {
    head -c "$TEXT_LIMIT" | tr -c '\11\12\40-\176' '?' | awk '
        { gsub(/[\\"]/, "\\\\&"); gsub(/\t/, "\\t"); printf "%s%s", (NR > 1 ? "\\n" : ""), $0 }'
}

processes() {
    list=$(ps -A -o pcpu= -o pmem= -o pid= -o comm= 2>/dev/null | sort -rn | head -n 20 |
        awk '{ c = $4; for (i = 5; i <= NF; i++) c = c " " $i; printf "%s %s %s %s\n", $3, c, $1, $2 }')
    # A small ps knows neither of the columns.
    [ -n "$list" ] || list=$(ps 2>/dev/null | head -n 21)
    printf '%s\n' "$list"
}

network() {
    if need ss; then ss -s 2>/dev/null; elif need netstat; then netstat -s -p tcp 2>/dev/null | head -n 60; fi
}

disks() {
    df -kP 2>/dev/null | awk '
        NR == 1 || $2 !~ /^[0-9]+$/ || $2 == 0 || $1 ~ /^(devfs|procfs|fdescfs|linprocfs|tmpfs|udev|none|overlay|shm)$/ { next }
        {
            mount = $6
            for (i = 7; i <= NF; i++) mount = mount " " $i
            gsub(/[\\"]/, "?", mount); gsub(/[^ -~]/, "?", mount)
            printf "%s{\"mount\":\"%s\",\"total\":%.0f,\"used\":%.0f}", (n++ ? "," : ""), mount, $2 * 1024, $3 * 1024
        }'
}

number() { case $1 in '' | *[!0-9.]* | *.*.* | .* | *.) return 1 ;; esac }

# Sets load, memory and uptime as JSON members, each empty when unknown.
readings() {
    load='' memory='' uptime=''
    case $(uname -s) in
        FreeBSD)
            # shellcheck disable=SC2046 # its words
            set -- $(sysctl -n vm.loadavg 2>/dev/null | tr -d '{}')
            number "${1:-}" && number "${2:-}" && number "${3:-}" && load="\"load\":[$1,$2,$3],"
            # shellcheck disable=SC2046 # its words
            set -- $(sysctl -n hw.physmem hw.pagesize vm.stats.vm.v_free_count vm.stats.vm.v_inactive_count 2>/dev/null)
            number "${1:-}" && number "${4:-}" && memory=$(awk -v t="$1" -v p="$2" -v f="$3" -v i="$4" 'BEGIN {
                free = (f + i) * p; if (free > t) free = t
                printf "\"mem\":{\"total\":%.0f,\"free\":%.0f},", t, free }')
            boot=$(sysctl -n kern.boottime 2>/dev/null | sed -n 's/^{ sec = \([0-9]*\),.*/\1/p')
            number "$boot" && uptime="\"uptime\":$(($(date +%s) - boot)),"
            ;;
        *)
            if read -r one five fifteen _ 2>/dev/null </proc/loadavg; then
                number "$one" && load="\"load\":[$one,$five,$fifteen],"
            fi
            memory=$(awk '
                $1 == "MemTotal:" { t = $2 } $1 == "MemFree:" { f = $2 } $1 == "MemAvailable:" { a = $2; has = 1 }
                END { if (t) printf "\"mem\":{\"total\":%.0f,\"free\":%.0f},", t * 1024, (has ? a : f) * 1024 }
            ' /proc/meminfo 2>/dev/null)
            if read -r up _ 2>/dev/null </proc/uptime; then number "$up" && uptime="\"uptime\":${up%%.*},"; fi
            ;;
    esac
}

reading() {
    readings
    printf '{"hostname":"%s","timestamp":"%s","processes":"%s","netstat":"%s","iostat":"%s",' \
        "$hostname" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(processes | json_text)" "$(network | json_text)" \
        "$(if need iostat; then iostat 2>/dev/null | json_text; fi)"
    printf '"os":{"hostname":"%s",%s%s%s"disks":[%s]},"agent":"agent.sh %s"}\n' \
        "$hostname" "$load" "$memory" "$uptime" "$(disks)" "$VERSION"
}

# ---------------------------------------------------------------- requests

# Writes the signing headers of POST /ingest with the body in file $1.
headers() {
    at=$(($(date +%s) + offset))000
    nonce=$(openssl rand -hex 16) || return 1
    hash=$(openssl dgst -sha256 -r <"$1") || return 1
    # `printf` is the shell's own: what it is given shows in no process list.
    signature=$({
        printf '%b' "$outer"
        {
            printf '%b' "$inner"
            printf 'farol-http-v1\nPOST\n%s\n%s\n%s\n%s' "$path" "${hash%% *}" "$at" "$nonce"
        } | openssl dgst -sha256 -binary
    } | openssl dgst -sha256 -r) || return 1
    printf 'Farol-Key: %s\nFarol-Timestamp: %s\nFarol-Nonce: %s\nFarol-Signature: %s\n' \
        "$key" "$at" "$nonce" "${signature%% *}"
}

# Posts the file $1. Sets status (000: no answer), code and detail.
post() {
    rest=${url#*://}
    authority=${rest%%/*}
    path=${rest#"$authority"}/ingest
    headers "$1" >"$work/headers" || die 1 "openssl cannot sign; see its version with: openssl version"
    : >"$work/answer"
    if [ "$transport" = curl ]; then by_curl "$1"; else by_openssl "$1"; fi
    status=$(awk '/^HTTP\// { s = $2 } /^\r?$/ && s >= 200 { exit } END { print s }' "$work/answer")
    case $status in [2-5][0-9][0-9]) ;; *) status=000 ;; esac
    code=$(sed -n 's/.*"code": *"\([a-z_]*\)".*/\1/p' "$work/answer" | head -n 1)
    detail=$(sed -n 's/.*"detail": *"\([^"]*\)".*/\1/p' "$work/answer" | head -n 1)
    [ "$status" != 000 ] || detail=$(head -n 3 "$work/errors" | tr '\n' ' ')
}

by_curl() {
    {
        sed 's/.*/header = "&"/' "$work/headers"
        printf 'header = "Content-Type: application/json"\nheader = "Expect:"\nurl = "%s://%s%s"\n' \
            "${url%%://*}" "$authority" "$path"
        [ -z "$ca_file" ] || printf 'cacert = "%s"\n' "$ca_file"
    } | curl --silent --show-error --include --max-time "$ANSWER_LIMIT" --proto '=https,http' \
        --data-binary "@$1" --config - >"$work/answer" 2>"$work/errors"
}

# The coordinator's certificate carries a name that is no address, so only the
# chain is verified: its authority signs coordinators and hosts, and nothing
# that hosts hold may serve.
by_openssl() {
    {
        printf 'POST %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n' "$path" "$authority"
        printf 'Content-Type: application/json\r\nContent-Length: %s\r\n' "$(($(wc -c <"$1")))"
        awk '{ printf "%s\r\n", $0 }' "$work/headers"
        printf '\r\n'
        cat "$1"
    } >"$work/request"
    case $authority in *:[0-9]*) peer=$authority ;; *) peer=$authority:443 ;; esac
    openssl s_client -quiet -connect "$peer" -CAfile "$ca_file" -verify 9 -verify_return_error \
        <"$work/request" >"$work/answer" 2>"$work/errors" &
    running=$!
    (
        trap 'kill "$nap" 2>/dev/null; exit 0' TERM
        sleep "$ANSWER_LIMIT" &
        nap=$!
        wait "$nap"
        kill "$running" 2>/dev/null
    ) >/dev/null 2>&1 &
    watch=$!
    wait "$running"
    kill "$watch" 2>/dev/null
    wait "$watch" 2>/dev/null
}

# ---------------------------------------------------------------- spool

# A reading is on disk before it is sent, with the time it was taken.
keep() {
    reading >"$work/reading" || return 1
    serial=$((serial + 1))
    mv "$work/reading" "$spool_dir/$(date +%s)-$(printf '%06d' "$serial").json" || return 1
    set -- "$spool_dir"/*.json
    lost=0
    while [ $# -gt "$spool_max" ]; do
        rm -f "$1"
        lost=$((lost + 1))
        shift
    done
    [ "$lost" -eq 0 ] || say "the spool is full: $lost readings, the oldest, were dropped"
}

# Sends what waits, oldest first, at most $burst of it. 1: stop for now.
drain() {
    sent=0 refused=0
    for file in "$spool_dir"/*.json; do
        [ -e "$file" ] || return 0
        [ "$sent" -lt "$burst" ] || return 0
        post "$file"
        if [ "$code" = clock_skew ]; then
            theirs=$(sed -n 's/^[Ff]arol-[Tt]ime: *\([0-9]*\)[0-9][0-9][0-9][^0-9]*$/\1/p' "$work/answer" | head -n 1)
            if [ -n "$theirs" ]; then
                offset=$((theirs - $(date +%s)))
                say "this clock is $offset s behind the coordinator's; correct it"
                post "$file"
            fi
        fi
        case $status in
            200) rm -f "$file" ;;
            # It will not be taken, however often it comes.
            413 | 422)
                say "a reading was refused and is dropped: $detail"
                rm -f "$file"
                refused=1
                ;;
            *)
                say "a reading waits: ${code:-no answer} ($status) $detail"
                return 1
                ;;
        esac
        sent=$((sent + 1))
    done
}

random() { echo $((0x$(openssl rand -hex 3) % $1)); }

# Also ends a wait when the agent is stopped.
nap() {
    sleep "$1" &
    napping=$!
    wait "$napping"
}

prepare() {
    if ! mkdir -p "$spool_dir" || ! chmod 700 "$spool_dir"; then die 2 "cannot make the spool_dir $spool_dir"; fi
    if ! mkdir "$spool_dir/lock" 2>/dev/null; then
        other=$(cat "$spool_dir/lock/pid" 2>/dev/null)
        if [ -n "$other" ] && kill -0 "$other" 2>/dev/null; then
            die 1 "another one, process $other, works on $spool_dir"
        fi
        rm -rf "$spool_dir/lock"
        mkdir "$spool_dir/lock" || die 1 "another one works on $spool_dir"
    fi
    echo $$ >"$spool_dir/lock/pid"
    work=$spool_dir/lock
    trap 'rm -rf "$spool_dir/lock"' EXIT
    trap 'kill "${napping:-}" 2>/dev/null; exit 0' INT TERM HUP
    offset=0 serial=0
}

run() {
    failures=0 not_before=0
    nap "$(random "$interval")"
    while :; do
        began=$(date +%s)
        keep || say "a reading could not be kept; is $spool_dir full?"
        if [ "$began" -ge "$not_before" ]; then
            if drain; then
                failures=0
            else
                # Doubled up to a quarter of an hour, and anywhere below, so
                # that a fleet does not come back at once.
                failures=$((failures < 8 ? failures + 1 : 8))
                bound=$((interval << failures))
                not_before=$(($(date +%s) + $(random $((bound < 900 ? bound : 900)))))
            fi
        fi
        left=$((began + interval - $(date +%s)))
        [ "$left" -le 0 ] || nap "$left"
    done
}

# A request that proves the key and changes nothing: its body is refused.
check() {
    printf '{}' >"$work/probe"
    post "$work/probe"
    case $status:$code in
        422:*) ;;
        000:*) die 1 "no answer from $url: $detail" ;;
        401:clock_skew) die 1 "the key is good, but this clock is wrong: $detail" ;;
        *) die 1 "$url answers ${code:-nothing known} ($status): $detail" ;;
    esac
    set -- "$spool_dir"/*.json
    [ -e "$1" ] || shift
    echo "$url knows this key; $# readings wait in $spool_dir"
}

config=/usr/local/etc/farol-agent.conf mode=run
while [ $# -gt 0 ]; do
    case $1 in
        --config)
            [ $# -gt 1 ] || die 2 "--config needs a file"
            config=$2
            shift
            ;;
        --once) mode=once ;;
        --check) mode=check ;;
        --version)
            echo "agent.sh $VERSION"
            exit 0
            ;;
        *) die 2 "\`$1\` is not understood; use --config FILE, --once, --check or --version" ;;
    esac
    shift
done
load_config "$config"
load_secret
prepare
case $mode in
    run) run ;;
    check) check ;;
    once)
        keep || die 1 "a reading could not be kept; is $spool_dir full?"
        drain && [ "$refused" -eq 0 ] || exit 1
        ;;
esac
