/* A parser that asks the kernel for the time, which nobody but the kernel can tell it. */
#include "../../programs/parser.h"

static unsigned long long (*ktime_get_ns)(void) = (void *)5;

SEC("socket") int clock(struct __sk_buff *skb) { return ktime_get_ns() ? load_byte(skb, 0) : 0; }

char _license[] SEC("license") = "GPL";
