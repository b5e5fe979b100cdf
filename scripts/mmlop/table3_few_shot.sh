#!/usr/bin/env bash
# Table 3 of the paper.
source "$(dirname "$0")/_common.sh"
usage "[KEY VALUE ...]
Table 3: 4, 8 and 16 shots of all classes of 11 data sets, three seeds; then its table." "$@"
run_then_report --protocol few_shot few_shot --shots 4,8,16 "$@"
