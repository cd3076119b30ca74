# Bad files: exit 5 and the reason; one bad file among good ones.
run 2 info
err "no file is given"
run 1 info missing
err "missing: cannot open: No such file or directory"
: >empty
run 5 info empty
err "empty: the file is empty"
printf '\377\377\377\377\377\377\377\377{}' >huge
run 5 info huge
err "huge: the header length 18446744073709551615 is over the format's ceiling"
printf '\074\0\0\0\0\0\0\0{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}      1234' >wrong
run 5 info wrong
err "wrong: tensor 'a': 'data_offsets' span 4 bytes, but F32 [2] takes 8 (at byte 9)"
printf 'PK\003\004 and more' >model.ckpt
run 5 info model.ckpt
err "model.ckpt: "
run 5 info "$testdata/mini-sd/lora.safetensors" huge
out "lora.safetensors: lora adapter"
mkdir folder
run 3 info folder
err "the folder holds no weights"
# Control characters of a hostile name do not reach the terminal.
printf '\066\0\0\0\0\0\0\0{"a\\u001b[2J":{"dtype":"F3","shape":[],"data_offsets":[0,4]}}1234' >escape
run 5 info escape
check test "$(tr -d '\n\040-\176' <stderr | wc -c)" = 0
