#!/bin/bash
# Prints the tables that need a GPU, the most valuable first. Each is written to FOLDER/NAME.txt, row by row.
#   bash benchmarks/gpu.sh DATA FOLDER [NAME ...]         all of them, or those named
#   bash benchmarks/gpu.sh --dry DATA FOLDER [NAME ...]   the same with a few small texts, on any machine: they run
# DATA is a folder of real data as `throughput --data` takes it. Each table has a limit in seconds, 540 in all; one that
# reaches it keeps the rows it has (of mixed_formats the raw numbers, in its .log), and the next begins. The exit code is 1 where a table failed or was cut.
set -uo pipefail

names=(throughput families declutr gradient_cache cocitation mixed_formats loss_memory throughput_fp32)
declare -A limit=(
  [throughput]=170 [families]=90 [declutr]=80 [gradient_cache]=50 [cocitation]=50 [mixed_formats]=50 [loss_memory]=20
  [throughput_fp32]=30
)
declare -A small=(
  [throughput]="--rows dry --precisions fp32 --sides ours st plain --rounds 1"
  [families]="--families bert modernbert --texts 4 --rounds 1 --precision fp32"
  [declutr]="--dry"
  [gradient_cache]="--pairs 4 --micro-batches 256 --rounds 1 --precisions fp32"
  [cocitation]="--pairs 4 --rounds 1 --steps 1 --precisions fp32 --encoder minilm"
  [mixed_formats]="--batch 6 --rounds 1 --steps 1 --max-length 64 --precision fp32"
  [loss_memory]="--rows 1024"
  [throughput_fp32]="--rows dry --sides ours st --rounds 1"
)

dry=false
if [ "${1:-}" = --dry ]; then dry=true; shift; fi
data=$(realpath "${1:?the folder of real data}") to=${2:?a folder for the tables}
mkdir -p "$to"
to=$(realpath "$to")
shift 2
wanted=("${@:-${names[@]}}")
for name in "${wanted[@]}"; do
  [ -n "${limit[$name]:-}" ] || { echo "there is no table $name; there are: ${names[*]}" >&2; exit 2; }
done
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1

speed() { # SCRIPT ARGUMENT ...: what is small comes last and so stands above the arguments before it
  local script=$1 arguments=("${@:2}")
  if $dry; then read -ra more <<< "${small[$name]}"; arguments+=("${more[@]}"); fi
  timeout "$($dry && echo 600 || echo "${limit[$name]}")" python -m "benchmarks.speed.$script" "${arguments[@]}"
}

table() {
  case $1 in
    throughput) speed throughput --data "$data" --precisions bf16 --rows scibert-shape-128 scibert-shape-1024 --rounds 2 ;;
    families) speed families --families bert-base modernbert-base --texts 256 --rounds 5 --precision bf16 ;;
    declutr) speed gpu_declutr --documents 16 --rounds 3 ;;
    gradient_cache) speed gradient_cache --pairs 512 --micro-batches 65536 16384 --precisions bf16 ;;
    cocitation) speed cocitation_training --data "$data" --precisions bf16 --encoder scibert-shape ;;
    mixed_formats) speed mixed_formats --data "$data" --batch 96 --precision bf16 --rounds 1 ;;
    loss_memory) speed loss_memory ;;
    throughput_fp32) speed throughput --data "$data" --precisions fp32 --rows scibert-shape-128 --sides ours st --rounds 1 --steps 4 ;;
  esac
}

failed=()
for name in "${wanted[@]}"; do
  echo "== $name"
  started=$SECONDS
  table "$name" 2> "$to/$name.log" | tee "$to/$name.txt" || { failed+=("$name"); tail -5 "$to/$name.log" >&2; }
  echo "== $name took $((SECONDS - started)) s"
done
python -m sciembed_train.cli doctor > "$to/machine.txt" || true
[ ${#failed[@]} -eq 0 ] || { echo "failed or cut: ${failed[*]}" >&2; exit 1; }
