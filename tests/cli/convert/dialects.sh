# An adapter in another dialect is the same adapter: it merges to the same model.
sd=$testdata/mini-sd
llm=$testdata/mini-llm
mini="d=32 h=8 n=2 s=2 i=8 c=8 p=8 g=1"

# merged BASE ADAPTER OUT
merged() { check "$LORATOOL" merge --base "$1" "$2" -o "$3" -q -f; }

# Stable Diffusion: every module has a name in both; the scale goes into the factors.
run 0 convert "$sd/lora.safetensors" --to diffusers --base "$sd/base.safetensors" \
    -o d.safetensors --json
check test "$(field stdout .from)" = kohya
check test "$(field stdout .to)" = diffusers
check test "$(field stdout .modules_written)" = "$(field stdout .modules_read)"
check test "$(field stdout '.unmatched | length')" = 0
run 0 info --json d.safetensors
check test "$(field stdout .dialect)" = diffusers
run 0 convert d.safetensors --to kohya --base "$sd/base.safetensors" -o k.safetensors -q
run 0 info --json k.safetensors
check test "$(field stdout .dialect)" = kohya
run 0 convert k.safetensors --to diffusers --base "$sd/base.safetensors" -o d2.safetensors -q
for i in d d2; do
    run 0 info --json $i.safetensors
    tail -c "$(field stdout .bytes)" $i.safetensors >$i.data
    run 0 info -t $i.safetensors
    cut -f 1-3 stdout >$i.list
done
same d.list d2.list
same d.data d2.data

# ComfyUI's names are the published ones.
run 0 convert "$sd/lora.safetensors" --to comfyui --base "$sd/base.safetensors" \
    -o c.safetensors --json
check test "$(field stdout .modules_written)" = "$(field stdout .modules_read)"
check test "$(field stdout .modules_folded)" = 0
run 0 info -t c.safetensors
out "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.lora_down.weight"
out "text_encoders.clip_l.transformer.text_model.encoder.layers.0.mlp.fc1.alpha"
merged "$sd/base.safetensors" "$sd/lora.safetensors" kohya.out
merged "$sd/base.safetensors" c.safetensors comfyui.out
same kohya.out comfyui.out

# A language model: a PEFT folder keeps its alphas, a file has the scale in its factors.
run 0 convert "$llm/lora" --to peft --base "$llm/base/model.safetensors" -o folder/ -q
run 0 convert folder --to peft --base "$llm/base/model.safetensors" -o again/ -q
same folder/adapter_model.safetensors again/adapter_model.safetensors
merged "$llm/base/model.safetensors" "$llm/lora" a.safetensors
merged "$llm/base/model.safetensors" folder b.safetensors
same a.safetensors b.safetensors

# Fused to apart and back: the ranks stay, and so do the values.
check "$LORATOOL_SYNTH" "flux:$mini" -o native.safetensors
check "$LORATOOL_SYNTH" "flux-diffusers:$mini" -o public.safetensors
check "$LORATOOL_SYNTH" "flux:$mini" --adapter --rank 4 --for native.safetensors -o fused.safetensors
for base in native public; do
    run 0 convert fused.safetensors --to diffusers --base $base.safetensors \
        -o split-$base.safetensors --json
    check test "$(field stdout .modules_read)" = 26
    check test "$(field stdout .modules_written)" = 40
    run 0 convert split-$base.safetensors --to kohya --base $base.safetensors \
        -o fused-$base.safetensors --json
    check test "$(field stdout .modules_written)" = 26
    check test "$(field stdout .modules_folded)" = 0
    run 0 info --json fused-$base.safetensors
    check test "$(field stdout '[.modules[].rank] | unique | @csv')" = 4
    for model in native public; do
        merged $model.safetensors split-$base.safetensors split-$base-$model.out
        merged $model.safetensors fused-$base.safetensors fused-$base-$model.out
        same split-$base-$model.out fused-$base-$model.out
    done
done
same split-native.safetensors split-public.safetensors
same fused-native.safetensors fused-public.safetensors

# Parts with down factors of their own: one module of all their ranks, in blocks.
check "$LORATOOL_SYNTH" "flux-diffusers:$mini" --adapter --rank 2 --for public.safetensors \
    -o apart.safetensors
run 0 convert apart.safetensors --to kohya --base public.safetensors -o joined.safetensors -q
run 0 info --json joined.safetensors
check test "$(field stdout '[.modules[].rank] | unique | @csv')" = 2,6,8
for model in native public; do
    merged $model.safetensors apart.safetensors apart.out
    merged $model.safetensors joined.safetensors joined.out
    same apart.out joined.out
done

# What a program needs decides the dialect.
for program in a1111=kohya invoke=kohya sd-scripts=kohya comfyui=comfyui diffusers=diffusers; do
    run 0 convert "$sd/lora.safetensors" --for ${program%=*} --base "$sd/base.safetensors" \
        -o for.safetensors -f --json
    check test "$(field stdout .to)" = ${program#*=}
done
run 0 convert "$llm/lora" --for peft --base "$llm/base/model.safetensors" -o for-peft/ -q
same for-peft/adapter_model.safetensors folder/adapter_model.safetensors
run 2 convert "$llm/lora" --for peft --base "$llm/base/model.safetensors" -o x.safetensors
err "PEFT loads adapters from folders"
run 3 convert fused.safetensors --for a1111 --base native.safetensors -o x.safetensors
err "loads no adapters of FLUX.1"
# InvokeAI knows a file of FLUX.1 by its blocks; img_in and the like are not in them.
check "$LORATOOL_SYNTH" "flux:$mini" --tune-of native.safetensors -o tuned.safetensors
run 0 extract --base native.safetensors --tuned tuned.safetensors --all-modules -r 2 \
    -o all.safetensors -q
run 3 convert all.safetensors --for invoke --base native.safetensors -o x.safetensors
err "a file with this module is not known there"
run 0 convert all.safetensors --for invoke --base native.safetensors --allow-unmatched \
    -o blocks.safetensors -q
run 0 info -t blocks.safetensors
grep -v -c "_blocks_" stdout >others || :
check test "$(cat others)" = 0
run 2 convert fused.safetensors --for nobody --base native.safetensors -o x.safetensors
err "unknown program 'nobody'"
run 2 convert fused.safetensors --for forge --to kohya --base native.safetensors -o x.safetensors
err "exclude each other"
# stable-diffusion.cpp takes a rank of 1 for another: zeros make it 2, the change stays.
run 0 resize "$sd/lora.safetensors" --rank 1 -o one.safetensors -q
run 0 convert one.safetensors --for sd.cpp --base "$sd/base.safetensors" -o two.safetensors -q
run 0 info --json two.safetensors
check test "$(field stdout '[.modules[].rank] | unique | @csv')" = 2
merged "$sd/base.safetensors" one.safetensors one.out
merged "$sd/base.safetensors" two.safetensors two.out
same one.out two.out

# What cannot be is said, and nothing is written.
run 2 convert fused.safetensors --to klingon --base native.safetensors -o x.safetensors
err "unknown dialect 'klingon'"
run 2 convert fused.safetensors --base native.safetensors -o x.safetensors
err "go with --to"
run 2 convert native.safetensors --for forge -o x.safetensors
err "--for is for adapters"
run 2 convert fused.safetensors --to kohya --base native.safetensors --family flux -o x.safetensors
err "--family does not go with --to"
run 2 convert fused.safetensors --family flux -o x.safetensors
err "go with --to"
run 2 convert fused.safetensors --to kohya --base native.safetensors --ema drop -o x.safetensors
err "--ema does not go with --to"
run 3 convert fused.safetensors --to diffusers --base "$sd/base.safetensors" -o x.safetensors
err "it is for FLUX.1, the base is Stable Diffusion 1.x"
nothing_left x.safetensors
run 1 convert fused.safetensors --to diffusers --base native.safetensors -o split-native.safetensors
err "exists"

run 3 convert fused.safetensors --to diffusers --base fused.safetensors -o x.safetensors
err "fused.safetensors: is an adapter, not a base model"
# An adapter half of which has no place.
check "$LORATOOL_SYNTH" "flux:d=32 h=8 n=1 s=2 i=8 c=8 p=8 g=1" -o small.safetensors
run 3 convert fused.safetensors --to diffusers --base small.safetensors -o x.safetensors
err "have no place in the output"
nothing_left x.safetensors
run 0 convert fused.safetensors --to diffusers --base small.safetensors -o half.safetensors \
    --allow-unmatched --json
check test "$(field stdout '.unmatched | length')" = 10

# A model in its other layout: the same tensors, and the same again.
run 0 convert native.safetensors --to diffusers -o relaid.safetensors --json
check test "$(field stdout .family)" = flux
check test "$(field stdout '.unmatched + .dropped | length')" = 0
run 0 info -t relaid.safetensors
cut -f 1-3 stdout >relaid.list
run 0 info -t public.safetensors
cut -f 1-3 stdout >public.list
same relaid.list public.list
size=$(($(od -An -tu8 -N8 native.safetensors)))
make noted.safetensors "$(tail -c +9 native.safetensors | head -c $size |
    jq -c '.__metadata__.note = "mine"')" ''
tail -c +$((size + 9)) native.safetensors >>noted.safetensors
run 0 convert noted.safetensors --to diffusers -o noted-relaid.safetensors --json
check test "$(field stdout '.dropped | map(.name) | join(",")')" = "noted.safetensors: __metadata__"
run 0 convert relaid.safetensors --to single -o again.safetensors -q
run 0 convert native.safetensors -o plain.safetensors -q
for i in plain again; do
    run 0 info --json $i.safetensors
    tail -c "$(field stdout .bytes)" $i.safetensors >$i.data
done
same plain.data again.data
run 3 convert native.safetensors --to single -o x.safetensors
err "is in that layout already"
run 3 convert "$llm/base" --to diffusers -o x.safetensors
err "other layout is not known"
# Without a base an adapter of a published model is known; this one is too small.
run 3 convert fused.safetensors --to diffusers -o x.safetensors
err "give --base"
run 2 convert native.safetensors --to kohya -o x.safetensors
err "a model is written as diffusers or single, not 'kohya'"
run 2 convert native.safetensors --to diffusers --dtype f16 -o x.safetensors
err "--dtype does not go with --to"
nothing_left x.safetensors
