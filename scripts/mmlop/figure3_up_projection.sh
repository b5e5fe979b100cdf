#!/usr/bin/env bash
# Figure 3 of the paper.
source "$(dirname "$0")/_common.sh"
usage "[KEY VALUE ...]
Figure 3: U as a heat map, layers by tokens, of the prompts of table 1; then the figure." "$@"
run_then_report --figures figure3_up_projection base2new "$@"
