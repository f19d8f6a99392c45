#!/bin/bash
# one node
export CUDA_DEVICE_MAX_CONNECTIONS=1
GPUS_PER_NODE=8
NNODES=${NNODES:-2}
WORLD=$((GPUS_PER_NODE * NNODES))
GPT_ARGS=(
  --num-layers 32 --hidden-size 4096
  --ffn-hidden-size 14336 --num-attention-heads 32 --group-query-attention --num-query-groups 8
)
if [ "$FP8" = 1 ]; then EXTRA="--fp8-format hybrid"; fi
torchrun --nproc_per_node $GPUS_PER_NODE --nnodes $NNODES pretrain_gpt.py ${GPT_ARGS[@]} $EXTRA \
  --seq-length 8192 --max-position-embeddings 8192 --position-embedding-type rope --normalization RMSNorm --swiglu \
  --untie-embeddings-and-output-weights --disable-bias-linear --attention-dropout 0 --hidden-dropout 0 \
  --micro-batch-size 1 --global-batch-size 128 --bf16 --tensor-model-parallel-size 4 \
  --pipeline-model-parallel-size 2 --sequence-parallel --use-distributed-optimizer
