#!/usr/bin/env bash
# Tables 5, 9, 10 and 11 of the paper.
source "$(dirname "$0")/_common.sh"
usage "[KEY VALUE ...]
Tables 5, 9, 10 and 11: rank 1, 2, 4; length 2, 4, 8; depth 7, 9, 11, on nine data sets; then their
tables. With drift correction: TRAINER.MMLOP.UDC True at the end, and another OUTPUT." "$@"
echo "Runs without drift correction (TRAINER.MMLOP.UDC False): the default row of these tables in the
paper equals the column of table 7 without it, data set by data set. With it: TRAINER.MMLOP.UDC True." >&2
studies=(sensitivity_rank sensitivity_length sensitivity_depth)
run_then_report --protocol "$(IFS=, && echo "${studies[*]}")" "${studies[@]}" "$@"
