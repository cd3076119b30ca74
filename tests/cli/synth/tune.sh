# A fine-tune is the same for any number of threads, differs by seed and from its base,
# and leaves what it says it leaves.
synth() {
    check "$LORATOOL_SYNTH" clip-l -o "$@"
}
synth base.safetensors
synth again.safetensors -j 2
same base.safetensors again.safetensors
synth one.safetensors --tune-of base.safetensors
synth two.safetensors --tune-of base.safetensors -j 2
same one.safetensors two.safetensors
synth two.safetensors --tune-of base.safetensors --seed 7
checks=$((checks + 1))
cmp -s one.safetensors two.safetensors && fail "another seed gives the same change"

run 0 extract --base base.safetensors --tuned one.safetensors -o lora.safetensors \
    --rank 1 --json --all-modules --exclude 'layers\.([1-9]|10)\.'
frozen=$("$LORATOOL_SYNTH" clip-l --frozen | grep -c '\.weight$')
check [ "$(field stdout .modules_unchanged)" = "$frozen" ]

checks=$((checks + 1))
"$LORATOOL_SYNTH" vae-z4 -o x.safetensors --tune-of base.safetensors 2>stderr &&
    fail "a base of another layout was accepted"
err "of the layout vae-z4"
nothing_left x.safetensors
