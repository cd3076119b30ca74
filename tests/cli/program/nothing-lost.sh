# A run that is cut short leaves the old output and no temporary file.
sd=$testdata/mini-sd
echo old >out.safetensors
for signal in INT TERM HUP; do
    "$LORATOOL" extract --base "$sd/base.safetensors" --tuned "$sd/tuned.safetensors" \
        -o out.safetensors -f --rank 64 -j 1 >/dev/null 2>&1 &
    pid=$!
    sleep 0.05
    kill -s $signal $pid 2>/dev/null
    wait $pid 2>/dev/null
    checks=$((checks + 1))
    parts=$(find . -name '*.lt-part')
    [ -z "$parts" ] || fail "$signal left $parts"
    case $(head -c 3 out.safetensors) in
    old) ;;
    *) run 0 info out.safetensors ;; # it was faster: then the file is whole
    esac
    echo old >out.safetensors
done
# The file size limit of the shell stands for a full disk.
(
    ulimit -f 100
    "$LORATOOL" extract --base "$sd/base.safetensors" --tuned "$sd/tuned.safetensors" \
        -o out.safetensors -f --rank 16 >/dev/null 2>stderr
)
check test $? -eq 1
err "cannot write: File too large"
check grep -qx old out.safetensors
nothing_left
# A folder that cannot be written to.
if [ "$(id -u)" != 0 ]; then
    mkdir closed
    chmod 555 closed
    run 1 resize "$sd/lora.safetensors" -o closed/out.safetensors --rank 2
    err "cannot create the output"
fi
