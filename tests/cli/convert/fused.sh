# Parts of fused modules that do not go together.

# shapes FILE NAME ROWS COLUMNS...: matrices of zeros, a byte a value.
shapes() {
    file=$1
    shift
    header=
    at=0
    while [ $# -gt 0 ]; do
        end=$((at + $2 * $3))
        header=$header,$(printf '"%s":{"dtype":"F8_E4M3","shape":[%d,%d],"data_offsets":[%d,%d]}' \
            "$1" "$2" "$3" $at $end)
        at=$end
        shift 3
    done
    make "$file" "{${header#,}}" ""
    truncate -s +$at "$file"
}

# pair NAME OUT IN RANK: the factors of a module, as shapes takes them.
pair() {
    echo "transformer.$1.lora_A.weight $4 $3 transformer.$1.lora_B.weight $2 $4"
}

block=transformer_blocks.0.attn
flux="$block.add_q_proj.weight 8 8 single_transformer_blocks.0.proj_mlp.weight 32 8
x_embedder.weight 8 8 transformer_blocks.0.norm1.linear.weight 48 8
time_text_embed.timestep_embedder.linear_1.weight 8 256"

# q, k and v of different widths are no fused module, whatever the first of them says.
for wide in 64 4096 400000; do
    # shellcheck disable=SC2046,SC2086
    {
        shapes base.safetensors $flux $block.to_q.weight 8 8 $block.to_k.weight 8 $wide \
            $block.to_v.weight 8 8
        shapes lora.safetensors $(pair $block.to_q 8 8 4) $(pair $block.to_k 8 $wide 4)
    }
    for to in "--to kohya" "--to comfyui" "--for forge"; do
        # shellcheck disable=SC2086
        run 3 convert lora.safetensors $to --base base.safetensors -o out.safetensors
        err "lora.safetensors: no module of the adapter fits the base"
        err "first 'transformer.$block.to_"
        err "or they take other inputs"
        run 3 convert lora.safetensors $to --base base.safetensors -o out.safetensors \
            --allow-unmatched
        nothing_left out.safetensors
    done
    # Apart they are modules like others.
    run 0 convert lora.safetensors --to diffusers --base base.safetensors -o apart.safetensors -q
    run 0 merge --base base.safetensors apart.safetensors -o merged.safetensors -q -f
    rm apart.safetensors
done

# kohya's names of a part's module and of another are one: no room of the one for the other.
other=double_blocks.0.img_attn_qkv
# shellcheck disable=SC2046,SC2086
{
    shapes base.safetensors $flux $block.to_q.weight 8 8 $block.to_k.weight 8 8 \
        $block.to_v.weight 8 8 $other.weight 8 4096
    shapes lora.safetensors $(pair $other 8 4096 4) $(pair $block.to_k 8 8 4)
}
run 3 convert lora.safetensors --to kohya --base base.safetensors -o out.safetensors
err "lora.safetensors: module 'lora_unet_double_blocks_0_img_attn_qkv' would be for the base's"
err "whose shapes differ"
nothing_left out.safetensors

# Rows of zeros for parts that the adapter lacks are written, not held: 33 million values.
# shellcheck disable=SC2046,SC2086
{
    shapes base.safetensors $flux $block.to_q.weight 1 1024 $block.to_k.weight 65536 1024 \
        $block.to_v.weight 1 1024
    shapes lora.safetensors $(pair $block.to_q 1 1024 512)
}
run 0 convert lora.safetensors --to kohya --base base.safetensors -o padded.safetensors \
    --dtype f16 --json
check test "$(field stdout .peak_memory_bytes)" -lt 200000000
run 0 info -t padded.safetensors
out "qkv.lora_up.weight	F16	[65538,512]"
rm padded.safetensors base.safetensors
# Where they would be all there is, there is no output.
# shellcheck disable=SC2046,SC2086
{
    shapes base.safetensors $flux $block.to_q.weight 1 1 $block.to_k.weight 4000 1 \
        $block.to_v.weight 1 1
    shapes lora.safetensors $(pair $block.to_q 1 1 65536)
    shapes small.safetensors $(pair $block.to_q 1 1 1)
}
run 5 convert lora.safetensors --to kohya --base base.safetensors -o out.safetensors
err "lora.safetensors: module 'lora_unet_double_blocks_0_img_attn_qkv': rank 65536 for 4002 rows"
nothing_left out.safetensors
run 0 convert small.safetensors --to kohya --base base.safetensors -o out.safetensors

# What an adapter in shards holds twice is told.
mkdir shards
# shellcheck disable=SC2046
shapes shards/one.safetensors $(pair x_embedder 8 8 1)
cp shards/one.safetensors shards/two.safetensors
name=transformer.x_embedder
printf '{"weight_map":{"%s":"%s","%s":"%s"}}' $name.lora_A.weight one.safetensors \
    $name.lora_B.weight two.safetensors >shards/model.safetensors.index.json
run 0 convert shards/model.safetensors.index.json --to kohya --base base.safetensors \
    -o sharded.safetensors --json
check test "$(field stdout '.dropped | length')" = 2
check test "$(field stdout '.dropped[0].name')" = "one.safetensors: $name.lora_B.weight"
