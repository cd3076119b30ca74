# Memory follows the largest tensor, not the file: full-size checkpoints, 2.1 and 6.9 GB.
need_gb=20
free_gb=$(df -Pk . | awk 'NR == 2 { printf "%d", $4 * 1024 / 1e9 }')
if [ "$free_gb" -lt "$need_gb" ]; then
    echo "skipped: $free_gb GB are free in $PWD, $need_gb are needed (TMPDIR moves it)"
    exit 77
fi
if ! command -v jq >/dev/null; then
    echo "skipped: no jq"
    exit 77
fi

# figures WHAT: of the run whose report is in stdout.
figures() {
    peak=$(field stdout .peak_memory_bytes)
    printf '%-13s %7.1f s  peak %4.0f MB\n' "$1" "$(field stdout .seconds)" \
        "$(field stdout '.peak_memory_bytes / 1e6')"
    check [ "${peak:-0}" -gt 0 ]
    check [ "${peak:-0}" -lt 1000000000 ]
}

# The parts of loratool_synth's fine-tune that stay equal and could be modules.
frozen() {
    "$LORATOOL_SYNTH" "$1" --frozen | grep -c '\.weight$'
}

# The same merge from a torch file into one, and from shards into shards: the same weights.
containers() {
    run 0 convert base.safetensors -o base.ckpt -j 2 --json
    figures "to ckpt"
    run 0 merge --base base.ckpt lora.safetensors -o merged.ckpt -j 2 --json
    figures "ckpt merge"
    check [ "$peak" -le $((merge_peak * 3 / 2 + 20000000)) ]
    rm base.ckpt
    run 0 convert merged.ckpt -o back.safetensors -j 2 --json
    figures "from ckpt"
    rm merged.ckpt
    same back.safetensors merged.safetensors
    rm back.safetensors
    run 0 convert base.safetensors -o shards/ --max-shard-size 500MB -j 2 --json
    run 0 merge --base shards lora.safetensors -o merged/ -j 2 --json
    figures "shards merge"
    check [ "$peak" -le $((merge_peak * 3 / 2 + 20000000)) ]
    check [ "$(ls merged | wc -l)" = "$(ls shards | wc -l)" ]
    rm -r shards
    run 0 convert merged -o back.safetensors -j 2 --json
    check [ "$(field stdout .tensors)" = "$("$LORATOOL_SYNTH" sd15 --list | wc -l)" ]
    rm -r merged back.safetensors
}

# pair LAYOUT MODULES: extracts and merges back; sets merge_peak.
pair() {
    written=$(($2 - $(frozen "$1")))
    check "$LORATOOL_SYNTH" "$1" -o base.safetensors -j 2
    check "$LORATOOL_SYNTH" "$1" -o tuned.safetensors --tune-of base.safetensors -j 2
    run 0 extract --base base.safetensors --tuned tuned.safetensors -o lora.safetensors \
        --rank 16 -j 2 --json
    rm tuned.safetensors
    figures "$1 extract"
    check [ "$(field stdout .modules_written)" = "$written" ]
    check [ "$(field stdout .modules_unchanged)" = $(($2 - written)) ]
    # The change has 96 directions that decay like i^-0.7: 16 of them leave 0.42 of it.
    check [ "$(field stdout '.error > 0.38 and .error < 0.46')" = true ]

    run 0 merge --base base.safetensors lora.safetensors -o merged.safetensors -j 2 --json
    figures "$1 merge"
    merge_peak=$peak
    check [ "$(field stdout .modules_applied)" = "$written" ]
    check [ "$(field stdout '.unmatched | length')" = 0 ]
    check [ "$(field stdout '.tensors_changed + .tensors_passed_through')" = \
        "$("$LORATOOL_SYNTH" "$1" --list | wc -l)" ]
    [ "$1" != sd15 ] || containers
    check [ "$(wc -c <merged.safetensors)" -ge "$(wc -c <base.safetensors)" ]
    rm base.safetensors merged.safetensors lora.safetensors
}

pair sd15 350
small=$merge_peak
pair sdxl 1052
check [ "$merge_peak" -le $((small * 3 / 2 + 100000000)) ]
