# Aliases, filters, dialects, reports.
llm=$testdata/mini-llm
sd=$testdata/mini-sd

run 0 extract --base "$llm/base/model.safetensors" --tuned "$llm/tuned/model.safetensors" \
    -o a.safetensors --rank 4 --dtype f16
run 0 extract --model_org "$llm/base/model.safetensors" \
    --model_tuned="$llm/tuned/model.safetensors" --save_to b.safetensors --dim 4 \
    --save_precision fp16
same a.safetensors b.safetensors

run 0 extract --base "$sd/base.safetensors" --tuned "$sd/tuned.safetensors" \
    -o sd.safetensors --rank 4 --conv-rank 2 --alpha 8 --json
check test "$(field stdout .modules_written)" = 290
check test "$(field stdout '[.rank.min, .rank.max] | @csv')" = 2,4
check test "$(field stdout .dialect)" = kohya
check test "$(field stdout .family)" = sd1
check test "$(field stdout '.modules_skipped | length')" = 432
check test "$(field stdout '.error > 0 and .error < 1 and .worst.error >= .error')" = true
check test "$(field stdout '.bytes == (.bytes | floor) and .peak_memory_bytes > 0')" = true
check test "$(field stdout .bytes)" = "$(wc -c <sd.safetensors)"
check test ! -s stderr
run 0 info --json sd.safetensors
check test "$(field stdout '[.modules[] | select(.alpha != 8)] | length')" = 0
check test "$(field stdout '[.modules[] | .rank] | unique | @csv')" = 2,4
check test "$(field stdout '.metadata.ss_network_dim + .metadata.ss_network_alpha')" = 48
check test "$(field stdout .metadata.ss_network_args)" = '{"conv_dim":"2","conv_alpha":"8"}'

run 0 extract --base "$sd/base.safetensors" --tuned "$sd/tuned.safetensors" \
    -o te.safetensors --include '^cond_stage_model' --exclude 'fc[12]$' --exclude fc1.weight \
    --exclude fc2.weight --json
check test "$(field stdout .modules_written)" = 8
run 0 extract --base "$sd/base.safetensors" --tuned "$sd/tuned.safetensors" \
    -o all.safetensors --all-modules --rank 2 --json
check test "$(field stdout .modules_written)" = 294
run 0 extract --base "$sd/base.safetensors" --tuned "$sd/tuned.safetensors" \
    -o diffusers.safetensors --dialect diffusers --rank 2
run 0 info diffusers.safetensors
out "diffusers keys, for Stable Diffusion 1.x"
run 0 extract --base "$sd/base.safetensors" --tuned "$sd/tuned.safetensors" \
    -o peft/ --rank 2 -v
out "the dialect has no name for this part of the model"
check test -f peft/adapter_config.json
check test "$(field peft/adapter_config.json .peft_type)" = LORA
check test "$(field peft/adapter_config.json .r)" = 2

# A large min-diff leaves everything unchanged but what moved further.
run 3 extract --base "$llm/base/model.safetensors" --tuned "$llm/tuned/model.safetensors" \
    -o none.safetensors --min-diff 1000
nothing_left none.safetensors

# The report goes to stderr when the adapter goes to stdout.
run 0 extract --base "$llm/base/model.safetensors" --tuned "$llm/tuned/model.safetensors" \
    -o - --rank 4 --dtype f16
same stdout a.safetensors
err "rank 4"

# Torch files; a PEFT folder does not end up with two adapters.
run 0 extract --base "$testdata/mini-llm/base" --tuned "$testdata/mini-llm/tuned" -r 2 -o e.pt
run 0 info --json e.pt
check test "$(jq -r '.container + " " + .dialect' stdout)" = "torch zip peft"
run 0 extract --base "$testdata/mini-llm/base" --tuned "$testdata/mini-llm/tuned" -r 2 -o two/
run 1 resize two -r 1 -o two/ -f --format torch
err "adapter_model.safetensors: is there already"
run 0 resize two -r 1 -o three/ --format torch
check test "$(ls three | tr '\n' ' ')" = "adapter_config.json adapter_model.bin "
run 0 resize three -r 1 -o three/ --format torch -f
