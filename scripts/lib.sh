# What every script here shares: where the project is, how it speaks, how it takes time.
#
# Sourced, never run. Sets ROOT (the project's folder), strict mode, and a umask that lets
# the server's user read what root builds.
# shellcheck shell=bash
set -euo pipefail
umask 022

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
export PGB_ROOT=$ROOT
RUN=$ROOT/.run
STAMPS=$ROOT/.pg/stamps

PGRX_VERSION=0.18.1
PG18_VERSION=18.6.3
export PGRX_HOME=$ROOT/.pg/pgrx
# Tools that must not replace the user's own live here; they win over the user's path.
export PATH=$ROOT/.pg/tools/bin:$PATH

say() { printf '%s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}

# Microseconds since the epoch, whatever the locale's decimal sign.
now() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }

# Seconds since START (from now), with one decimal.
since() {
    local tenths=$((($(now) - $1) / 100000))
    printf '%d.%d s' $((tenths / 10)) $((tenths % 10))
}

# step TEXT COMMAND…: says what happens, does it, says how long it took.
step() {
    local text=$1 began status=0
    shift
    began=$(now)
    say "==> $text"
    "$@" || status=$?
    [ "$status" -eq 0 ] || die "$text: failed after $(since "$began")"
    say "    $text: $(since "$began")"
}

# quietly NAME COMMAND…: output goes to a log, which is shown only when the command fails.
quietly() {
    local log=$ROOT/.pg/log/$1.log
    shift
    mkdir -p "$ROOT/.pg/log"
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 40 "$log" >&2
        say "(the whole log: $log)"
        return 1
    fi
}

# One at a time: locked NAME COMMAND… waits for whoever else is in the same step.
locked() {
    local lock=$ROOT/.pg/lock/$1
    shift
    mkdir -p "$ROOT/.pg/lock"
    (
        flock 9
        "$@" 9>&-
    ) 9>"$lock"
}

is_root() { [ "$(id -u)" -eq 0 ]; }

# The version asked for, checked: PG=18 (default) or PG=15.
pg_version() {
    local pg=${1:-${PG:-18}}
    case $pg in
        15 | 18) printf '%s' "$pg" ;;
        *) die "PG=$pg: this project keeps servers of PostgreSQL 18 and 15 (for another one: make install PG_CONFIG=…)" ;;
    esac
}
