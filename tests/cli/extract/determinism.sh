# The same bytes for any number of threads, and again.
sd=$testdata/mini-sd
for j in 1 2 4; do
    run 0 extract --base "$sd/base.safetensors" --tuned "$sd/tuned.safetensors" \
        -o "j$j.safetensors" --rank 8 -j $j
    run 0 merge --base "$sd/base.safetensors" "j$j.safetensors:0.7" -o "m$j.safetensors" -j $j
    run 0 resize "j$j.safetensors" -o "r$j.safetensors" --rank 3 -j $j
done
# The title in the metadata is the output's name: make the names equal.
mkdir again
run 0 extract --base "$sd/base.safetensors" --tuned "$sd/tuned.safetensors" \
    -o again/j1.safetensors --rank 8
same j1.safetensors again/j1.safetensors
for kind in j r; do
    for j in 1 2 4; do
        tail -c 100000 $kind$j.safetensors >tail$j
    done
    same tail1 tail2
    same tail1 tail4
done
same m1.safetensors m2.safetensors
same m1.safetensors m4.safetensors
