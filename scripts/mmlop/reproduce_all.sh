#!/usr/bin/env bash
# All tables of the paper, and cross-data-set transfer.
source "$(dirname "$0")/_common.sh"
usage "[KEY VALUE ...]
Tables 1 to 5, cross-data-set transfer, 1 and 2 shots; then the page of all results." "$@"
run base2new domain_generalization cross_dataset few_shot ablation_components ablation_rank "$@"
report --format html
