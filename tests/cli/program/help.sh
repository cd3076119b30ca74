# The program itself: help, version, unknown commands, aliases of options.
run 2
run 0 --version
out "loratool "
run 0 --help
out "extract"
run 2 frobnicate
err "unknown command 'frobnicate'"
run 0 help
check test "$(wc -l <stdout)" -ge 5
for command in extract merge resize info help; do
    run 0 help $command
    out "usage: loratool $command "
    cp stdout first
    run 0 $command --help
    same stdout first
done
run 2 help frobnicate
# A reader that goes away is no disaster.
"$LORATOOL" info -t "$testdata/mini-sd/base.safetensors" | head -n 1 >first
check test -s first
# A full device is a failure that is told.
if [ -w /dev/full ]; then
    "$LORATOOL" info -t "$testdata/mini-sd/base.safetensors" >/dev/full 2>stderr
    check test $? -eq 1
    err "cannot write to standard output"
fi
# Binary data does not go to a terminal.
if command -v script >/dev/null; then
    script -qec "'$LORATOOL' resize '$testdata/mini-sd/lora.safetensors' --rank 2 -o -" \
        /dev/null >typescript </dev/null
    check grep -q "refusing to write binary data to a terminal" typescript
fi
