/* What the Cortex-M machines share: a ring buffer between the receive interrupt and hal_read, sleep, the stack. */
#ifndef TW_CORTEX_M_H
#define TW_CORTEX_M_H

#include <stdint.h>

#define REGISTER(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* For the receive interrupt. Returns 0 where the ring is full and the byte is lost. */
int32_t cortex_m_received(uint8_t byte);

/* Lets interrupt `number` through. */
void cortex_m_enable(uint32_t number);

/* The machine's part of hal_init, and its interrupt handler. */
void machine_init(void);
void machine_interrupt(void);

#endif
