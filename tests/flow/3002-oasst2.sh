#!/bin/bash
# Scores, histogram, agreement and pairs of a real judge over Open Assistant 2, computed by the program and
# once more by an independent script.
. tests/flow/lib.sh
. tests/flow/up.sh
need python3
test_data datasets/oasst2_eft/00_eft.jsonl
python3 tests/flow/oasst2.py "$PAWL_BUILD/pawl-worker" "$TEST_DATA/datasets/oasst2_eft"
