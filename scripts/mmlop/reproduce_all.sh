#!/usr/bin/env bash
# All tables and figures of the paper, and cross-data-set transfer.
source "$(dirname "$0")/_common.sh"
usage "[KEY VALUE ...]
Tables 1 to 11 and cross-data-set transfer; then the page of all tables and figures." "$@"
run_then_report --format html base2new domain_generalization cross_dataset few_shot components \
  sensitivity_rank sensitivity_length sensitivity_depth few_shot_vit_b32 logits_loss "$@"
