#!/bin/sh
# prune.sh VENV: removes from an installed environment what a service never loads; only for use in the Dockerfile.
# The tests run every runtime in the finished image, so that nothing needed can be removed unnoticed.
set -eu
cd "$1"/lib/python3*/site-packages
# LiteRT: the GPU delegate (a container has no GPU), converters and vendors' compilers.
rm -rf ai_edge_litert/libLiteRtWebGpuAccelerator.so ai_edge_litert/tools ai_edge_litert/vendors
# ONNX Runtime: exporters and quantisation, which work on models and not with them.
rm -rf onnxruntime/transformers onnxruntime/quantization onnxruntime/tools onnxruntime/datasets
# numpy: the Fortran wrapper generator. PyTorch: headers, tests and static libraries for building extensions.
rm -rf numpy/f2py numpy/distutils torch/include torch/test torch/bin/protoc* torch/share
# Sources of compiled modules, static libraries, packages' own tests.
find . \( -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.a' \) -type f -delete
find numpy uvloop -type d -name tests -prune -exec rm -rf {} +
