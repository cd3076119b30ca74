# Random adapters name the modules that trainers name: their numbers are known.
# adapter LAYOUT MODULES
adapter() {
    check "$LORATOOL_SYNTH" "$1" -o lora.safetensors --adapter --rank 4 --conv-rank 2
    run 0 info lora.safetensors --json
    check [ "$(field stdout ".modules | length")" = "$2" ]
}
adapter sd15-unet 278
adapter sd15 350
adapter sd21 416
adapter sdxl-unet 788
adapter sdxl 1052
adapter llama-1b 112
