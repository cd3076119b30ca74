# Every failure of resize: its exit code, its reason, and no output.
lora=$testdata/mini-sd/lora.safetensors

run 2 resize
err "an adapter, --rank and -o are needed"
run 2 resize "$lora" "$lora" -o out.safetensors --rank 2
err "one adapter at a time"
run 2 resize "$lora" -o out.safetensors --rank 0
run 2 resize "$lora" -o folder/ --rank 2
err "only the peft dialect writes"
run 2 resize "$testdata/mini-llm/lora" -o out.safetensors --rank 2 --alpha 4
err "holds no alpha"
run 1 resize missing.safetensors -o out.safetensors --rank 2
run 3 resize "$testdata/mini-sd/base.safetensors" -o out.safetensors --rank 2
err "holds no adapter"
run 4 resize "$lora" -o out.safetensors --rank 1 --max-error 0.01
err "is above the 0.01 asked for"
head -c 200 "$lora" >short.safetensors
run 5 resize short.safetensors -o out.safetensors --rank 2
nothing_left out.safetensors folder
cp "$lora" out.safetensors
run 1 resize "$lora" -o out.safetensors --rank 2
err "the output exists"
same out.safetensors "$lora"

# Numbers that float32 does not hold are told as what they are: alphas (F64 here), scales of
# a config, factors.
factors='"lora_unet_x.lora_down.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"lora_unet_x.lora_up.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[16,32]}'
alpha() { # BYTES (as octal for printf)
    make alpha.safetensors "{$factors,\"lora_unet_x.alpha\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[32,40]}}" \
        AAAABBBBCCCCDDDDDDDDAAAAEEEEFFFF
    printf "$1" >>alpha.safetensors
}
beyond="is beyond what F32 holds"
alpha '\234\165\000\210\074\344\067\176'
run 1 resize alpha.safetensors -o far.safetensors --rank 1
err "alpha.safetensors: module 'lora_unet_x': its scale (alpha / rank) of 5e+299 $beyond"
run 1 resize alpha.safetensors -o far.safetensors --rank 1 --alpha 4
err "5e+299 $beyond"
alpha '\234\165\000\210\074\344\067\376'
run 1 resize alpha.safetensors -o far.safetensors --rank 1
err "its scale (alpha / rank) of -5e+299 $beyond"
alpha '\046\246\254\252\004\266\171\063'
run 1 resize alpha.safetensors -o far.safetensors --rank 1
err "its scale (alpha / rank) of 5e-61 $beyond"
alpha '\035\112\234\364\207\202\367\107' # 5e38; half of it fits
run 1 resize alpha.safetensors -o far.safetensors --rank 2
err "alpha.safetensors: module 'lora_unet_x': its alpha of 5e+38 $beyond"
run 0 resize alpha.safetensors -o near.safetensors --rank 1
mkdir far
make far/adapter_model.safetensors '{"base_model.model.x.lora_A.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"base_model.model.x.lora_B.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]}}' \
    AAAABBBBCCCCDDDD
echo '{"peft_type":"LORA","r":2,"lora_alpha":1e300}' >far/adapter_config.json
run 1 resize far -o far.safetensors --rank 1
err "far: module 'base_model.model.x': its scale (alpha / rank) of 5e+299 $beyond"
run 1 resize far -o further/ --rank 1
err "$beyond"
# 'yyyy' is 8e34 as F32.
make large.safetensors "{$factors}" yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy
run 1 resize large.safetensors -o far.safetensors --rank 1 --dtype f16
err "large.safetensors: module 'lora_unet_x': a factor's value"
# A side that BLAS cannot count, in a file of holes.
make wide.safetensors '{"lora_unet_x.lora_down.weight":{"dtype":"F8_E4M3","shape":[1,2147483648],"data_offsets":[0,2147483648]},"lora_unet_x.lora_up.weight":{"dtype":"F8_E4M3","shape":[1,1],"data_offsets":[2147483648,2147483649]}}' ''
truncate -s +2147483649 wide.safetensors
run 3 resize wide.safetensors -o far.safetensors --rank 1
err "wide.safetensors: module 'lora_unet_x': a side is over the ceiling"
rm wide.safetensors
nothing_left far.safetensors further
