# Commands load what they need: libraries for algebra, archives and digests are dear.
# The loader itself tells which ones it opens, early ones and late ones.
loaded() {
    LD_DEBUG=files "$LORATOOL" "$@" 2>&1 >/dev/null |
        grep -cE "lib($libraries).*generating link map"
}
libraries=openblas
lora=$testdata/mini-sd/lora.safetensors
if [ "$(loaded resize "$lora" --rank 2 -o small.safetensors)" -eq 0 ]; then
    echo "skipped: this loader does not tell what it loads"
    exit 77
fi
libraries='openblas|zip|crypto'
check test "$(loaded --version)" -eq 0
check test "$(loaded help resize)" -eq 0
check test "$(loaded info "$lora")" -eq 0
libraries='openblas|zip'
check test "$(loaded convert "$lora" -o same.safetensors)" -eq 0
check test "$(loaded convert "$lora" -o same.pt)" -eq 1
