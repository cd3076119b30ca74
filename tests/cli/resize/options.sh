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
