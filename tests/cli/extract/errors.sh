# Every failure of extract: its exit code, its reason, and no output.
base=$testdata/mini-llm/base/model.safetensors
tuned=$testdata/mini-llm/tuned/model.safetensors

run 2 extract
err "--base, --tuned and -o are needed"
run 2 extract --base "$base" --tuned "$tuned" -o out.safetensors --rank 0
err "--rank takes a whole number from 1 to 65536, not '0'"
run 2 extract --base "$base" --tuned "$tuned" -o out.safetensors --rank x
run 2 extract --base "$base" --tuned "$tuned" -o out.safetensors --ranks 4
err "unknown option '--ranks'"
run 2 extract --base "$base" --tuned "$tuned" -o out.safetensors -Z
err "unknown option '-Z'"
run 2 extract --base "$base" --tuned "$tuned" -o out.safetensors --rank
err "needs a value"
run 2 extract --base "$base" --tuned "$tuned" -o out.safetensors --dtype int8
err "unknown dtype 'int8'"
run 2 extract --base "$base" --tuned "$tuned" -o out.safetensors --dialect klingon
err "unknown dialect 'klingon'"
run 2 extract --base "$base" --tuned "$tuned" -o out.safetensors --include '('
err "bad regular expression '('"
run 2 extract --base "$base" --tuned "$tuned" -o out.safetensors --alpha -3
run 2 extract --base "$base" --tuned "$tuned" -o out.safetensors --alpha 3
err "holds no alpha"
run 2 extract --base "$base" --tuned "$tuned" -o out.safetensors stray
err "unexpected operand 'stray'"
run 2 extract --base "$base" --tuned "$tuned" -o folder/ --dialect kohya
err "only the peft dialect writes"
run 2 extract --base "$base" --tuned "$tuned" -o out.safetensors --split sideways
nothing_left out.safetensors folder

run 1 extract --base missing.safetensors --tuned "$tuned" -o out.safetensors
err "missing.safetensors: cannot open: No such file or directory"
run 1 extract --base "$base" --tuned "$tuned" -o nowhere/out.safetensors
err "cannot create the output"
run 3 extract --base "$base" --tuned "$base" -o out.safetensors
err "equal: there is nothing to extract"
run 3 extract --base "$base" --tuned "$testdata/mini-sd/tuned.safetensors" -o out.safetensors
err "the base is LLaMA-like language model, the tuned model is Stable Diffusion 1.x"
run 3 extract --base "$base" --tuned "$tuned" -o out.safetensors --include nothing-like-this
err "no module differs"
run 3 extract --base "$testdata/mini-sd/lora.safetensors" --tuned "$tuned" -o out.safetensors
err "is an adapter; extract takes two models"
run 4 extract --base "$base" --tuned "$tuned" -o out.safetensors --rank 2 --max-error 0.1
err "is above the 0.1 asked for"
head -c 100000 "$tuned" >short.safetensors
run 5 extract --base "$base" --tuned short.safetensors -o out.safetensors
err "short.safetensors: tensor 'lm_head.weight': "
err "truncated"
printf 'no model at all' >text.safetensors
run 5 extract --base text.safetensors --tuned "$tuned" -o out.safetensors
err "text.safetensors: "
nothing_left out.safetensors

# An output that is there stays as it is without -f.
echo precious >out.safetensors
run 1 extract --base "$base" --tuned "$tuned" -o out.safetensors
err "out.safetensors: the output exists; use -f to overwrite it"
check grep -q precious out.safetensors
run 0 extract --base "$base" --tuned "$tuned" -o out.safetensors -f
check test "$(head -c 8 out.safetensors | od -An -tu1 | wc -w)" -eq 8
mkdir there
echo '{}' >there/adapter_config.json
run 1 extract --base "$base" --tuned "$tuned" -o there/
err "there/adapter_config.json: the output exists"
check test ! -e there/adapter_model.safetensors

# A change that the factors' type cannot hold: the file that makes it, and the way out.
one='{"model.layers.0.self_attn.q_proj.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}'
make small.safetensors "$one" AAAA
make huge.safetensors "$one" "$(printf '\377\377\177\177')" # FLT_MAX
run 1 extract --base small.safetensors --tuned huge.safetensors --dtype f16 -o big.safetensors
err "huge.safetensors: module 'model.layers.0.self_attn.q_proj': a factor's value"
err "overflows F16: choose a wider --dtype"
nothing_left big.safetensors
run 0 extract --base small.safetensors --tuned huge.safetensors --dtype f32 -o big.safetensors
run 1 convert big.safetensors --base small.safetensors --to kohya --dtype f16 -o k.safetensors
err "big.safetensors: module 'lora_unet_model_layers_0_self_attn_q_proj': a factor's value"
nothing_left k.safetensors
