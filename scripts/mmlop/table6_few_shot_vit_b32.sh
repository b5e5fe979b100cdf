#!/usr/bin/env bash
# Table 6 of the paper.
source "$(dirname "$0")/_common.sh"
usage "[KEY VALUE ...]
Table 6: 4, 8 and 16 shots with CLIP ViT-B/32; then its table." "$@"
run_then_report --protocol few_shot_vit_b32 few_shot_vit_b32 --shots 4,8,16 "$@"
