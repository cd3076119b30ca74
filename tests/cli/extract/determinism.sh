# The same bytes for any number of threads, for any ceiling of memory, and again. The
# output's name is in the metadata, so every run writes to the same name.

# variants NAME ARG...: runs the command in all of them; all outputs equal the first one.
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

sd=$testdata/mini-sd
variants lora.safetensors extract --base "$sd/base.safetensors" \
    --tuned "$sd/tuned.safetensors" --rank 8
variants merged.safetensors merge --base "$sd/base.safetensors" lora.safetensors:0.7
variants small.safetensors resize lora.safetensors --rank 3
run 0 extract --base "$sd/base.safetensors" --tuned "$sd/tuned.safetensors" \
    -o lora.safetensors --rank 8 -f
same lora.safetensors first-lora.safetensors

# Layers that several threads share when the ceiling, or their number, leaves some idle.
check "$LORATOOL_SYNTH" clip-l -o base.safetensors
check "$LORATOOL_SYNTH" clip-l -o tuned.safetensors --tune-of base.safetensors
rm -f first-*
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
check [ "$tight" -lt "$free" ]
