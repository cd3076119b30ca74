# What info says of the files we have, as text, lines and JSON.
llm=$testdata/mini-llm
sd=$testdata/mini-sd

run 0 info "$sd/base.safetensors" "$sd/lora.safetensors" "$llm/base/model.safetensors" "$llm/lora"
out "base.safetensors: Stable Diffusion 1.x"
out "U-Net: 686 tensors"
out "lora.safetensors: lora adapter, kohya keys, for Stable Diffusion 1.x"
out "alpha     1 (50), 2 (240)"
out "model.safetensors: LLaMA-like language model"
out "lora: lora adapter, peft keys, for LLaMA-like language model"

run 0 info -t "$sd/lora.safetensors"
check test "$(wc -l <stdout)" = 870
check test "$(awk -F'\t' 'NF != 5' stdout | wc -l)" = 0
check test "$(awk -F'\t' '{ n += $5 } END { print n }' stdout)" = \
    "$("$LORATOOL" info --json "$sd/lora.safetensors" | jq .bytes)"
check test "$(awk -F'\t' '$1 ~ /alpha$/ { print $3 }' stdout | sort -u)" = '[]'
run 0 info -m "$sd/lora.safetensors"
check grep -qx "ss_network_dim	4" stdout

run 0 info --json "$sd/lora.safetensors" "$sd/base.safetensors"
check test "$(jq -s length stdout)" = 2
check test "$(jq -s -r '.[0] | [.role, .family, .kind, .dialect, .tensor_count] | @csv' stdout)" \
    = '"adapter","sd1","lora","kohya",870'
check test "$(jq -s -r '.[1] | [.role, .family, .kind, .dialect, .tensor_count] | @csv' stdout)" \
    = '"base","sd1",,,891'
check test "$(jq -s -r '.[0].modules | length' stdout)" = 290
run 0 info --json --tensors "$sd/lora.safetensors"
check test "$(field stdout '[.tensors[].bytes] | add')" = "$(field stdout .bytes)"
check test "$(field stdout '.tensors | length')" = 870
"$LORATOOL" info --json - <"$sd/lora.safetensors" >piped.json
check test "$(field piped.json .path)" = "standard input"
cat "$sd/lora.safetensors" | "$LORATOOL" info --json - >piped.json
check test "$(field piped.json '.modules | length')" = 290

# Reports and headers are UTF-8 whatever the file is called: a title is made of its name.
odd=$(printf 'b\377d')
run 0 extract --base "$sd/base.safetensors" --tuned "$sd/tuned.safetensors" --rank 1 -q \
    -o "$odd.safetensors"
run 0 info --json "$odd.safetensors"
check test "$(iconv -f UTF-8 -t UTF-8 stdout | jq -r '.path, .metadata["modelspec.title"]')" = \
    "$(printf 'b\357\277\275d.safetensors\nb\357\277\275d')"
rm "$odd.safetensors"
