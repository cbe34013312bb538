# What run-regress and run-isolation share: a server, a database for each test, a verdict.
#
# Sourced with KIND (regress or isolation) and the names of tests wanted, if any. A test is one
# input file; its output must equal expected/NAME_PG.out, where there is one for this version,
# else expected/NAME.out, or for races with several right outcomes any expected/NAME_1.out,
# NAME_2.out … UPDATE=1 writes what came out as what is expected. UNHINTED=1 has readers do
# without what shared memory says: everything must come out the same. SETTINGS="NAME=VALUE …" goes
# to the server besides.
#
# Both versions' servers are tested with the programs of PostgreSQL 18, so that only the
# server's own differences show.
# shellcheck shell=bash
. "$(dirname -- "${BASH_SOURCE[0]}")/../scripts/lib.sh"

pg=$(pg_version)
here=$ROOT/pg_test/$KIND
results=$RUN/results/$KIND-$pg
server_name=$KIND-$pg
hints=on
[ "${UNHINTED-}" != 1 ] || hints=off
read -ra settings <<<"${SETTINGS-}"
bin=$("$ROOT/scripts/pgbin" 18)
export LC_ALL=C.UTF-8 PGCLIENTENCODING=UTF8 PGAPPNAME=$KIND
unset PGDATABASE PGOPTIONS PGSERVICE PGUSER PGHOST PGPORT

start_server() {
    make_run
    mkdir -p "$results" "$STORE/lock"
    # One run at a time; the server must not inherit the lock.
    exec 8>"$STORE/lock/$server_name-tests"
    flock 8
    "$ROOT/scripts/server" "$server_name" "$pg" remove
    trap '"$ROOT/scripts/server" "$server_name" "$pg" remove' EXIT
    # What comes out must not depend on when a worker comes by.
    "$ROOT/scripts/server" "$server_name" "$pg" start pg_broker.worker=off fsync=off synchronous_commit=off \
        full_page_writes=off max_wal_size=4GB pg_broker.hints="$hints" "${settings[@]}" 8>&-
    port=$("$ROOT/scripts/server" "$server_name" "$pg" port)
    sql postgres -c 'CREATE DATABASE pristine'
    sql pristine -c 'CREATE EXTENSION pg_broker'
}

url() { printf 'postgresql://postgres@127.0.0.1:%s/%s' "$port" "$1"; }

sql() { # sql DATABASE ARGUMENT…
    local database=$1
    shift
    "$bin/psql" -X -q -A -t -v ON_ERROR_STOP=1 "$@" "$(url "$database")" </dev/null
}

# Nothing that a test leaves behind reaches the next one: neither its database nor its roles.
clean_up_after() {
    sql postgres -c "DROP DATABASE IF EXISTS \"$1\" WITH (FORCE)" &&
        sql postgres -c "SELECT format('DROP ROLE %I', rolname) FROM pg_roles
            WHERE rolname <> 'postgres' AND rolname !~ '^pg_'" | "$bin/psql" -X -q "$(url postgres)"
}

# accept NAME: does the result equal one of the expected files? Else say how it differs.
accept() {
    local name=$1 result=$results/$1.out wanted=$here/expected/$1.out other
    [ ! -e "$here/expected/${name}_$pg.out" ] || wanted=$here/expected/${name}_$pg.out
    for other in "$wanted" "$here/expected/$name"_[1-9].out; do
        [ -e "$other" ] && cmp -s "$other" "$result" && return
    done
    if [ "${UPDATE-}" = 1 ]; then
        update "$name"
        return
    fi
    if [ -e "$wanted" ]; then
        diff -u "$wanted" "$result" >"$results/$name.diff" || true
        head -n 60 "$results/$name.diff"
    else
        echo "no expected output: ${wanted#"$ROOT"/}"
        head -n 60 "$result"
    fi
    return 1
}

# The common file is PostgreSQL 18's; another version gets one of its own only where it differs.
update() {
    local common=$here/expected/$1.out
    mkdir -p "$here/expected"
    if [ "$pg" = 18 ] || [ ! -e "$common" ]; then
        cp "$results/$1.out" "$common"
    else
        cp "$results/$1.out" "$here/expected/${1}_$pg.out"
    fi
    echo "wrote the expected output of $1"
}

# run_all FOLDER ENDING PROGRAM… -- [NAME…]: PROGRAM reads the test's file and is given its URL.
run_all() {
    local folder=$1 ending=$2 program=() passed=0 failed=0 file name began status
    shift 2
    while [ "$1" != -- ]; do
        program+=("$1")
        shift
    done
    shift
    [ $# -gt 0 ] || for file in "$here/$folder"/*"$ending"; do
        [ ! -e "$file" ] || set -- "$@" "$(basename "$file" "$ending")"
    done
    [ $# -gt 0 ] || die "there are no tests in ${here#"$ROOT"/}/$folder"
    start_server
    cd "$here/$folder"
    for name; do
        began=$(now)
        status=0
        rm -f "$results/$name".*
        sql postgres -c "CREATE DATABASE \"$name\" TEMPLATE pristine"
        timeout "${TEST_TIMEOUT:-120}" "${program[@]}" "$(url "$name")" \
            <"$name$ending" >"$results/$name.out" 2>&1 || status=$?
        if [ "$status" -eq 124 ]; then
            echo "FAIL $name: still running after ${TEST_TIMEOUT:-120} s; the end of its output:"
            tail -n 20 "$results/$name.out"
            failed=$((failed + 1))
        elif accept "$name"; then
            echo "ok   $name ($(since "$began"))"
            passed=$((passed + 1))
        else
            echo "FAIL $name ($(since "$began"), output: .run/${results#"$RUN"/}/$name.out)"
            failed=$((failed + 1))
        fi
        clean_up_after "$name" || { echo "FAIL $name: leaves something behind" && failed=$((failed + 1)); }
    done
    if grep -aqE 'terminated by signal|PANIC:|TRAP:' <("$ROOT/scripts/as-server" cat "$RUN/$server_name/log"); then
        "$ROOT/scripts/as-server" cat "$RUN/$server_name/log" >"$results/server.log"
        echo "FAIL a server process crashed: .run/${results#"$RUN"/}/server.log"
        failed=$((failed + 1))
    fi
    echo "SUITE $KIND pg$pg: $passed passed, $failed failed, 0 skipped"
    [ "$failed" -eq 0 ]
}
