# An adapter of another family: what was recognised on each side, in at most ten lines.
"$LORATOOL_SYNTH" sdxl -o sdxl-lora.safetensors --adapter --rank 1 || fail "no adapter"
"$LORATOOL_SYNTH" sd21 -o sd2-lora.safetensors --adapter --rank 1 || fail "no adapter"
run 3 merge --base "$testdata/mini-sd/base.safetensors" sdxl-lora.safetensors -o out.safetensors
err "the adapter is for Stable Diffusion XL, the base is Stable Diffusion 1.x"
check test "$(wc -l <stderr)" -le 10
run 3 merge --base "$testdata/mini-sd/base.safetensors" sd2-lora.safetensors -o out.safetensors
err "the adapter is for Stable Diffusion 2.x, the base is Stable Diffusion 1.x"
run 3 merge --base "$testdata/mini-llm/base/model.safetensors" sdxl-lora.safetensors \
    -o out.safetensors
err "the adapter is for Stable Diffusion XL, the base is LLaMA-like language model"
nothing_left out.safetensors
run 0 info sdxl-lora.safetensors sd2-lora.safetensors
out "kohya keys, for Stable Diffusion XL"
out "kohya keys, for Stable Diffusion 2.x"
