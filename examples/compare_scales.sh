#!/bin/sh
# The ladder by hand: three analyses and one comparison. Works offline.
#
#     sh examples/compare_scales.sh runs/scales
set -eu
output=${1:-runs/scales}

for model in tiny-s tiny-m tiny-l; do
    probekit analyze --model "$model" --max-tokens 4000 --marginal-positions 100 \
        --output "$output/$model"
done
probekit compare "$output/tiny-s" "$output/tiny-m" "$output/tiny-l"
