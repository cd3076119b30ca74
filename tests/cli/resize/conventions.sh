# Scales and descriptions stay true whatever the file keeps them in.
pair='"x.lora_A.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"x.lora_B.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[8,16]}'
unet=$(echo "$pair" | sed 's/"x\./"unet.x./g')

# diffusers' metadata holds rank and alpha: after a resize the factors hold the scale.
make diffusers.safetensors \
    "{\"__metadata__\":{\"lora_adapter_metadata\":\"{\\\"unet.r\\\":2,\\\"unet.lora_alpha\\\":8}\"},$unet}" \
    AAAABBBBCCCCDDDD
run 0 info diffusers.safetensors
out "scale     4 (1)"
for rank in 1 2; do
    run 0 resize diffusers.safetensors -o d$rank.safetensors --rank $rank
    run 0 info d$rank.safetensors
    out "scale     1 (1)"
    run 0 info -m d$rank.safetensors
    check test -z "$(grep lora_adapter_metadata stdout)"
done

# Every component has its own, whatever it is called, and defaults are PEFT's.
component() { # NAME METADATA
    make component.safetensors "{\"__metadata__\":{\"lora_adapter_metadata\":\"{$2}\"},\"$1.x.lora_A.weight\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[0,4]},\"$1.x.lora_B.weight\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[4,8]}}" AAAAAAAA
}
for name in text_encoder text_encoder_2 text_encoder_3 transformer transformer_2 new_one; do
    component $name "\\\"unet.r\\\":2,\\\"$name.r\\\":1,\\\"$name.lora_alpha\\\":4"
    run 0 info component.safetensors
    out "scale     4 (1)"
    run 0 resize component.safetensors -f -o one.safetensors --rank 1
    # 12.08 times the root of 4
    check test "$(tail -c 4 one.safetensors | od -An -tf4 | tr -d ' ')" = 24.156862
    run 0 info -m one.safetensors
    check test -z "$(grep lora_adapter_metadata stdout)"
done
component unet '\"unet.rank_pattern\":{\"x\":1},\"unet.alpha_pattern\":{\"x\":2}'
run 0 info component.safetensors
out "scale     2 (1)"
component unet '\"unet.lora_alpha\":4'
run 3 info component.safetensors
err "gives 'x' rank 8, its factors have 1"
component unet "$(printf '\\"c%d.r\\":1,' 1 2 3 4 5 6 7)\\\"unet.r\\\":1"
run 0 info component.safetensors
component unet "$(printf '\\"c%d.r\\":1,' 1 2 3 4 5 6 7 8)\\\"unet.r\\\":1"
run 5 info component.safetensors
err "component.safetensors: metadata lora_adapter_metadata: describes more than 8 components"
# What a folder's config forbids, this one forbids its modules.
component unet '\"unet.peft_type\":\"LOHA\"'
run 0 info component.safetensors
run 1 resize component.safetensors -o refused.safetensors --rank 1
err "component.safetensors: peft_type LOHA is not supported, only LORA"
component unet '\"unet.r\":1,\"unet.init_lora_weights\":\"pissa_niter_4\"'
run 1 resize component.safetensors -o refused.safetensors --rank 1
err "component.safetensors: it was initialised by 'pissa_niter_4', which changes the base's weights"
nothing_left refused.safetensors
component unet '\"unet.r\":1,\"vae.peft_type\":\"LOHA\"'
run 0 resize component.safetensors -o allowed.safetensors --rank 1

# A PEFT folder's tensor file is no place for factors that its config does not describe.
cp -r "$testdata/mini-llm/lora" folder
run 0 resize folder -o folder/adapter_model.safetensors --rank 4 -f
check test "$(field folder/adapter_config.json .r)" = 4
run 0 info folder
out "scale     2 (21)"
run 1 resize folder -o folder/adapter_model.safetensors --rank 2
err "the output exists"

# A DoRA module whose scale stands in the config cannot go into a single file.
dora="{$(echo "$pair" | sed 's/"x\./"base_model.model.x./g'),\"base_model.model.x.lora_magnitude_vector\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[16,20]}}"
mkdir dora
make dora/adapter_model.safetensors "$dora" AAAABBBBCCCCDDDDEEEE
echo '{"peft_type":"LORA","r":2,"lora_alpha":8,"use_dora":true}' >dora/adapter_config.json
run 0 info dora
out "DoRA"
run 1 resize dora -o single.safetensors --rank 1
err "its scale stands in a config"
nothing_left single.safetensors

# Kinds that the config cannot describe after a resize, and configs that forbid it.
mkdir embedding
make embedding/adapter_model.safetensors "{$(echo "$pair" | sed 's/"x\./"base_model.model.x./g'),\"base_model.model.e.lora_embedding_A\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[16,20]}}" AAAABBBBCCCCDDDDEEEE
echo '{"peft_type":"LORA","r":2,"lora_alpha":2}' >embedding/adapter_config.json
run 1 resize embedding -o resized/ --rank 1
err "a PEFT config does not describe this kind"
nothing_left resized
echo '{"peft_type":"VERA"}' >embedding/adapter_config.json
run 0 info embedding
run 1 resize embedding -o resized/ --rank 1
err "peft_type VERA is not supported"
echo '{"init_lora_weights":"pissa"}' >embedding/adapter_config.json
run 1 merge --base "$testdata/mini-llm/base/model.safetensors" embedding -o out.safetensors
err "changes the base's weights"

# Metadata about ranks is left alone where no module has one.
make loha.safetensors '{"__metadata__":{"ss_network_dim":"8"},"lora_unet_x.hada_w1_a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' AAAA
run 0 resize loha.safetensors -o loha2.safetensors --rank 1
run 0 info -m loha2.safetensors
check grep -qx "ss_network_dim	8" stdout

# A file without alpha tensors gets them when an alpha is asked for.
make plain.safetensors "{$(echo "$pair" | sed 's/"x\.lora_A/"lora_unet_x.lora_down/;s/"x\.lora_B/"lora_unet_x.lora_up/')}" AAAABBBBCCCCDDDD
run 0 resize plain.safetensors -o alpha.safetensors --rank 1 --alpha 4
run 0 info alpha.safetensors
out "alpha     4 (1)"
run 2 resize plain.safetensors -o out.safetensors --rank 1 --alpha 1e30
err "alpha must be between"

# Tucker cores that do not fit their factors, or are out of all proportion.
tucker() {
    make tucker.safetensors "{\"x.lora_down.weight\":{\"dtype\":\"F32\",\"shape\":$1,\"data_offsets\":[0,$2]},\"x.lora_mid.weight\":{\"dtype\":\"F32\",\"shape\":$3,\"data_offsets\":[$2,$4]},\"x.lora_up.weight\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[$4,$5]}}" "$6"
}
tucker '[1,1,1]' 4 '[1,1,2,1]' 12 16 AAAAAAAAAAAAAAAA
run 3 resize tucker.safetensors -o out.safetensors --rank 1
err "do not fit"
tucker '[1,1,1,1]' 4 '[1,1,0,3]' 4 8 AAAAAAAA
run 3 resize tucker.safetensors -o out.safetensors --rank 1
tucker '[1,1,1,1]' 4 '[1,1,2,1]' 12 16 AAAAAAAAAAAAAAAA
run 0 resize tucker.safetensors -o out.safetensors --rank 1 --dtype f16
run 0 info -t out.safetensors
out "x.lora_down.weight	F16	[1,1,2,1]"
