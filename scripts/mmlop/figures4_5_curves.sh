#!/usr/bin/env bash
# Figures 4 and 5 of the paper.
source "$(dirname "$0")/_common.sh"
usage "[KEY VALUE ...]
Figures 4 and 5: curves of 1 to 16 shots with ViT-B/16 and ViT-B/32; then the figures." "$@"
run_then_report --figures figure4_few_shot,figure5_few_shot_vit_b32 few_shot few_shot_vit_b32 "$@"
