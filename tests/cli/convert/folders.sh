# Folders as outputs and inputs, in their corners.
llm=$testdata/mini-llm
make a.safetensors '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}' a
make b.safetensors '{"b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}' b

# An index keeps its name, whatever its shards are called.
for names in "part-a.safetensors part-b.safetensors" "a.dat b.dat" "model-1-of-2.x model-2-of-2.x"; do
    # shellcheck disable=SC2086
    set -- $names
    rm -rf in out
    mkdir in
    cp a.safetensors "in/$1"
    cp b.safetensors "in/$2"
    printf '{"weight_map":{"a":"%s","b":"%s"}}' "$1" "$2" >in/model.safetensors.index.json
    run 0 convert in -o out/ --json
    check test "$(field stdout .sidecars)" = 0
    check test "$(ls out | tr '\n' ' ')" = "$(ls in | tr '\n' ' ')"
    run 0 info -t out
    check test "$(wc -l <stdout)" = 2
done

# An empty folder is filled where it is: itself, through a link, with its mode.
mkdir here && (cd here && "$LORATOOL" convert "$llm/base" -o . -q)
check test -e here/model.safetensors
mkdir -m 700 private && ln -s private link
run 0 convert "$llm/base" -o link/
check test -e private/config.json
check test "$(stat -c %a private)" = 700
ln -s nowhere dangling
run 1 convert "$llm/base" -o dangling/
err "the output exists and is no folder"
# A failure leaves it empty, and one that holds something as it was.
mkdir empty
make big.safetensors '{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}' aaaaaaaZ
run 1 convert big.safetensors -o empty/ --dtype f16
err "F16 cannot hold"
check test -z "$(ls empty)"
mkdir full full/zzz.json in2 && echo old >full/aaa.json
cp a.safetensors full/model.safetensors && cp full/model.safetensors old
cp b.safetensors in2/model.safetensors && echo new >in2/aaa.json && echo new >in2/zzz.json
run 1 convert in2 -o full/ -f
err "zzz.json"
same full/model.safetensors old
check grep -qx old full/aaa.json
nothing_left

# An index that would outlive its shards; one that is named without its folder.
mkdir stale && cp in/model.safetensors.index.json stale/
run 1 convert a.safetensors -o stale/ -f
err "holds the weights 'model.safetensors.index.json', which the output would not replace"
(cd in && echo '{}' >config.json && "$LORATOOL" convert model.safetensors.index.json -o ../bare/ -q)
check test -e bare/config.json
printf '{"weight_map":{"a":"-"}}' >in/model.safetensors.index.json
run 5 info in
err "is not the name of a file beside it"

# A tensor that stands in two shards comes from the one that the index names; the other
# copy is told.
mkdir twice
cp a.safetensors twice/
make twice/both.safetensors '{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}' xb
printf '{"weight_map":{"a":"a.safetensors","b":"both.safetensors"}}' >twice/model.safetensors.index.json
for out in twice.safetensors twice2/; do
    run 0 convert twice -o $out --json
    check test "$(field stdout '.dropped | length')" = 1
    check test "$(field stdout '.dropped[0].name')" = "both.safetensors: a"
    check test "$(field stdout '.dropped[0].reason')" = \
        "a second copy: the index has the tensor in another file"
done
check test "$(tail -c 2 twice.safetensors)" = ab
run 0 info twice
out "both.safetensors: a: a second copy"

# One file has the first one's metadata: what others say besides is told. Folders keep all.
mkdir said
entry='"dtype":"U8","shape":[1],"data_offsets":[0,1]'
make said/m-1-of-3.x '{"__metadata__":{"format":"pt","by":"me"},"a":{'$entry'}}' a
make said/m-2-of-3.x '{"__metadata__":{"format":"tf","by":"me"},"b":{'$entry'}}' b
make said/m-3-of-3.x '{"__metadata__":{"format":"pt","by":"you","of":"it"},"c":{'$entry'}}' c
printf '{"weight_map":{"a":"m-1-of-3.x","b":"m-2-of-3.x","c":"m-3-of-3.x"}}' \
    >said/model.safetensors.index.json
run 0 convert said -o said.safetensors --json
check test "$(field stdout '.dropped | length')" = 1
check test "$(field stdout '.dropped[0].name')" = "m-3-of-3.x: __metadata__"
check test "$(field stdout '.dropped[0].reason')" = \
    "2 entries that the output's metadata does not have"
run 0 convert said -o said.pt --json
check test "$(field stdout '.dropped | length')" = 2
run 0 convert said -o said2/ --json
check test "$(field stdout '.dropped | length')" = 0
run 0 info --json said2/m-3-of-3.x
check test "$(field stdout '.metadata | [.by, .of] | @csv')" = '"you","it"'
run 0 convert said -o said3/ --max-shard-size 1GB --json
check test "$(field stdout '.dropped | length')" = 1
run 0 convert said -o said4/ --format torch --json
check test "$(field stdout '.dropped | length')" = 2

# A component behind a link keeps its config; other links are told.
mkdir pipe elsewhere other
cp a.safetensors elsewhere/model.safetensors && echo '{}' >elsewhere/config.json
echo '{"unet":["diffusers","UNet"]}' >pipe/model_index.json
ln -s ../elsewhere pipe/unet && ln -s ../other pipe/other
run 0 convert pipe -o pipe2/ --json
check test -e pipe2/unet/config.json
check test "$(jq -r '.dropped[].name' stdout)" = other/
# A link to a file elsewhere is no part of the folder; in a cache its blobs are.
mkdir -p linked hub/snapshots/rev/sub hub/blobs
cp a.safetensors linked/model.safetensors && cp a.safetensors hub/snapshots/rev/model.safetensors
echo secret >secret.json && echo '{}' >linked/real.json && echo '{}' >hub/blobs/abc
ln -s ../secret.json linked/config.json && ln -s real.json linked/inside.json
ln -s nowhere linked/dangling.json && mkfifo linked/pipe.json
ln -s ../../blobs/abc hub/snapshots/rev/config.json
ln -s ../../../blobs/abc hub/snapshots/rev/sub/config.json
ln -s ../../../secret.json hub/snapshots/rev/out.json
run 0 convert linked -o linked2/ --json
check test "$(field stdout '.dropped | map(.name) | @csv')" = '"config.json","dangling.json","pipe.json"'
check test "$(cd linked2 && echo *)" = "inside.json model.safetensors real.json"
run 0 convert hub/snapshots/rev -o hub2/ --json
check test "$(field stdout '.dropped | map(.name) | @csv')" = '"out.json"'
check test -s hub2/config.json && check test -s hub2/sub/config.json
# Wherever the cache lies, and its blobs.
mkdir -p snapshots/hub && mv hub snapshots/hub/models && mv snapshots/hub/models/blobs far
ln -s ../../../far snapshots/hub/models/blobs
run 0 convert "$PWD/snapshots/hub/models/snapshots/rev" -o hub3/ --json
check test -s hub3/config.json && check test -s hub3/sub/config.json
# Of a component that is a link only its config goes along.
echo secret >elsewhere/notes.txt && mkdir elsewhere/sub && echo secret >elsewhere/sub/config.json.key
run 0 convert pipe -o pipe3/ --json
check test "$(field stdout '.dropped | map(.name) | @csv')" = '"other/","unet/notes.txt","unet/sub/config.json.key"'
check test "$(cd pipe3/unet && echo *)" = "config.json model.safetensors"
# merge names what it leaves behind, too.
make for-a.safetensors '{"a.lora_A.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"a.lora_B.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}}' aaaAaaaA
make linked/model.safetensors '{"a.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]}}' aaaA
rm linked/dangling.json linked/pipe.json
run 0 merge --base linked for-a.safetensors -o linked3/
out "config.json: a link that leads out of the folder: not copied"
# An output inside its input is no part of it.
run 0 convert in2 -o in2/out/
run 0 convert in2 -o in2/out/ -f
check test ! -e in2/out/out

# A folder with one adapter in it.
mkdir lone && cp "$testdata/mini-sd/lora.safetensors" lone/
run 0 info lone
out "lora adapter, kohya keys"
# The file of a PEFT folder that is named is the one that is written.
run 0 convert "$llm/lora" -o peft/ --format torch
run 0 resize peft/adapter_model.bin --rank 2 -o peft/adapter_model.bin -f
check test "$(ls peft | tr '\n' ' ')" = "adapter_config.json adapter_model.bin "

# Hashes are those of the data that is written.
run 0 convert "$testdata/mini-sd/lora.safetensors" -o bf16.safetensors --dtype bf16
run 0 info --json bf16.safetensors
hash=$(jq -r .metadata.sshs_model_hash stdout)
size=$(od -An -tu8 -N8 bf16.safetensors | tr -d ' ')
check test "$hash" = "$(tail -c +$((size + 9)) bf16.safetensors | sha256sum | cut -d ' ' -f 1)"

# Tied weights do not drift apart unasked; what is only cast may be infinite.
tied=$testdata/mini-torch/state.pt
make tie.safetensors '{"embed.lora_A.weight":{"dtype":"F32","shape":[1,4],"data_offsets":[0,16]},"embed.lora_B.weight":{"dtype":"F32","shape":[6,1],"data_offsets":[16,40]},"head.lora_A.weight":{"dtype":"F32","shape":[1,4],"data_offsets":[40,56]},"head.lora_B.weight":{"dtype":"F32","shape":[6,1],"data_offsets":[56,80]}}' "$(printf '%080d' 0)"
run 3 merge --base "$tied" tie.safetensors -o tied.pt --allow-unmatched
err "is the same memory as"
run 0 merge --base "$tied" tie.safetensors -o tied.pt --allow-unmatched --untie
make mask.safetensors '{"w.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"mask":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}' 0000
printf '\000\000\200\377' >>mask.safetensors
make one.safetensors '{"w.lora_A.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"w.lora_B.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}}' 00000000
run 0 merge --base mask.safetensors one.safetensors -o mask16.safetensors --dtype f16
check test "$(tail -c 2 mask16.safetensors | od -An -tx1 | tr -d ' ')" = 00fc
