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

# The refiner is a family of its own, and so are a text encoder and a VAE.
"$LORATOOL_SYNTH" refiner-unet -o refiner-lora.safetensors --adapter --rank 1 || fail "no adapter"
run 0 info refiner-lora.safetensors
out "for Stable Diffusion XL refiner"
"$LORATOOL_SYNTH" clip-l -o clip.safetensors --dtype f16 || fail "no model"
"$LORATOOL_SYNTH" vae-z4 -o vae.safetensors --dtype f16 || fail "no model"
run 0 info clip.safetensors vae.safetensors
out "clip.safetensors: CLIP text encoder"
out "vae.safetensors: VAE"
"$LORATOOL_SYNTH" clip-l -o clip-lora.safetensors --adapter --rank 1 --for clip.safetensors ||
    fail "no adapter"
run 0 map clip-lora.safetensors --base clip.safetensors
run 3 extract --base vae.safetensors --tuned vae.safetensors -o out.safetensors
rm -f clip.safetensors vae.safetensors
run 0 info sdxl-lora.safetensors sd2-lora.safetensors
out "kohya keys, for Stable Diffusion XL"
out "kohya keys, for Stable Diffusion 2.x"
