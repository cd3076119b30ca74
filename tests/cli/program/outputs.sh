# Where outputs go: links, empty names, huge empty tensors, standard input twice.
lora=$testdata/mini-sd/lora.safetensors
echo old >target.safetensors
ln -s target.safetensors link.safetensors
run 1 resize "$lora" -o link.safetensors --rank 2
err "the output exists"
run 0 resize "$lora" -o link.safetensors --rank 2 -f
check test -L link.safetensors
run 0 info target.safetensors
run 2 resize "$lora" -o '' --rank 2
err "the output's name is empty"
run 2 merge --base "$testdata/mini-sd/base.safetensors" - - -o out.safetensors
err "standard input can be read once"
run 2 extract --base - --tuned - -o out.safetensors

make empty.safetensors '{"a.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[0,1000000000000000],"data_offsets":[4,4]}}' AAAA
make one.safetensors '{"a.lora_A.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},"a.lora_B.weight":{"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}}' AAAAAAAA
run 0 merge --base empty.safetensors one.safetensors -o merged.safetensors
run 0 info -t merged.safetensors
out "b	F32	[0,1000000000000000]"


# Of closed streams: no other file is read or written in their place.
convert="$LORATOOL convert $lora -q"
$convert -o - <&- >&- 2>err && fail "nothing was written, and that was no error"
check grep -q "standard output: cannot write" err
"$LORATOOL" merge --base "$testdata/mini-sd/base.safetensors" - -o out.safetensors <&- 2>err &&
    fail "the base was read as standard input"
check grep -q "standard input: cannot" err
check test ! -e out.safetensors
$convert -o good.safetensors
for closed in '<&-' '2>&-' '<&- 2>&-' '<&- >&- 2>&-'; do
    eval "$convert -o there.safetensors -f $closed" || fail "convert $closed"
    check cmp good.safetensors there.safetensors
done

# Standard input is what is left of it.
{ printf 12345678 && cat "$lora"; } >behind.safetensors
{
    dd bs=8 count=1 >/dev/null 2>&1
    "$LORATOOL" convert - -o rest.safetensors -q
} <behind.safetensors || fail "the rest of a file"
check cmp good.safetensors rest.safetensors
