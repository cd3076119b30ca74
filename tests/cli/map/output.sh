# One line a module; what fits nothing, on either side, comes last.
llm=$testdata/mini-llm
sd=$testdata/mini-sd
base=$llm/base/model.safetensors

run 0 map "$llm/lora" --base "$base"
out "base_model.model.model.layers.0.mlp.down_proj -> model.layers.0.mlp.down_proj.weight[0:"
check test "$(grep -c ' -> ' stdout)" = 21
check test "$(grep -c '^unmatched' stdout)" = 0
run 0 map "$llm/lora" --base "$base" --json
check test "$(field stdout '.modules')" = 21
check test "$(field stdout '.family')" = llama
check test "$(field stdout '.map | length')" = 21
run 0 map "$llm/lora" --base "$base" -q
check test ! -s stdout

# Modules that the adapter leaves alone are listed with the name they would have.
run 0 extract --base "$sd/base.safetensors" --tuned "$sd/tuned.safetensors" -r 2 \
    --include attn1_to_q -o part.safetensors -q
run 0 map part.safetensors --base "$sd/base.safetensors"
check test "$(tail -n 1 stdout | cut -d ' ' -f 1)" = untouched
run 0 map part.safetensors --base "$sd/base.safetensors" --json
check test "$(field stdout '.map | length')" = "$(field stdout .modules)"
check test "$(field stdout '[.untouched[].reason | select(endswith("attn1_to_q"))] | length')" = 0
check test "$(field stdout '[.untouched[].reason | select(endswith("attn1_to_k"))] | length')" -gt 0

# Half of an adapter fits: exit 3, and all of it is told.
jq -n '{}' >/dev/null
run 3 map "$sd/lora.safetensors" --base "$base"
err "Stable Diffusion 1.x"
run 2 map "$sd/lora.safetensors"
err "--base is needed"
run 2 map --base "$base"
err "one adapter is needed"

# A fused weight: parts of it, all of it, and halves in the other order.
mini="d=32 h=8 n=1 s=1 i=8 c=8 p=8 g=0"
check "$LORATOOL_SYNTH" "flux:$mini" -o native.safetensors
check "$LORATOOL_SYNTH" "flux-diffusers:$mini" -o public.safetensors
check "$LORATOOL_SYNTH" "flux:$mini" --adapter --rank 2 --for native.safetensors -o fused.safetensors
check "$LORATOOL_SYNTH" "flux-diffusers:$mini" --adapter --rank 2 --for public.safetensors \
    -o split.safetensors
run 0 map fused.safetensors --base native.safetensors
out "lora_unet_single_blocks_0_linear1 -> single_blocks.0.linear1.weight[0:224] 224x32 rank 2"
run 0 map fused.safetensors --base public.safetensors
out "lora_unet_single_blocks_0_linear1[32:64] -> single_transformer_blocks.0.attn.to_k.weight[0:32]"
out "lora_unet_single_blocks_0_linear1[96:224] -> single_transformer_blocks.0.proj_mlp.weight[0:128]"
run 0 map split.safetensors --base native.safetensors
out "transformer.single_transformer_blocks.0.proj_mlp -> single_blocks.0.linear1.weight[96:224]"
out "transformer.norm_out.linear[0:32] -> final_layer.adaLN_modulation.1.weight[32:64]"
out "transformer.norm_out.linear[32:64] -> final_layer.adaLN_modulation.1.weight[0:32]"

# The wrong family is named on both sides, in ten lines at most.
run 3 map fused.safetensors --base "$sd/base.safetensors"
err "the adapter is for FLUX.1, the base is Stable Diffusion 1.x"
check test "$(wc -l <stderr)" -le 10
run 3 merge --base "$sd/base.safetensors" fused.safetensors -o wrong.safetensors
err "the adapter is for FLUX.1, the base is Stable Diffusion 1.x"
check test "$(wc -l <stderr)" -le 10
nothing_left wrong.safetensors

# The rows of a fused weight that are left alone are listed though others change.
check "$LORATOOL_SYNTH" "flux-diffusers:$mini" --tune-of public.safetensors -o tuned.safetensors
run 0 extract --base public.safetensors --tuned tuned.safetensors -r 2 --include 'attn.to_q$' \
    -o q.safetensors -q
run 0 map q.safetensors --base native.safetensors
out "untouched double_blocks.0.img_attn.qkv.weight"
check test "$(grep -c '^untouched single_blocks.0.linear1' stdout)" = 3

# What one dialect names as one and the file keeps apart is told, not left out in silence.
run 0 extract --base public.safetensors --tuned tuned.safetensors -r 2 --dialect kohya -v \
    -o kohya.safetensors
out "keeps apart"
