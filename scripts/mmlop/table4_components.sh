#!/usr/bin/env bash
# Table 4 of the paper.
source "$(dirname "$0")/_common.sh"
usage "[KEY VALUE ...]
Table 4: IVLP, low rank, + consistency, + drift correction, + shared up-projection." "$@"
run ablation_components "$@"
