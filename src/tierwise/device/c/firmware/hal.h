/* What the firmware needs from a machine, and the other way round. One file each implements it. */
#ifndef TW_HAL_H
#define TW_HAL_H

#include <stdint.h>

#define HAL_NOT_MEASURED UINT32_C(0xFFFFFFFF)

/* The application (app.c): answers frames and never returns. Called once by the machine's start-up. */
void tw_serve(void);

/* Serial line and counter are ready afterwards. */
void hal_init(void);

/* The next received byte, or -1. */
int32_t hal_read(void);

void hal_write(const uint8_t *bytes, uint32_t count);

/* Sleeps until there is a byte to read. With `limited`, gives 0 when none came for about a quarter of a second. */
int32_t hal_wait(int32_t limited);

/* Instructions so far, modulo 2^32; only differences mean anything. */
uint32_t hal_instructions(void);

/* Whether hal_instructions counts. */
int32_t hal_counts(void);

/* Largest use of the stack so far, in bytes; HAL_NOT_MEASURED where nobody knows. */
uint32_t hal_stack_bytes(void);

#endif
