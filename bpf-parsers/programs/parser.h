/*
 * What the parsers here share. A parser is a socket filter over the bytes that have arrived, from the first byte of a
 * message on: it returns the message's length, 0 while it cannot tell yet, or a negative error number.
 */
#ifndef PARSER_H
#define PARSER_H

#define SEC(name) __attribute__((section(name), used))

#define EPROTO 71
#define EMSGSIZE 90

#define MAX_LENGTH 0x7fffffff

struct __sk_buff;

/* Loads in network byte order; past the end they end the program, and it returns 0. */
unsigned long long load_byte(void *skb, unsigned long long offset) asm("llvm.bpf.load.byte");
unsigned long long load_half(void *skb, unsigned long long offset) asm("llvm.bpf.load.half");
unsigned long long load_word(void *skb, unsigned long long offset) asm("llvm.bpf.load.word");

#endif
