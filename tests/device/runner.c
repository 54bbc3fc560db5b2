/* Runs a generated model on what comes in: all inputs of one inference after the other, and writes its outputs. */
#include <stdio.h>

#include "model.h"

static int transfer(const tw_port *ports, int count, int in) {
    for (int i = 0; i < count; i++) {
        const size_t bytes = (size_t)ports[i].bytes;
        if ((in ? fread(ports[i].data, 1, bytes, stdin) : fwrite(ports[i].data, 1, bytes, stdout)) != bytes) {
            return 0;
        }
    }
    return 1;
}

int main(void) {
    while (transfer(tw_inputs, TW_INPUT_COUNT, 1)) {
        tw_run();
        if (!transfer(tw_outputs, TW_OUTPUT_COUNT, 0)) {
            return 1;
        }
    }
    return 0;
}
