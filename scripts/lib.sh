# What every script here shares: where the project is, how it speaks, how it takes time.
#
# Sourced, never run. Sets strict mode, a umask that lets the server's user read what root
# builds, and the three places: ROOT, the clone; STORE, its .pg, with what was downloaded and
# built; RUN, its .run, with what runs.
# shellcheck shell=bash
set -euo pipefail
umask 022

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
export PGB_ROOT=$ROOT

say() { printf '%s\n' "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}
is_root() { [ "$(id -u)" -eq 0 ]; }

# Whether anybody may go into the folder.
is_open() {
    local folder=$1
    while [ "$folder" != / ]; do
        [ $((0$(stat -c %a "$folder") & 1)) -eq 1 ] || return 1
        folder=$(dirname "$folder")
    done
}

# Servers run as another user than root, who may not see a clone of root's, such as one below
# /root. Then .pg and .run are links to folders that everybody may enter.
move_out() {
    local place
    place=/var/tmp/pg_broker-$(sha256sum <<<"$ROOT" | cut -c 1-12)
    mkdir -m 755 "$place" 2>/dev/null ||
        { [ ! -L "$place" ] && [ "$(stat -c '%u %a' "$place")" = "0 755" ]; } ||
        die "$place is not what it should be: remove it"
    mkdir -p "$place/pg" "$place/run"
    ln -sfn "$place/pg" "$ROOT/.pg"
    ln -sfn "$place/run" "$ROOT/.run"
    say "only root may enter $ROOT, so servers get $place"
}

if is_root && [ ! -d "$ROOT/.pg" ] && [ "$(stat -c %u "$ROOT")" = 0 ] && ! is_open "$ROOT"; then
    move_out
fi
STORE=$(realpath -m "$ROOT/.pg")
RUN=$(realpath -m "$ROOT/.run")
STAMPS=$STORE/stamps

PGRX_VERSION=0.18.1
PG18_VERSION=18.6.3
# Tools that must not replace the user's own live here; they win over the user's path.
export PATH=$STORE/tools/bin:$PATH

# Microseconds since the epoch, whatever the locale's decimal sign.
now() { printf '%s' "${EPOCHREALTIME/[.,]/}"; }

# Seconds since START (from now), with one decimal.
since() {
    local tenths=$((($(now) - $1) / 100000))
    printf '%d.%d s' $((tenths / 10)) $((tenths % 10))
}

# step TEXT COMMAND…: says what happens, does it, says how long it took.
step() {
    local text=$1 began status
    shift
    began=$(now)
    say "==> $text"
    # In a shell of its own, and tested afterwards, so that -e still holds inside a function.
    set +e
    (
        set -e
        "$@"
    )
    status=$?
    set -e
    [ "$status" -eq 0 ] || die "$text: failed after $(since "$began")"
    say "    $text: $(since "$began")"
}

# quietly NAME COMMAND…: output goes to a log, which is shown only when the command fails.
quietly() {
    local log=$STORE/log/$1.log
    shift
    mkdir -p "$STORE/log"
    if ! "$@" >"$log" 2>&1 </dev/null; then
        tail -n 40 "$log" >&2
        say "(the whole log: $log)"
        return 1
    fi
}

# apt_install PACKAGE…: as root.
apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    # The package lists may be absent or older than the archive: then fetch them and try again.
    apt-get install -y --no-install-recommends "$@" || {
        apt-get update && apt-get install -y --no-install-recommends "$@"
    }
}

# One at a time: locked NAME COMMAND… waits for whoever else is in the same step.
locked() {
    local lock=$STORE/lock/$1
    shift
    mkdir -p "$STORE/lock"
    (
        flock 9
        "$@" 9>&-
    ) 9>"$lock"
}

# The version asked for, checked: PG=18 (default) or PG=15.
pg_version() {
    local pg=${1:-${PG:-18}}
    case $pg in
        15 | 18) printf '%s' "$pg" ;;
        *) die "PG=$pg: this project keeps servers of PostgreSQL 18 and 15 (for another one: make install PG_CONFIG=…)" ;;
    esac
}

# Tells pgrx which PostgreSQL to build for: use_pgrx MAJOR PG_CONFIG FOLDER. This is instead of
# `cargo pgrx init`, which creates servers. One folder a server: pgrx refuses a configuration
# that names one which is not there, and starts over when the file changes.
use_pgrx() {
    export PGRX_HOME=$3
    local wanted="[configs]
pg$1 = \"$2\""
    mkdir -p "$PGRX_HOME"
    [ "$(cat "$PGRX_HOME/config.toml" 2>/dev/null)" = "$wanted" ] ||
        printf '%s\n' "$wanted" >"$PGRX_HOME/config.toml"
}

# The same for one of the project's own versions, with the target folder that goes with it.
use_own_pgrx() {
    use_pgrx "$1" "$STORE/$1/bin/pg_config" "$STORE/pgrx-$1"
    export CARGO_TARGET_DIR=$ROOT/target/pg$1
}

# Whether somebody listens on this port of 127.0.0.1.
is_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# A port that nobody has, below the range that the kernel gives to outgoing connections.
free_port() {
    local port try
    for try in {1..100}; do
        port=$((20000 + (RANDOM * try) % 12000))
        is_taken "$port" || break
    done
    printf '%s' "$port"
}

# The ordinary user that servers run as, because PostgreSQL refuses root: you, when you are one.
# For root it is whoever owns .run already, so that it never changes; else the owner of the
# clone, else Debian's `postgres`, else a system user made for this.
server_user() {
    is_root || { id -un && return; }
    local user
    for user in "$(stat -c %U "$RUN" 2>/dev/null)" "$(stat -c %U "$ROOT")" postgres pgbroker; do
        case $user in '' | root | UNKNOWN) continue ;; esac
        if id "$user" >/dev/null 2>&1; then
            printf '%s\n' "$user"
            return
        fi
    done
    say "==> Adding the system user pgbroker, which servers run as (PostgreSQL refuses root)"
    useradd --system --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin pgbroker >&2 ||
        id pgbroker >/dev/null || die "cannot add the user pgbroker"
    echo pgbroker
}

# Makes .run, owned by the server's user.
make_run() {
    if ! is_root; then
        mkdir -p "$RUN" 2>/dev/null && [ -w "$RUN" ] && return
        die "$RUN belongs to $(stat -c %U "$RUN" "$ROOT" 2>/dev/null | head -n 1), not to $(id -un): work as that user, or remove it"
    fi
    [ -d "$RUN" ] && [ "$(stat -c %U "$RUN")" != root ] && return
    local user
    user=$(server_user)
    mkdir -p "$RUN"
    chown "$user": "$RUN"
}
