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
