# Weights, plans, dtypes, untouched bytes.
llm=$testdata/mini-llm
sd=$testdata/mini-sd
base=$llm/base/model.safetensors

run 0 merge --base "$base" "$llm/lora" --dry-run
out "base_model.model.model.layers.0.mlp.down_proj -> model.layers.0.mlp.down_proj.weight"
out "plan: 21 modules applied to 21 tensors"
run 0 merge --base "$base" "$llm/lora:-0.5" -n --json
check test "$(field stdout '[.plan[].factor] | unique | @csv')" = -1
check test "$(field stdout '.plan | length')" = 21
nothing_left out.safetensors

# Weight zero gives the base again, byte for byte.
run 0 merge --base "$base" "$llm/lora:0" -o zero.safetensors
run 0 info -t "$base"
cut -f 1-3,5 stdout >listing
run 0 info -t zero.safetensors
cut -f 1-3,5 stdout | cmp -s - listing || fail "the tensors differ"
bytes=$(field_bytes=$("$LORATOOL" info --json "$base" | jq .bytes) && echo "$field_bytes")
tail -c "$bytes" "$base" >base.data
tail -c "$bytes" zero.safetensors >zero.data
same base.data zero.data

# Merge, then un-merge: the base within float32 rounding, so again after f16.
run 0 merge --base "$base" "$llm/lora" -o plus.safetensors
run 0 merge --base plus.safetensors "$llm/lora:-1" -o back.safetensors
run 0 merge --base "$base" "$llm/lora" -o half.safetensors --save_precision fp16 --json
check test "$(field stdout .tensors_cast)" = 9
check test "$(field stdout .tensors_passed_through)" = 0
run 0 info --json half.safetensors
check test "$(field stdout '.dtypes | keys | @csv')" = '"F16"'

# Two adapters, and the same one twice.
run 0 merge --base "$base" "$llm/lora:0.5" "$llm/lora:0.5" -o twice.safetensors --json
check test "$(field stdout .modules_applied)" = 42
tail -c "$bytes" twice.safetensors >twice.data
tail -c "$bytes" plus.safetensors >plus.data
same twice.data plus.data

# A file whose name ends like a weight.
cp "$sd/lora.safetensors" lora:2
run 0 merge --base "$sd/base.safetensors" lora:2 -n --json
check test "$(field stdout '[.plan[].factor] | unique | @csv')" = 0.25,0.5
run 0 merge --base "$sd/base.safetensors" lora:2:3 -n --json
check test "$(field stdout '[.plan[].factor] | unique | @csv')" = 0.75,1.5

# The same bytes for any number of threads, in float32 and in double.
for precision in fp16 float; do
    for j in 1 2 5; do
        run 0 merge --base "$sd/base.safetensors" "$sd/lora.safetensors" \
            --save_precision $precision -j $j -o "$precision-$j.safetensors"
    done
    same "$precision-1.safetensors" "$precision-2.safetensors"
    same "$precision-1.safetensors" "$precision-5.safetensors"
done

# PEFT's factors without their config: the scale is a guess, and said to be one.
cp "$llm/lora/adapter_model.safetensors" alone.safetensors
run 0 merge --base "$base" alone.safetensors -o alone.out
out "alone.safetensors: scale 1: PEFT keeps alpha"
run 0 merge --base "$base" alone.safetensors -n --json
check test "$(field stdout '.assumed | map(.name) | @csv')" = '"alone.safetensors"'
run 0 merge --base "$base" alone.safetensors --alpha 16 -o told.safetensors -f
check [ -z "$(grep assumed stdout)" ]
tail -c "$bytes" told.safetensors >told.data
same told.data plus.data
run 0 merge --base "$base" "$llm/lora" -n --json
check test "$(field stdout '.assumed | length')" = 0
run 0 map --base "$base" alone.safetensors
out "assumed alone.safetensors: scale 1"
run 0 convert alone.safetensors --base "$base" --to kohya -o kohya.safetensors --json
check test "$(field stdout '.assumed | length')" = 1
run 0 info alone.safetensors
out "PEFT keeps it in adapter_config.json"
run 0 info alone.safetensors --json
check test "$(field stdout .lacks_config)" = true
run 0 info "$llm/lora" --json
check test "$(field stdout .lacks_config)" = false
# Where the scale went into the factors, the file says so, and keeps saying it.
run 0 resize "$llm/lora" --rank 4 -o one.safetensors
run 0 convert one.safetensors --base "$base" --to peft -o two.safetensors
for one in one two; do
    run 0 info --metadata $one.safetensors
    out "lora_alpha	rank"
    run 0 merge --base "$base" $one.safetensors -n --json
    check test "$(field stdout '.assumed | length')" = 0
done
run 0 convert one.safetensors --base "$base" --to kohya -o kohya2.safetensors
run 0 info --metadata kohya2.safetensors
check [ -z "$(grep 'lora_alpha	' stdout)" ]
# A guess stays one.
run 0 resize alone.safetensors --rank 4 -o guess.safetensors
run 0 merge --base "$base" guess.safetensors -n --json
check test "$(field stdout '.assumed | length')" = 1
