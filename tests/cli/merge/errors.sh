# Every failure of merge: its exit code, its reason, and no output.
llm=$testdata/mini-llm
sd=$testdata/mini-sd
base=$llm/base/model.safetensors

# A config that says DoRA for a file without magnitudes.
mkdir dora
cp "$llm/lora/adapter_model.safetensors" dora/
jq '.use_dora = true' "$llm/lora/adapter_config.json" >dora/adapter_config.json
run 3 merge --base "$base" dora -o out.safetensors
err "dora: the config says DoRA, but module 'base_model.model.model.layers.0."
err "has no magnitudes"
nothing_left out.safetensors

run 2 merge
run 2 merge --base "$base" -o out.safetensors
err "no adapter is given"
run 2 merge --base "$base" "$llm/lora" -o out.safetensors --dtype int4
run 2 merge --base "$base" "$llm/lora:inf" -o out.safetensors
err "not finite"
run 1 merge --base "$base" missing.safetensors -o out.safetensors
err "missing.safetensors: cannot open"
run 3 merge --base "$base" "$base" -o out.safetensors
err "holds no adapter"
run 3 merge --base "$sd/lora.safetensors" "$llm/lora" -o out.safetensors
err "is an adapter, not a base model"
run 3 merge --base "$sd/base.safetensors" "$llm/lora" -o out.safetensors
err "the adapter is for LLaMA-like language model, the base is Stable Diffusion 1.x"
check test "$(wc -l <stderr)" -le 10
run 3 merge --base "$base" "$sd/lora.safetensors" -o out.safetensors --allow-unmatched
err "no module of the adapter fits the base"
mkdir folder
run 3 merge --base "$base" folder -o out.safetensors
err "is a folder without adapter_config.json"
head -c 5000 "$sd/lora.safetensors" >short.safetensors
run 5 merge --base "$sd/base.safetensors" short.safetensors -o out.safetensors
err "short.safetensors: "
cp -r "$llm/lora" bad
sed 's/"r": 8/"r": 9/' "$llm/lora/adapter_config.json" >bad/adapter_config.json
run 3 merge --base "$base" bad -o out.safetensors
err "rank 9, its factors have 8"
sed 's/"peft_type": "LORA"/"peft_type": "VERA"/' "$llm/lora/adapter_config.json" \
    >bad/adapter_config.json
run 1 merge --base "$base" bad -o out.safetensors
err "peft_type VERA is not supported"
echo '{' >bad/adapter_config.json
run 5 merge --base "$base" bad -o out.safetensors
err "bad/adapter_config.json: invalid JSON"
nothing_left out.safetensors

# An adapter that fits in part: an error with names, unless allowed.
run 0 extract --base "$sd/base.safetensors" --tuned "$sd/tuned.safetensors" \
    -o sd.safetensors --rank 2 --include to_q
sed 's/lora_unet_mid_block/lora_unet_odd_block/g' sd.safetensors >odd.safetensors
run 3 merge --base "$sd/base.safetensors" odd.safetensors -o out.safetensors
err "lora_unet_odd_block_attentions_0_transformer_blocks_0_attn1_to_q"
err "2 of the adapter's modules or tensors do not fit the base"
nothing_left out.safetensors
run 0 merge --base "$sd/base.safetensors" odd.safetensors -o out.safetensors \
    --allow-unmatched --json
check test "$(field stdout '.unmatched | length')" = 2
check test "$(field stdout .modules_applied)" = 30

rm out.safetensors
# A shape that does not fit, a factor pair that does not, NaN, and a result that overflows.
make one.safetensors '{"a.weight":{"dtype":"F16","shape":[1,1],"data_offsets":[0,2]}}' \
    "$(printf '\377{')"
make wide.safetensors '{"a.lora_A.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]},"a.lora_B.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[8,12]}}' AAAAAAAAAAAA
run 3 merge --base one.safetensors wide.safetensors -o out.safetensors
err "its product is 1 x 2, but 'a.weight' is [1, 1]"
make odd.safetensors '{"a.lora_A.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"a.lora_B.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[8,12]}}' AAAAAAAAAAAA
run 3 merge --base one.safetensors odd.safetensors -o out.safetensors
err "odd.safetensors: module 'a': the factors' ranks differ: up is [1, 1], down is [2, 1]"
make big.safetensors '{"a.lora_A.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"a.lora_B.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}}' AAAAAAAA
run 1 merge --base one.safetensors big.safetensors -o out.safetensors
err "one.safetensors: tensor 'a.weight': element 0 would be 65649.9, which F16 cannot hold"
run 0 merge --base one.safetensors big.safetensors:-1 -o fits.safetensors
make nan.safetensors '{"a.lora_A.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"a.lora_B.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}}' \
    "AAAA$(printf '\377\377\377\177')"
run 1 merge --base one.safetensors nan.safetensors -o out.safetensors
err "nan.safetensors: tensor 'a.lora_B.weight': holds NaN or infinity"
nothing_left out.safetensors

# Never over an existing file without -f; the base itself may be replaced with it.
echo precious >out.safetensors
run 1 merge --base "$base" "$llm/lora" -o out.safetensors
err "the output exists"
check grep -qx precious out.safetensors
cp "$base" own.safetensors
run 0 merge --base own.safetensors "$llm/lora" -o own.safetensors -f
run 0 merge --base "$base" "$llm/lora" -o other.safetensors
same own.safetensors other.safetensors
