# The generator's layouts are those of the real files: sorted keys and shapes have a known
# digest. (The digest of the VAE is known to eight digits only; its sizes are whole.)
parameters() {
    awk -F'\t' '!/position_ids/ { n = split($2, d, ","); p = 1
        for (i = 1; i <= n; i++) p *= d[i]; sum += p } END { printf "%.0f\n", sum }' "$1"
}

# component LAYOUT TENSORS PARAMETERS DIGEST
component() {
    check "$LORATOOL_SYNTH" "$1" --list >list
    digest=$(sha256sum <list)
    check [ "$(wc -l <list)" -eq "$2" ]
    check [ "$(parameters list)" = "$3" ]
    checks=$((checks + 1))
    case $digest in
    "$4"*) ;;
    *) fail "$1 has the digest $digest" ;;
    esac
}

component sd15-unet 686 859520964 \
    5440e5ee45fc9982a07b2e50e9d45fa082c190233ecdc9c2db30e96e9c0619eb
component sd15-inpaint-unet 686 859535364 \
    b2f351fedcfe7e2642c893f61738b8db15a992934adb77a16385e342cb8a8986
component sd21-unet 686 865910724 \
    190badf3351597503bc48cc8ef6d53350dab0dfabc42fac490e6f3830a649bdf
component sdxl-unet 1680 2567463684 \
    19c31fb39731512889f4373b1e3a730ef630bca78f9bfb4036b34e309d13a2d3
component refiner-unet 1220 2259526660 \
    23a39b3e3c0f85f03657aa50904267dce310d252cef8df7ad5998e343deabc2b
component clip-l 196 123060480 \
    2bf08036a32f04685551ab6415405cc56dc47459f7a0a97bc5e510bf73e9f807
component clip-l-projection 197 123650304 \
    b191b7aa0c60c5f5c5e028c08106168e356fc5f2d7544080f92f0f1ead9755a8
component openclip-g 390 694659841 \
    305f5e85de6cdd42a5beabe8166ed6f5f53a3fcd0be44f309e6e83861fac5b85
component openclip-h 294 354032641 \
    8ceb7faa0472b9d3c6cb726db861fe30e26ae8d83c366b87078b856d3db16618
component vae-z4 248 83653863 fec7616c

# whole LAYOUT PREFIX=COMPONENT...: prefixes and sums, position_ids aside.
whole() {
    layout=$1 want=$2
    shift 2
    check "$LORATOOL_SYNTH" "$layout" --list >list
    check [ "$(parameters list)" = "$want" ]
    for part; do
        "$LORATOOL_SYNTH" "${part#*=}" --list >bare
        awk -v p="${part%%=*}" '!/position_ids/ && index($0, p) == 1 {
            print substr($0, length(p) + 1) }' list >found
        same bare found
    done
}
whole sd15 1066235307 model.diffusion_model.=sd15-unet \
    cond_stage_model.transformer.=clip-l first_stage_model.=vae-z4
whole sd21 1303597228 model.diffusion_model.=sd21-unet \
    cond_stage_model.model.=openclip-h first_stage_model.=vae-z4
whole sdxl 3468837868 model.diffusion_model.=sdxl-unet \
    conditioner.embedders.0.transformer.=clip-l \
    conditioner.embedders.1.model.=openclip-g first_stage_model.=vae-z4
