package bpf

//go:generate go tool bpf2go -cc clang-19 -strip llvm-strip-19 -target bpfel admission admission.bpf.c -- -O2 -g -Wall -Werror -mcpu=v3
