#!/usr/bin/env bash
# Table 5 of the paper.
source "$(dirname "$0")/_common.sh"
usage "[KEY VALUE ...]
Table 5: ranks 1, 2 and 4." "$@"
run ablation_rank "$@"
