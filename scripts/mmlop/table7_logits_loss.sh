#!/usr/bin/env bash
# Table 7 of the paper.
source "$(dirname "$0")/_common.sh"
usage "[KEY VALUE ...]
Table 7: symmetric and one-sided KL, without and with drift correction, on nine data sets; then its
table. The rows of symmetric KL are runs of tables 5 and 1." "$@"
run_then_report --protocol logits_loss logits_loss "$@"
