# --limit: names, values, and that it reaches the readers.
run 2 info --limit tensors "$testdata/mini-sd/lora.safetensors"
err "--limit takes NAME=N"
run 2 info --limit nothing=1 "$testdata/mini-sd/lora.safetensors"
err "there is no limit 'nothing'; there are: header-size, tensors"
run 2 info --limit json-depth=1001 "$testdata/mini-sd/lora.safetensors"
err "the limit 'json-depth' takes 1 to 1000"
run 2 info --limit tensors=0 "$testdata/mini-sd/lora.safetensors"
run 5 info --limit tensors=869 "$testdata/mini-sd/lora.safetensors"
err "over 869 tensors"
run 0 info --limit tensors=869 --limit tensors=1KB -q "$testdata/mini-sd/lora.safetensors"
run 5 convert --limit pickle-size=500B "$testdata/mini-torch/state.pt" -o out.safetensors
err "over 500 bytes"
check test ! -e out.safetensors
