# What convert refuses; nothing is left behind.
run 2 convert
err "one input and -o are needed"
run 2 convert "$testdata/mini-llm/base" "$testdata/mini-llm/base" -o x.safetensors
run 2 convert "$testdata/mini-llm/base" -o x.safetensors --format gguf
err "unknown format 'gguf'"
run 2 convert "$testdata/mini-llm/base" -o x.safetensors --dtype int8
run 1 convert missing.ckpt -o x.safetensors
err "missing.ckpt: cannot open: No such file or directory"
mkdir empty
run 3 convert empty -o x.safetensors
err "empty: the folder holds no weights"
make a.safetensors '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}' a
mkdir two
cp a.safetensors two/this.safetensors
cp a.safetensors two/that.safetensors
run 3 convert two -o x.safetensors
err "two/: the folder holds several models ('that.safetensors' and 'this.safetensors'): name the file"
mkdir lost
cp a.safetensors lost/model-00002-of-00003.safetensors
run 3 convert lost -o x.safetensors
err "'model-00001-of-00003.safetensors' is missing"
mv lost/model-00002-of-00003.safetensors lost/model-00001-of-00003.safetensors
run 3 convert lost -o x.safetensors
err "'model-00002-of-00003.safetensors' is missing"
cp a.safetensors lost/model-00001-of-00002.safetensors
run 3 convert lost -o x.safetensors
err "the folder holds several models"
# A type that one of the formats does not have.
make four.safetensors '{"a":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}' a
run 1 convert four.safetensors -o x.pt
err "tensor 'a': torch files cannot hold dtype F4"
# Packed values are not torn apart, neither by a transpose nor where q, k and v part.
four='{"text_projection":{"dtype":"F4","shape":[4,4],"data_offsets":[0,8]},
"token_embedding.weight":{"dtype":"F16","shape":[8,4],"data_offsets":[8,72]},
"transformer.resblocks.0.attn.in_proj_weight":
{"dtype":"F16","shape":[12,4],"data_offsets":[72,168]}'
bytes=$(printf '%0168d' 0)
make clip.safetensors "$four}" "$bytes"
run 3 convert --to diffusers clip.safetensors -o x.safetensors
err "clip.safetensors: tensor 'text_projection': cannot be cut: its F4 values share bytes"
four=$(printf %s "$four" | sed 's/"F4"/"U8"/; s/4,4/2,4/')
make clip.safetensors "$four"',"transformer.resblocks.0.attn.in_proj_bias":
{"dtype":"F4","shape":[12],"data_offsets":[168,174]}}' "${bytes}abcdef"
run 3 convert --to diffusers clip.safetensors -o x.safetensors
err "cannot be cut: its F4 values share bytes"
# A bias without dimensions is no rows of a fused one.
linear='"x_embedder.weight":{"dtype":"U8","shape":[1,1],"data_offsets":[0,1]},
"time_text_embed.timestep_embedder.linear_1.weight":{"dtype":"U8","shape":[1,1],"data_offsets":[1,2]},
"single_transformer_blocks.0.proj_mlp.weight":{"dtype":"U8","shape":[1,1],"data_offsets":[2,3]},
"transformer_blocks.0.attn.add_q_proj.weight":{"dtype":"U8","shape":[1,1],"data_offsets":[3,4]},
"transformer_blocks.0.norm1.linear.weight":{"dtype":"U8","shape":[6,1],"data_offsets":[4,10]}'
biases=
at=10
for part in q k v; do
    biases=$biases',"transformer_blocks.0.attn.to_'$part'.bias":{"dtype":"U8","shape":[],"data_offsets":['$at,$((at + 1))']}'
    at=$((at + 1))
done
make scalar.safetensors "{$linear$biases}" 0123456789abc
run 3 convert scalar.safetensors --to single -o x.safetensors
err "scalar.safetensors: tensor 'transformer_blocks.0.attn.to_"
err "is a scalar: it is no rows of 'double_blocks.0.img_attn.qkv.bias'"
# Nothing that has a place makes no output, whatever is allowed.
make astray.safetensors '{"joint_blocks.0.context_block.attn.qkv.weight":{"dtype":"U8","shape":[3,1],"data_offsets":[0,3]},"x_embedder.proj.weight":{"dtype":"U8","shape":[1,16,1,1],"data_offsets":[3,19]},"diffusion_model.x.weight":{"dtype":"U8","shape":[1],"data_offsets":[19,20]}}' \
    01234567890123456789
for out in astray/ astray.out.safetensors; do
    run 3 convert astray.safetensors --to diffusers --allow-unmatched -o $out
    err "astray.safetensors: 3 tensors have no place in the other layout"
    nothing_left $out
done
# Merging into a pickle that would run code, or out of one.
printf '\200\002}q\000U\001aq\001cos\nsystem\nq\002U\001bq\003\205q\004Rq\005s.' >pickle
if command -v zip >/dev/null; then
    mkdir archive && cp pickle archive/data.pkl && zip -q0r evil.pt archive
    run 0 info evil.pt
    out "os.system (1): DANGEROUS"
    base=$testdata/mini-llm/base/model.safetensors
    lora=$testdata/mini-sd/lora.safetensors
    for command in convert "convert --to diffusers" "convert --to diffusers $lora --base" \
        "convert --for diffusers $lora --base" "merge --base $base" "merge $lora --base" \
        "extract --base $base --tuned" "extract --tuned $base --base" "resize -r 2"; do
        # shellcheck disable=SC2086
        run 5 $command evil.pt -o x.safetensors
        err "evil.pt: "
    done
fi
nothing_left x.safetensors x.pt
