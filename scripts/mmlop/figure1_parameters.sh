#!/usr/bin/env bash
# Figure 1 of the paper.
source "$(dirname "$0")/_common.sh"
usage "[KEY VALUE ...]
Figure 1: accuracy against parameters, of base-to-new and of few-shot with 16 shots; then the figure." "$@"
run_then_report --figures figure1_parameters base2new few_shot --shots 16 "$@"
