# Data types, averaged weights, shards, what must not be overwritten.
llm=$testdata/mini-llm
run 0 convert "$llm/base" -o half.safetensors --dtype f16 --json
check test "$(jq .cast stdout)" = 30
run 0 info half.safetensors
out "F16 30"
run 1 convert "$llm/base" -o half.safetensors
err "the output exists"
run 0 convert "$llm/base" -o half.safetensors -f --save_precision bf16
run 0 info half.safetensors
out "BF16 30"
# An adapter's alpha keeps its type; a number that does not fit is told.
run 0 convert "$testdata/mini-sd/lora.safetensors" -o lora.safetensors --dtype bf16
run 0 info -t lora.safetensors
check test "$(grep -c '\.alpha	F16' stdout)" = 290
make big.safetensors '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}' "$(printf 'aaaaaaaZ')"
run 1 convert big.safetensors -o small.safetensors --dtype f16
err "big.safetensors: tensor 'a': element"
err "F16 cannot hold"
nothing_left small.safetensors

# Averages: CompVis' names without dots, and a dict beside the weights.
make ema.safetensors '{"model.a.b.weight":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"model_ema.abweight":{"dtype":"U8","shape":[2],"data_offsets":[2,4]},"model_ema.decay":{"dtype":"U8","shape":[],"data_offsets":[4,5]},"x":{"dtype":"U8","shape":[1],"data_offsets":[5,6]}}' abABdx
run 0 convert ema.safetensors -o kept.safetensors
run 0 info -t kept.safetensors
check test "$(wc -l <stdout)" = 4
run 0 convert ema.safetensors -o dropped.safetensors --ema drop --json
check test "$(jq .ema_dropped stdout)" = 2
check test "$(tail -c 3 dropped.safetensors)" = abx
run 0 convert ema.safetensors -o used.safetensors --ema use --json
check test "$(jq .ema_used stdout)" = 1
check test "$(tail -c 3 used.safetensors)" = ABx
run 3 convert dropped.safetensors -o no.safetensors --ema use
err "holds no EMA copy"
make orphan.safetensors '{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"ema.a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]},"ema.b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}}' aaAABB
run 3 convert orphan.safetensors -o no.safetensors --ema use
err "tensor 'ema.b': is an EMA copy of no tensor"
# A number beside the averages is told; two averages of one weight, or one of two, are refused.
u8='"dtype":"U8","shape":[2]'
two='"ab.weight":{'$u8',"data_offsets":[0,2]},"model_ema.abweight":{'$u8',"data_offsets":[2,4]}'
gate='"ema.gate":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}'
make gate.safetensors "{$two,$gate}" abABg
run 0 convert gate.safetensors -o gated.safetensors --ema use --json
check test "$(jq -r '.dropped[].name' stdout)" = ema.gate
check test "$(jq .ema_used stdout)" = 1
check test "$(tail -c 2 gated.safetensors)" = AB
run 0 convert gate.safetensors -o gateless.safetensors --ema drop --json
check test "$(jq -c '[.ema_dropped, .dropped]' stdout)" = '[2,[]]'
make second.safetensors "{$two,"'"ema.ab.weight":{'"$u8"',"data_offsets":[4,6]}}' abABCD
run 3 convert second.safetensors -o no.safetensors --ema use
err "second.safetensors: tensor '"
err "is a second EMA copy of 'ab.weight', beside '"
run 0 convert second.safetensors -o first.safetensors --ema drop
make of-two.safetensors "{$two,"'"a.b.weight":{'"$u8"',"data_offsets":[4,6]},
"x":{'"$u8"',"data_offsets":[6,8]},"ema.x":{'"$u8"',"data_offsets":[8,10]}}' abABcdxyXY
run 3 convert of-two.safetensors -o no.safetensors --ema use
err "tensor 'model_ema.abweight': is an EMA copy of no tensor of the model and its shape, or of two"
run 2 convert ema.safetensors -o no.safetensors --ema maybe
err "--ema takes keep, drop or use"
nothing_left no.safetensors

# Shards.
run 0 convert "$llm/base" -o shards/ --max-shard-size 500KB
check test -e shards/model.safetensors.index.json
check test -e shards/config.json
run 0 convert shards -o joined.safetensors
run 0 convert "$llm/base" -o plain.safetensors
for name in joined plain; do
    run 0 info -t $name.safetensors
    cut -f 1-3,5 stdout | sort >$name
done
same joined plain
run 0 convert shards/model.safetensors.index.json -o by-index.safetensors
same by-index.safetensors joined.safetensors
run 1 convert "$llm/base" -o shards/
err "the output folder exists and is not empty"
run 1 convert "$llm/base" -o shards/ -f
err "which the output would not replace"
check test -e shards/model-00001-of-00006.safetensors
run 2 convert "$llm/base" -o one.safetensors --max-shard-size 1MB
err "shards need a folder as output"
for size in 0 -1 5XB GB ''; do
    run 2 convert "$llm/base" -o no/ --max-shard-size "$size"
    err "--max-shard-size takes a size like 5GB or 500MiB"
done
nothing_left no one.safetensors

# An adapter's folder keeps its config; the other format.
run 0 convert "$llm/lora" -o adapter/ --format torch
check test "$(ls adapter | tr '\n' ' ')" = "adapter_config.json adapter_model.bin "
same adapter/adapter_config.json "$llm/lora/adapter_config.json"
run 0 merge --base "$llm/base" adapter -o a.safetensors -q
run 0 merge --base "$llm/base" "$llm/lora" -o b.safetensors -q
same a.safetensors b.safetensors

# The scale of a PEFT adapter stands in its config: one file has no place for it.
for input in "$llm/lora" "$llm/lora/adapter_model.safetensors"; do
    run 3 convert "$input" -o one.safetensors
    err "$input: its adapter_config.json says what the factors are for"
    nothing_left one.safetensors
    run 0 convert "$input" -o one.safetensors --allow-unmatched --json
    check test "$(field stdout '.dropped | map(.name) | @csv')" = '"adapter_config.json"'
    rm one.safetensors
done
run 3 convert "$llm/lora/adapter_model.safetensors" -o beside/ # which copies nothing
err "convert the folder into a folder"
nothing_left beside
# Not beside the config of another adapter, either.
mkdir taken
echo '{"peft_type":"LORA","r":8,"lora_alpha":1}' >taken/adapter_config.json
run 3 convert "$llm/lora" -o taken/adapter_model.safetensors
nothing_left taken/adapter_model.safetensors
# What is not understood is kept back as well, and can be allowed.
cp -r "$llm/lora" odd
for field in '.rank_pattern={"q":[true]}' '.rank_pattern={"(?i)q":4}' '.r=5' '.use_dora=true' '.peft_type="ADALORA"'; do
    jq "$field" "$llm/lora/adapter_config.json" >odd/adapter_config.json
    run 3 convert odd -o one.safetensors
    err "odd: its adapter_config.json says what the factors are for"
    run 0 convert odd -o one.safetensors --allow-unmatched
    rm one.safetensors
done
jq '.lora_alpha=8|.modules_to_save=["lm_head"]' "$llm/lora/adapter_config.json" >odd/adapter_config.json
run 0 convert odd -o one.safetensors # there is no such tensor in it
rm one.safetensors
mkdir peft8
cp "$llm/lora/adapter_model.safetensors" peft8/
echo '{"peft_type":"LORA","r":8,"lora_alpha":8}' >peft8/adapter_config.json
run 0 convert peft8 -o one.safetensors
out "adapter_config.json: PEFT's config: the output has no place for it"
run 0 convert peft8/adapter_model.safetensors -o peft8/adapter_model.bin
echo '{"peft_type":"LORA","r":8,"lora_alpha":8,"use_rslora":true}' >peft8/adapter_config.json
rm peft8/adapter_model.bin
run 3 convert peft8 -o two.safetensors
nothing_left two.safetensors
run 0 convert peft8 -o kept/
check test -s kept/adapter_config.json

# Numbers that scale others keep their type; fp8 weights that a scale belongs to are none.
make scales.safetensors '{"m.lora_down.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"m.lora_up.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]},"m.scale":{"dtype":"F32","shape":[],"data_offsets":[8,12]}}' aaaAaaaAaaaA
run 0 convert scales.safetensors -o scales.out.safetensors --dtype bf16
run 0 info -t scales.out.safetensors
out 'm.scale	F32'
fp8='"m.weight":{"dtype":"F8_E4M3","shape":[2,2],"data_offsets":[0,4]},"n.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[8,12]}'
make fp8.safetensors "{$fp8,\"m.scale_weight\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[4,8]}}" 8888aaaAaaaA
run 1 convert fp8.safetensors -o fp8.out.safetensors --dtype f16
err "fp8.safetensors: tensor 'm.weight': is scaled fp8 (see 'm.scale_weight')"
make for-n.safetensors '{"n.lora_A.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"n.lora_B.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}}' aaaAaaaA
run 1 merge --base fp8.safetensors for-n.safetensors -o fp8.out.safetensors --dtype f16
err "fp8.safetensors: tensor 'm.weight': is scaled fp8"
make fp8-tuned.safetensors "{$fp8,\"m.scale_weight\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[4,8]}}" 9988aaaAaaaA
run 1 extract --base fp8.safetensors --tuned fp8-tuned.safetensors -o fp8.out.safetensors
err "fp8.safetensors: tensor 'm.weight': is scaled fp8"
nothing_left fp8.out.safetensors
run 0 merge --base fp8.safetensors for-n.safetensors -o fp8.out.safetensors
make fp8-both.safetensors "{$fp8,\"m.scale_weight\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[4,8]}}" 9988aaaAaaaB
run 1 extract --base fp8.safetensors --tuned fp8-both.safetensors -o without.safetensors --dtype f32
run 0 extract --base fp8.safetensors --tuned fp8-both.safetensors --exclude '^m\.' -o without.safetensors --dtype f32
make experts.safetensors '{"m.gate_up_proj":{"dtype":"F8_E4M3","shape":[2,2],"data_offsets":[0,4]},"m.gate_up_proj_scale_inv":{"dtype":"F32","shape":[],"data_offsets":[4,8]}}' 8888aaaA
run 1 convert experts.safetensors -o fp8.f16.safetensors --dtype f16
err "tensor 'm.gate_up_proj': is scaled fp8 (see 'm.gate_up_proj_scale_inv')"
nothing_left fp8.f16.safetensors
run 0 extract --base fp8.safetensors --tuned fp8.out.safetensors -o n.out.safetensors --dtype f32
