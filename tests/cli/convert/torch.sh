# Torch files of testdata/mini-torch: what they hold, converted both ways.
torch=$testdata/mini-torch
run 0 info "$torch/lightning.ckpt"
out "container torch zip"
out "tensors in 'state_dict'"
out "optimizer_states"
out "epoch: integer 3"
out "some_trainer.config.Settings (1): unknown"
run 0 info --strict "$torch/lightning.ckpt"
run 0 info -t "$torch/lightning.ckpt"
out "embed.weight	F32	[6,4]	"
check test "$(wc -l <stdout)" -eq 5
run 0 info -t --all-tensors "$torch/lightning.ckpt"
out "state_dict.embed.weight	F32	[6,4]	"
out "optimizer_states.0.state.0.exp_avg	F32	[6,4]	"

# Both formats hold the same; what they lack is told.
for name in state.pt legacy.pt lightning.ckpt; do
    run 0 convert "$torch/$name" -o out.safetensors -f
    out "5 tensors from torch"
    out "copies     1 tensors that were the memory of others"
    [ -e first.safetensors ] || cp out.safetensors first.safetensors
    same out.safetensors first.safetensors
done
out "dropped"
out "optimizer_states"
run 0 convert "$torch/lightning.ckpt" -o all.safetensors -a --json
check test "$(jq .tensors stdout)" -gt 5
run 0 info -t all.safetensors
out "optimizer_states.0.state.0.exp_avg	F32	[6,4]	"

# safetensors -> torch -> safetensors: the same file.
for kind in pt ckpt bin pth; do
    run 0 convert first.safetensors -o back.$kind
    run 0 info -t back.$kind
    run 0 convert back.$kind -o again.safetensors -f
    same again.safetensors first.safetensors
done
# Torch to torch: the wrapper and the shared storage stay.
run 0 convert "$torch/lightning.ckpt" -o wrapped.ckpt --json
check test "$(jq .shared stdout)" = 1
run 0 info --json wrapped.ckpt
check test "$(jq -r .wrapper stdout)" = state_dict
# The same bytes every time, for any number of threads.
run 0 convert "$torch/lightning.ckpt" -o other.ckpt -j 1
same wrapped.ckpt other.ckpt

# Views.
run 0 info -t "$torch/views.pt"
out "transposed	F32	[6,4]	"
out "expanded	F32	[3]	"
out "scalar	F32	[]	"
out "empty	F32	[0,6]	"
out "eight	F8_E4M3	[4,6]	"
run 0 convert "$torch/views.pt" -o views.safetensors
run 0 convert views.safetensors -o views.pt
run 0 convert views.pt -o views2.safetensors
same views.safetensors views2.safetensors

# Pipes.
"$LORATOOL" convert "$torch/legacy.pt" -o - -q | "$LORATOOL" convert - -o - -q --format torch |
    "$LORATOOL" convert - -o piped.safetensors -q
same piped.safetensors first.safetensors
nothing_left
