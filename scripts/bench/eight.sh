#!/usr/bin/env bash
# One host's GPUs, in one command of under eight minutes: training of the 1B model on one, half and all of them (every tile of
# attention, with skipping, softmax with RoPE), PyTorch beside it, 3B, a mixture, NCCL's bandwidth, 1, 2 and all processes for 200
# steps, sequences, gradients and weights shared, two runs to equal bits, a resumed run, a rank that is killed. What each step says is in FOLDER/*.log and *.json, what all
# say together in FOLDER/eight.json (scripts/bench/eight.mjs).
# While the small runs go, which nobody times, PyTorch compiles: a ddp.py that looks for the file $BUSY waits with its timing.
# Usage: scripts/bench/eight.sh [--gpus N] [--out FOLDER] [--bin FOLDER of a bundle] [--ddp ddp.py] [--mixture] [--only "step …"]
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
gpus=8 out=benchmarks/eight bin= ddp= mixture= only=
while [ $# -gt 0 ]; do
  case $1 in
    --gpus | --out | --bin | --ddp | --only)
      [ $# -gt 1 ] || { echo "$1 needs a value" >&2; exit 1; }
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    --mixture) mixture=1; shift ;;
    *) echo "unknown option $1; see the head of $0" >&2; exit 1 ;;
  esac
done
case $gpus in [2-9] | [1-9][0-9]) ;; *) echo "--gpus $gpus: expected a number from 2" >&2; exit 1 ;; esac
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 1
begun=$SECONDS
runs=$(mktemp -d) # of small models
trap 'rm -rf "$runs"' EXIT
export BUSY=$runs/busy

# bench NAME OPTION…: a bench of the bundle, or of the checkout; train OPTION…: sb-train.
bench() { if [ -n "$bin" ]; then "$bin/$1" "${@:2}"; else node "scripts/bench/$1.mjs" "${@:2}"; fi; }
train() { if [ -n "$bin" ]; then "$bin/sb-train" "$@"; else node packages/stickbreaking/bin/sb-train.js "$@"; fi; }
export -f bench train
export bin out
# step NAME SECONDS COMMAND: into a log of its own; one that fails or takes too long keeps no other back.
step() {
  local started=$SECONDS code
  [ -z "$only" ] || [[ " $only " == *" $1 "* ]] || return 0
  timeout -s KILL "$2" bash -c "$3" >"$out/$1.log" 2>&1
  code=$?
  echo "$1 $code $((SECONDS - started)) $((SECONDS - begun))" >>"$out/steps.txt"
  printf '%3d s  %-14s %s\n' $((SECONDS - begun)) "$1" "$([ $code = 0 ] && tail -n 1 "$out/$1.log" | cut -c1-160 || echo "FAILED ($code)")"
}
# beside NAME SECONDS COMMAND: the same beside what follows, until `together`.
besides=()
beside() {
  step "$@" &
  besides+=($!)
}
together() {
  rm -f "$BUSY"
  [ ${#besides[@]} = 0 ] || wait "${besides[@]}"
  besides=()
}
rm -f "$out/steps.txt"
half=$((gpus / 2)) last=$((gpus - 1))
first_half=$(seq -s, 0 $((half - 1))) second_half=$(seq -s, "$half" "$last")
on() { echo "CUDA_VISIBLE_DEVICES=$1"; }
every='STICKBREAKING_BLOCK_SKIPPING=0'
soft='--attention softmax+rope'
to() { echo "--out $out/$1"; }

torch() { echo "CUDA_VISIBLE_DEVICES=$1 torchrun --master_port $2 --nproc_per_node $(awk -F, '{ print NF }' <<<"$1") $ddp $3"; }
everyone=$(seq -s, 0 "$last")

# What one GPU does, several do at the same time, each its own; PyTorch on the last, if that is another.
alone() {
  echo "$every $(on 0) bench cuda-train $(to one) & a=\$!; sleep 1
    $(on 1) bench cuda-train $(to one) >$out/one-skipping.log 2>&1 & b=\$!
    [ $gpus -lt 3 ] && wait \$a
    $every $(on $((gpus > 2 ? 2 : 0))) bench cuda-train $soft $(to one) >$out/one-softmax.log 2>&1 & c=\$!
    wait \$a && wait \$b && wait \$c"
}
touch "$BUSY"
[ -z "$ddp" ] || [ "$gpus" -lt 4 ] || beside pytorch-one 150 "$(torch "$last" 29501 ddp)"
step one 120 "$(alone)"
# Small runs: text of its own, so that nothing has to be there.
step text 20 "awk 'BEGIN { srand(7); for (d = 0; d < 4000; d++) { t = \"\"; n = 40 + int(rand() * 300);
    for (w = 0; w < n; w++) t = t sprintf(\"w%d \", int(rand() * rand() * 400)); printf \"{\\\"text\\\": \\\"%s\\\"}\\n\", t } }' >$runs/text.jsonl
  cat >$runs/run.yaml <<END
output: $runs/one
tokenizer: $runs/tokenizer.json
shards: $runs/tokens
batchTokens: 16384
microBatchTokens: 1024
model: { vocabSize: 512, hiddenSize: 256, intermediateSize: 512, numLayers: 4, numHeads: 8, contextLength: 1024 }
stages:
  - steps: 200
    schedule: { kind: constant, peak: 3e-4, warmupSteps: 50 }
    data: [{ path: $runs/text.jsonl }]
checkpoints: { everySteps: 100, keepLast: 3 }
END
  if [ -n '$bin' ]; then tokenizer='$bin/sb-tokenizer'; else tokenizer='node packages/stickbreaking/bin/sb-tokenizer.js'; fi
  \$tokenizer train --data $runs/text.jsonl --vocab-size 512 --output $runs/tokenizer.json
  train --config $runs/run.yaml --backend cuda output=$runs/first stages.0.steps=50"
small() { echo "train --config $runs/run.yaml --backend cuda output=$runs/$1 ${*:2}"; }
# A small run needs little of a GPU: those of one and two processes, and two that are to be equal, at the same time.
step agree 90 "$(on 0) $(small 1) & a=\$!; $(on "$((last - 1)),$last") $(small 2 --gpus 2) >$out/agree-2.log 2>&1 & b=\$!
  $(small all --gpus "$gpus") >$out/agree-all.log 2>&1; wait \$a && wait \$b
  for one in 1 2 all; do cp $runs/\$one/metrics.jsonl $out/agree-\$one.jsonl; done"
together

# Few steps, in two turns with and without communication.
few='--steps 3 --turns 2'
step all 60 "$every bench cuda-train --gpus $gpus $few $(to all)"
step all-skipping 60 "bench cuda-train --gpus $gpus $few $(to all)"
step all-softmax 60 "$every bench cuda-train --gpus $gpus $soft $few $(to all)"
if [ "$half" -gt 1 ]; then
  step half 60 "$every $(on "$first_half") bench cuda-train --gpus $half $few $(to half) & a=\$!
    $every $(on "$second_half") bench cuda-train --gpus $half $soft $few $(to half) >$out/half-softmax.log 2>&1; wait \$a"
fi
step 3b 80 "$every bench cuda-train --gpus $gpus --config configs/3b.yaml --sequences 2 --steps 2 --turns 2 $(to all)"
[ -z "$mixture" ] || step mixture 120 "$every bench cuda-train --gpus $gpus --config configs/moe-6.5b.yaml --shard gradients --sequences 4 --steps 2 --turns 2 --memory $(to all)"
step nccl 40 "bench nccl --gpus $gpus $(to all)"

touch "$BUSY"
[ -z "$ddp" ] || beside pytorch-ddp 150 "$(torch "$everyone" 29502 ddp)"
# Half as many steps of these: what they do differently shows from the first one on.
step context 60 "$(small context --gpus "$gpus" parallel.context="$gpus" stages.0.steps=100) && cp $runs/context/metrics.jsonl $out/agree-context.jsonl"
step shards 60 "$(small gradients --gpus "$gpus" parallel.shard=gradients stages.0.steps=100) & a=\$!
  $(small weights --gpus "$gpus" parallel.shard=weights stages.0.steps=100) >$out/shards-weights.log 2>&1; wait \$a
  for one in gradients weights; do cp $runs/\$one/metrics.jsonl $out/agree-\$one.jsonl; done"
# Sums in the order of the micro-batches: the same bits on 1, 2 and all.
ordered() { small "ordered-$1" parallel.orderedSums=true "${@:2}"; }
step ordered 90 "$(on 0) $(ordered 1) & a=\$!; $(on "$((last - 1)),$last") $(ordered 2 --gpus 2) >$out/ordered-2.log 2>&1 & b=\$!
  $(ordered all --gpus "$gpus") >$out/ordered-all.log 2>&1; wait \$a && wait \$b
  for one in 1 2 all; do cp $runs/ordered-\$one/metrics.jsonl $out/agree-ordered-\$one.jsonl; done
  cd $runs && sha256sum ordered-*/checkpoints/step-00000200/{model,optimizer}.safetensors | tee $out/ordered.txt"
step bits 90 "$(small bits-1 --gpus "$gpus" stages.0.steps=20 stages.0.schedule.warmupSteps=5) & a=\$!; $(small bits-2 --gpus "$gpus" stages.0.steps=20 stages.0.schedule.warmupSteps=5) >/dev/null 2>&1; wait \$a
  $(small bits-3 --gpus "$gpus" stages.0.steps=10 stages.0.schedule.warmupSteps=5) && $(small bits-3 --gpus "$gpus" stages.0.steps=20 stages.0.schedule.warmupSteps=5 --resume)
  cd $runs && sha256sum bits-?/checkpoints/step-00000020/{model,optimizer}.safetensors | tee $out/bits.txt"
step kill 60 "$(small killed --gpus "$gpus" stages.0.steps=100000 checkpoints.everySteps=20) 2>$out/killed.log & launcher=\$!
  until [ -s $runs/killed/metrics.jsonl ] && [ \$(wc -l <$runs/killed/metrics.jsonl) -gt 60 ]; do sleep 0.1; done
  kill -9 \$(head -n 1 $runs/killed/ranks/rank-001.log | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); begun=\$(date +%s%N)
  wait \$launcher; code=\$?; ended=\$(date +%s%N)
  echo \$(((ended - begun) / 1000000)) ms code \$code \"\$(grep -m 1 'rank 1' $out/killed.log)\" | tee $out/kill.txt"
together
if [ -n "$ddp" ]; then
  [ "$gpus" -ge 4 ] || step pytorch-one 150 "$(torch 0 29501 ddp)"
  # Where the last one is cut off, the rest has been said.
  bench eight "$out" "$gpus" >/dev/null
  step pytorch-fsdp 150 "$(torch "$everyone" 29503 fsdp)"
fi
bench eight "$out" "$gpus"
