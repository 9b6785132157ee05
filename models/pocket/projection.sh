#!/bin/sh
# Fits the projection that ships with pocket, and makes the class bank that goes with it.
#
#     models/pocket/projection.sh target/release/constancy WORK
#
# Everything is fitted, chosen and calibrated on renders of the range of light that pocket was trained in; the six
# environments outside it are not rendered here. Interventions of the fit are those that change light and colour. The same
# program gives the same files again. Two minutes and 1.5 GB in WORK.
set -eu
constancy=$1
work=$2
here=$(dirname "$0")
model=$here/pocket.toml
prompt="a photo of a {}"

"$constancy" synth --out "$work/sources" --count 2000 --seed 34 --environments wide --format folders
# The day that pocket was trained.
SOURCE_DATE_EPOCH=1767225600 "$constancy" fit "$work/sources" --model "$model" --cache "$work/cache" \
    --interventions exposure,gamma,white-balance,vignetting,low-light,infrared,colour-jitter,grey-scale \
    --select interventions --predictor zero-shot --prompt "$prompt" --centre --output "$here/projection.safetensors"

"$constancy" synth --out "$work/like" --count 1000 --seed 77 --environments wide --format folders
"$constancy" classes --model "$model" --projection "$here/projection.safetensors" --labels "@$here/labels.txt" \
    --prompt "$prompt" --cache "$work/cache" --like "$work/like" --output "$here/classes.safetensors"
