# --hash: SHA-256 of files and of their data, short forms, and what metadata claims.
sha() { sha256sum | cut -c 1-64; }
# hash_of EXPRESSION: a value of the first file's hashes in the last JSON report.
hash_of() { field stdout ".hashes[0].$1"; }
is() {
    checks=$((checks + 1))
    [ "$1" = "$2" ] || fail "'$1' is not '$2'"
}
empty=e3b0c442

# A file whose hashes are known: 272 bytes of header, 20 of data.
header='{"__metadata__":{"ss_network_dim":"1"},'
header=$header'"lora_unet_x.alpha":{"dtype":"F32","shape":[],"data_offsets":[0,4]},'
header=$header'"lora_unet_x.lora_down.weight":{"dtype":"F32","shape":[1,2],"data_offsets":[4,12]},'
header=$header'"lora_unet_x.lora_up.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[12,20]}}'
make known "$header" ''
printf '\0\0\200\077\0\0\200\077\0\0\0\100\0\0\100\100\0\0\200\100' >>known
run 0 info --json --hash known
is "$(hash_of sha256)" 1d8b1438925393e5bf9bbcdeb5520ada0476ec2ee1023bd2e8bf481898410b18
is "$(hash_of data_sha256)" 5ea9a7f9da1da3b0af9899d1dbb02e0905a5ee5656e99a38e06844380b4ce6df
is "$(hash_of legacy)/$(hash_of autov1)" $empty/$empty
is "$(hash_of autov2)/$(hash_of autov3)" 1d8b143892/5ea9a7f9da1d
is "$(hash_of 'claims | length')" 0
is "$(hash_of file)" known
run 0 info --hash known
out "  sha256    1d8b1438925393e5bf9bbcdeb5520ada0476ec2ee1023bd2e8bf481898410b18"
out "  data      5ea9a7f9da1da3b0af9899d1dbb02e0905a5ee5656e99a38e06844380b4ce6df"
out "  short     AutoV1 $empty, AutoV2 1d8b143892, AutoV3 5ea9a7f9da1d, legacy $empty"
cat known | "$LORATOOL" info --hash --json - >stdout
is "$(hash_of autov2)/$(hash_of file)" "1d8b143892/standard input"

# Large enough for the slices, and sizes around a multiple of the chunk of 256 KiB: the
# same as the system's own program says.
for bytes in 1048575 1048576 1114112 1310720 9437185; do
    make large '{"x":{"dtype":"U8","shape":['$bytes'],"data_offsets":[0,'$bytes']}}      ' ''
    "$LORATOOL" help help | head -c 1000 >noise
    while [ "$(wc -c <noise)" -lt $bytes ]; do cat noise noise noise noise >n && mv n noise; done
    start=$(wc -c <large)
    head -c $bytes noise >>large
    run 0 info --json --hash large
    is "$(hash_of sha256)" "$(sha <large)"
    is "$(hash_of data_sha256)" "$(tail -c +$((start + 1)) large | sha)"
    is "$(hash_of autov1)" "$(tail -c +1048577 large | head -c 65536 | sha | cut -c 1-8)"
done

# What metadata claims.
run 0 info --hash "$testdata/mini-sd/lora.safetensors"
out "  claims    sshs_model_hash: right"
out "            sshs_legacy_hash: right"
data=$(printf abcd | sha)
claim() {
    make claim '{"__metadata__":{'"$1"'},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}' abcd
    run 0 info --json --hash claim
}
claim '"sshs_model_hash":"'"$data"'","sshs_legacy_hash":"'$empty'","modelspec.hash_sha256":"0x'"$data"'"'
is "$(hash_of 'claims | map(.key + " " + .verdict) | join(",")')" \
    "sshs_model_hash right,sshs_legacy_hash right,modelspec.hash_sha256 right"
claim '"sshs_model_hash":"'"0x$data"'","modelspec.hash_sha256":"'"$data"'"'
is "$(hash_of 'claims | map(.verdict) | join(",")')" right,right
claim '"sshs_model_hash":"","sshs_legacy_hash":"00000000","modelspec.hash_sha256":"0x12"'
is "$(hash_of 'claims | map(.verdict) | join(",")')" wrong,wrong,wrong
run 0 info --hash claim
out "  claims    sshs_model_hash: wrong, it is empty"
out "            sshs_legacy_hash: wrong, it is 00000000"
zeros=$(printf %064d 0)
claim '"sshs_model_hash":"0x'"$zeros"'"'
is "$(hash_of 'claims[0].verdict')" undecided
claim '"sshs_model_hash":"'"$zeros"'"'
is "$(hash_of 'claims[0].verdict')" wrong

# Torch files have no data section; of several files each has its own hashes.
run 0 info --json --hash "$testdata/mini-torch/lightning.ckpt"
torch=$(sha <"$testdata/mini-torch/lightning.ckpt")
is "$(hash_of sha256)/$(hash_of data_sha256)/$(hash_of legacy)" "$torch/null/null"
is "$(hash_of autov3)" "$(printf %.12s "$torch")"
run 0 convert "$testdata/mini-llm/base" -o shards/ --max-shard-size 1MB
run 0 info --json --hash shards
cp stdout report.json
is "$(field report.json '.hashes | map(.file) | join(",")')" \
    "$(field report.json '.files | join(",")')"
check test "$(field report.json '.hashes | length')" = 3
for i in 0 1 2; do
    is "$(field report.json ".hashes[$i].sha256")" \
        "$(sha <"shards/$(field report.json ".files[$i]")")"
done
run 0 info --hash shards
out "  file      model-00002-of-00003.safetensors"

# Only what was asked for: no hashes in lists, none without the option, nothing with -q.
run 0 info --hash -t known
check test "$(wc -l <stdout)" = 3
run 0 info --json known
is "$(field stdout 'has("hashes")')" false
run 0 info --hash -q known
check test ! -s stdout
