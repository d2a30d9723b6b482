/* Lives of KCM sockets that the conformance program's facts do not show: `main CASE`, which is silent if all is well. */
#include "scene.h"

#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    void (*run)(void);
} cases[] = {
    {"absurd_lengths", absurd_lengths},
    {"cancelled_reader", cancelled_reader},
    {"cancelled_sender", cancelled_sender},
    {"child_closes", child_closes},
    {"nothing_skipped", nothing_skipped},
    {"sender_in_child", sender_in_child},
    {"passed_on", passed_on},
    {"none_to_spare", none_to_spare},
    {"attached_once", attached_once},
    {"signals", signals},
    {"ended_by_handler", ended_by_handler},
    {"lent_and_wanted", lent_and_wanted},
    {"limited", limited},
    {"centuries", centuries},
    {"inherited_limit", inherited_limit},
    {"execs_in_shared_memory", execs_in_shared_memory},
    {"forged_socket", forged_socket},
    {"asleep_before", asleep_before},
    {"backlog", backlog},
    {"cancelled_splice", cancelled_splice},
    {"herd", herd},
    {"idle", idle},
    {"in_turn", in_turn},
    {"killed_senders", killed_senders},
    {"left_to_those_who_can", left_to_those_who_can},
    {"low_water", low_water},
    {"many_given_on", many_given_on},
    {"passer_is_gone", passer_is_gone},
    {"mux_is_gone", mux_is_gone},
    {"posted_while_forking", posted_while_forking},
    {"stopped", stopped},
    {"read_together", read_together},
    {"streams", streams},
    {"woken_and_killed", woken_and_killed},
    {"woken_together", woken_together},
    {"wrong_headers", wrong_headers},
};

int main(int argc, char **argv)
{
    for (size_t n = 0; n < sizeof cases / sizeof *cases; n++) {
        if (argc == 2 && strcmp(argv[1], cases[n].name) == 0) {
            cases[n].run();
            return 0;
        }
    }
    fprintf(stderr, "which case?\n");
    return 2;
}
