# Layers that several threads share when the ceiling of memory, or the number of layers,
# leaves some without one of their own: the same bytes as by one thread.
check "$LORATOOL_SYNTH" clip-l -o base.safetensors
check "$LORATOOL_SYNTH" clip-l -o tuned.safetensors --tune-of base.safetensors
variants big.safetensors extract --base base.safetensors --tuned tuned.safetensors \
    --include 'layers\.0\.(mlp|self_attn\.[qk])' --rank 16
variants one.safetensors extract --base base.safetensors --tuned tuned.safetensors \
    --include 'layers\.1\.mlp\.fc1' --rank 24
variants model.safetensors merge --base base.safetensors big.safetensors
variants less.safetensors resize big.safetensors --rank 5

# A ceiling holds: what runs side by side without it does not with it.
peak() {
    rm -f one.safetensors
    run 0 extract --base base.safetensors --tuned tuned.safetensors --json -j 4 "$@" \
        --include 'layers\.[0-3]\.mlp' --rank 16 -o one.safetensors
    field stdout .peak_memory_bytes
}
free=$(peak --memory 1GB)
tight=$(peak --memory 1MB)
echo "peak $free bytes, with a ceiling $tight"
# AddressSanitizer keeps what is freed: its peak says nothing.
grep -q __asan_init "$LORATOOL" || check [ "$tight" -lt "$free" ]
