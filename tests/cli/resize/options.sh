# Pipes, aliases, PEFT folders, modules that need nothing.
lora=$testdata/mini-sd/lora.safetensors

run 0 resize "$lora" -o a.safetensors --rank 2 --json
check test "$(field stdout .modules_written)" = 290
check test "$(field stdout '.retained > 0.5 and .retained < 1')" = true
check test "$(field stdout .bytes)" = "$(wc -c <a.safetensors)"
run 0 resize --model "$lora" --save_to b.safetensors --new_rank 2
tail -c 100000 a.safetensors >a.tail
tail -c 100000 b.safetensors >b.tail
same a.tail b.tail

"$LORATOOL" resize - --rank 2 -o - <"$lora" 2>narration |
    "$LORATOOL" resize - --rank 1 -o - 2>>narration | "$LORATOOL" info --json - >piped.json
check test "$(field piped.json '[.modules[].rank] | unique | @csv')" = 1
check test "$(field piped.json '[.modules[].scale] | unique | @csv')" = 0.25,0.5
check test "$(field piped.json .metadata.ss_network_dim)" = 1
check test "$(field piped.json .metadata.ss_output_name)" = mini-sd-lora

# Rank above: everything is carried over byte for byte.
run 0 resize "$lora" -o same.safetensors --rank 64 --json
check test "$(field stdout .modules_written)" = 0
check test "$(field stdout .modules_unchanged)" = 290
bytes=$("$LORATOOL" info --json "$lora" | jq .bytes)
run 0 info -t same.safetensors
cut -f 1-3 stdout | sort >after
run 0 info -t "$lora"
cut -f 1-3 stdout | sort | cmp -s - after || fail "the tensors differ"

run 0 resize "$testdata/mini-llm/lora" -o peft/ --rank 4 --conv-rank 2
check test "$(field peft/adapter_config.json .r)" = 4
check test "$(field peft/adapter_config.json .lora_alpha)" = 8
check test "$(field peft/adapter_config.json .base_model_name_or_path)" = mini-llm/base
check test "$(field peft/adapter_config.json '.target_modules | length')" = 21
run 0 info peft
out "scale     2 (21)"
run 0 resize "$testdata/mini-llm/lora" -o folded.safetensors --rank 4
run 0 info folded.safetensors
out "scale     1 (21)"

# Kinds that are not computed with, and tensors of no module, are carried over whole.
make loha.safetensors '{"lora_unet_x.hada_w1_a":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"lora_unet_x.hada_w1_b":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]},"lora_unet_x.hada_w2_a":{"dtype":"F32","shape":[1,1],"data_offsets":[8,12]},"lora_unet_x.hada_w2_b":{"dtype":"F32","shape":[1,1],"data_offsets":[12,16]},"lora_unet_x.alpha":{"dtype":"F32","shape":[],"data_offsets":[16,20]},"stray":{"dtype":"U8","shape":[2],"data_offsets":[20,22]}}' 1234567890123456AAA@zz
run 0 resize loha.safetensors -o carried.safetensors --rank 1 --json
check test "$(field stdout '[.modules_written, .modules_unchanged] | @csv')" = 0,0
check test "$(field stdout '.modules_skipped | length')" = 2
run 0 info --json --tensors carried.safetensors
check test "$(field stdout '[.tensors[].name] | sort | join(" ")')" = \
    "lora_unet_x.alpha lora_unet_x.hada_w1_a lora_unet_x.hada_w1_b lora_unet_x.hada_w2_a lora_unet_x.hada_w2_b stray"
check grep -q 'AAA@.*1234.*5678.*9012.*3456.*zz' carried.safetensors
run 1 merge --base "$testdata/mini-sd/base.safetensors" loha.safetensors -o out.safetensors
err "modules of the kind 'LyCORIS LoHa' cannot be merged"

# So is what stands beside a pair of factors, whether those change or not.
beside='{"lora_unet_x.lora_down.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"lora_unet_x.lora_up.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[16,32]},"lora_unet_x.alpha":{"dtype":"F32","shape":[],"data_offsets":[32,36]},"lora_unet_x.diff_b":{"dtype":"F32","shape":[2],"data_offsets":[36,44]},"lora_unet_x.reshape_weight":{"dtype":"U8","shape":[2],"data_offsets":[44,46]}'
make beside.safetensors "$beside}" AAAABBBBCCCCDDDDDDDDCCCCBBBBAAAAAAAAdiffbiasRW
for rank in 1 2; do
    run 0 resize beside.safetensors -o beside$rank.safetensors --rank $rank --json
    check test "$(field stdout '[.modules_skipped[].name] | join(" ")')" = \
        "lora_unet_x.diff_b lora_unet_x.reshape_weight"
    check test "$(field stdout '.modules_skipped[0].reason')" = \
        "stands beside a pair of factors: carried over as it is"
    run 0 info -t beside$rank.safetensors
    out "lora_unet_x.reshape_weight	U8	[2]"
    check grep -aq diffbias beside$rank.safetensors
    check test "$(tail -c 2 beside$rank.safetensors)" = RW
    check test "$("$LORATOOL" info --json beside$rank.safetensors | jq '.modules[].scale')" = \
        "$("$LORATOOL" info --json beside.safetensors | jq '.modules[].scale')"
done

# The alpha scales tensors of other kinds as well: it stays for their sake.
alpha() { "$LORATOOL" info --json "$1" | jq '.modules[].alpha'; }
make shared.safetensors "$(echo "$beside" | sed 's/diff_b/hada_w1_a/')}" \
    AAAABBBBCCCCDDDDDDDDCCCCBBBBAAAAAAAAdiffbiasRW
run 0 resize shared.safetensors -o shared1.safetensors --rank 1 --alpha 4
check test "$(alpha shared1.safetensors)" = "$(alpha shared.safetensors)"
check grep -aq diffbias shared1.safetensors
run 0 resize beside.safetensors -o other.safetensors --rank 1 --alpha 4
check test "$(alpha other.safetensors)" = 4
# One that cannot stay (negative here) leaves the module as it is.
printf 'AAAABBBBCCCCDDDDDDDDCCCCBBBBAAAA\000\000\200\277diffbiasRW' >data
make whole.safetensors "$(echo "$beside" | sed 's/diff_b/hada_w1_a/')}" "" && cat data >>whole.safetensors
run 0 resize whole.safetensors -o whole1.safetensors --rank 1 --json
check test "$(field stdout '[.modules_written, .modules_skipped[].reason] | @csv')" = \
    '0,"LoRA: carried over as it is"'
check test "$("$LORATOOL" info --json whole1.safetensors | jq '.modules[].rank')" = 2
check grep -aq diffbias whole1.safetensors

# A rank far above the sides asks for little memory, for the layer is small.
make deep.safetensors '{"lora_unet_x.lora_down.weight":{"dtype":"F8_E4M3","shape":[8192,1],"data_offsets":[0,8192]},"lora_unet_x.lora_up.weight":{"dtype":"F8_E4M3","shape":[1,8192],"data_offsets":[8192,16384]}}' \
    "$(printf '%016384d' 0)"
for memory in "" 100MB; do
    run 0 resize deep.safetensors -f -o shallow.safetensors --rank 1 -j 1 --dtype f32 --json \
        ${memory:+--memory $memory}
    check test "$(field stdout '.peak_memory_bytes < 100e6 and .error < 1e-6')" = true
    # '0' is 0.5: the product is 8192 / 4, and its root 45.25 on both sides.
    check test "$(tail -c 4 shallow.safetensors | od -An -tf4 | tr -d ' ')" = 45.254833
done

# ss_network_args that are no object, not JSON, or far too long stay as they are; none are
# an empty object. (They are read as strictly as everything else.)
pair='"lora_unet_x.lora_down.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"lora_unet_x.lora_up.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]}'
long=$(printf '%0100000d' 0 | sed 's/0/0,/g')
arguments() { # VALUE (as in JSON) EXPECTED
    make arguments.safetensors "{\"__metadata__\":{\"ss_network_args\":\"$1\"},$pair}" \
        AAAABBBBCCCCDDDD
    run 0 resize arguments.safetensors -f -o resized.safetensors --rank 1
    run 0 info --json resized.safetensors
    check test "$(field stdout .metadata.ss_network_args)" = "$2"
}
arguments null '{}'
arguments None '{}'
arguments '{\"a\":\"b\"}' '{"a":"b"}'
arguments '[1,2]' '[1,2]'
arguments '{\"a\":1' '{"a":1'
arguments "[${long}0]" "[${long}0]"
