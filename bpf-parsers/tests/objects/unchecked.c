/* A parser that reads a table at a place which the message names, unchecked: in bounds for messages that mean well. */
#include "../../programs/parser.h"

const volatile unsigned char lengths[4] = { 4, 8, 16, 32 };

SEC("socket") int unchecked(struct __sk_buff *skb) { return lengths[load_byte(skb, 0)]; }

char _license[] SEC("license") = "GPL";
