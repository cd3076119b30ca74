# The same bytes for any number of threads, for any ceiling of memory, and again.
sd=$testdata/mini-sd
variants lora.safetensors extract --base "$sd/base.safetensors" \
    --tuned "$sd/tuned.safetensors" --rank 8
variants merged.safetensors merge --base "$sd/base.safetensors" lora.safetensors:0.7
variants small.safetensors resize lora.safetensors --rank 3
run 0 extract --base "$sd/base.safetensors" --tuned "$sd/tuned.safetensors" \
    -o lora.safetensors --rank 8 -f
same lora.safetensors first-lora.safetensors
