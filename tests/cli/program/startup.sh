# What only reads and copies does not pay for the linear algebra: OpenBLAS stays unloaded.
# The loader itself tells which libraries it opens, early ones and late ones.
loaded() {
    LD_DEBUG=files "$LORATOOL" "$@" 2>&1 >/dev/null | grep -c 'libopenblas.*generating link map'
}
lora=$testdata/mini-sd/lora.safetensors
if [ "$(loaded resize "$lora" --rank 2 -o small.safetensors)" -eq 0 ]; then
    echo "skipped: this loader does not tell what it loads"
    exit 77
fi
check test "$(loaded --version)" -eq 0
check test "$(loaded help resize)" -eq 0
check test "$(loaded info "$lora")" -eq 0
check test "$(loaded convert "$lora" -o same.safetensors)" -eq 0
