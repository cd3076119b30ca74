# Helpers for the command-line tests. Each script runs in an empty folder of its own.
testdata=$LORATOOL_SOURCE/testdata
checks=0
failed=0

fail() {
    failed=$((failed + 1))
    echo "FAIL: $*"
    [ -s stdout ] && sed 's/^/    stdout: /' stdout | head -20
    [ -s stderr ] && sed 's/^/    stderr: /' stderr | head -20
    return 0
}

# run CODE ARG...: runs loratool, keeps stdout and stderr in files, checks the exit code.
run() {
    want=$1
    shift
    checks=$((checks + 1))
    "$LORATOOL" "$@" >stdout 2>stderr
    got=$?
    [ "$got" = "$want" ] || fail "exit $got, not $want: loratool $*"
}

# out TEXT / err TEXT: what the last run printed holds that text (a fixed string).
out() {
    checks=$((checks + 1))
    grep -qF -- "$1" stdout || fail "stdout lacks: $1"
}
err() {
    checks=$((checks + 1))
    grep -qF -- "$1" stderr || fail "stderr lacks: $1"
}
# The last run explained itself in one line (merge may list what did not fit below it).
err_first_line() {
    checks=$((checks + 1))
    head -n 1 stderr | grep -qF -- "$1" || fail "the first line of stderr lacks: $1"
}

# nothing_left NAME...: none of these exists, nor any temporary file.
nothing_left() {
    checks=$((checks + 1))
    for name; do
        [ ! -e "$name" ] || fail "$name was left behind"
    done
    parts=$(find . -name '*.lt-part')
    [ -z "$parts" ] || fail "temporary files were left behind: $parts"
}

same() {
    checks=$((checks + 1))
    cmp -s "$1" "$2" || fail "$1 and $2 differ"
}

check() {
    checks=$((checks + 1))
    "$@" || fail "not true: $*"
}

# field FILE EXPRESSION: a value of a JSON file, by jq.
field() {
    jq -r "$2" "$1"
}

# make FILE HEADER DATA: a safetensors file; HEADER is JSON, DATA its bytes as text.
make() {
    n=$(printf %s "$2" | wc -c)
    {
        for shift in 1 256 65536; do
            printf "\\$(printf %03o $((n / shift % 256)))"
        done
        printf '\0\0\0\0\0%s%s' "$2" "$3"
    } >"$1"
}

finish() {
    echo "$checks checks, $failed failed"
    [ "$checks" -gt 0 ] && [ "$failed" -eq 0 ]
    exit $?
}

# variants NAME ARG...: runs the command for several numbers of threads and ceilings of
# memory; all outputs, and first-NAME, are equal. The name of the output is in its metadata,
# so all are written to the same one.
variants() {
    name=$1
    shift
    for j in 1 2 4; do
        for memory in "" 1MB 40MB; do
            rm -f "$name"
            run 0 "$@" -o "$name" -j $j ${memory:+--memory $memory}
            [ -e "first-$name" ] || cp "$name" "first-$name"
            same "$name" "first-$name"
        done
    done
}
