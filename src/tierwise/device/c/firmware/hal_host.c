/* The firmware as a program: the serial line is standard input and output. Ends when the input ends. */
#define _POSIX_C_SOURCE 200809L

#include <poll.h>
#include <stdlib.h>
#include <unistd.h>

#include "hal.h"

#define IDLE_MS 250

static uint8_t incoming[4096], outgoing[4096];
static uint32_t next, end, waiting;

static void flush(void) {
    uint32_t sent = 0;
    while (sent < waiting) {
        const ssize_t count = write(STDOUT_FILENO, outgoing + sent, waiting - sent);
        if (count <= 0) {
            exit(1);
        }
        sent += (uint32_t)count;
    }
    waiting = 0;
}

void hal_init(void) {}

int32_t hal_read(void) { return next < end ? incoming[next++] : -1; }

void hal_write(const uint8_t *bytes, uint32_t count) {
    while (count--) {
        if (waiting == sizeof outgoing) {
            flush();
        }
        outgoing[waiting++] = *bytes++;
    }
}

int32_t hal_wait(int32_t limited) {
    struct pollfd input = {STDIN_FILENO, POLLIN, 0};
    flush();
    if (poll(&input, 1, limited ? IDLE_MS : -1) == 0) {
        return 0;
    }
    const ssize_t count = read(STDIN_FILENO, incoming, sizeof incoming);
    if (count <= 0) {
        exit(0);
    }
    next = 0;
    end = (uint32_t)count;
    return 1;
}

uint32_t hal_instructions(void) { return 0; }

int32_t hal_counts(void) { return 0; }

uint32_t hal_stack_bytes(void) { return HAL_NOT_MEASURED; }

int main(void) {
    tw_serve();
    return 0;
}
