/* ARM MPS2 with the image AN386: Cortex-M4F with 4 MB each for code and data, for models that no STM32F405 holds.
 * Its timer runs at 25 MHz: under -icount shift=0 a tick is 40 instructions. */
#include "cortex_m.h"
#include "hal.h"

#define UART_DATA REGISTER(0x40004000)
#define UART_STATE REGISTER(0x40004004)
#define UART_CONTROL REGISTER(0x40004008)
#define UART_INTERRUPT REGISTER(0x4000400C)
#define UART_DIVIDER REGISTER(0x40004010)
#define TIMER_CONTROL REGISTER(0x40000000)
#define TIMER_VALUE REGISTER(0x40000004)
#define TIMER_RELOAD REGISTER(0x40000008)

#define TX_FULL (1u << 0)
#define RX_FULL (1u << 1)
#define RX_INTERRUPT (1u << 1)
#define INSTRUCTIONS_A_TICK 40u

void machine_init(void) {
    TIMER_RELOAD = 0xFFFFFFFF;
    TIMER_VALUE = 0xFFFFFFFF;
    TIMER_CONTROL = 1;
    UART_DIVIDER = 16;
    UART_CONTROL = 1u << 0 | 1u << 1 | 1u << 3; /* transmit, receive, receive interrupt */
}

void machine_interrupt(void) {
    /* The flag goes first: a byte that arrives after the read raises it again. */
    while (UART_STATE & RX_FULL) {
        UART_INTERRUPT = RX_INTERRUPT;
        cortex_m_received((uint8_t)UART_DATA);
    }
}

void hal_write(const uint8_t *bytes, uint32_t count) {
    while (count--) {
        while (UART_STATE & TX_FULL) {
        }
        UART_DATA = *bytes++;
    }
}

/* The timer counts down. */
uint32_t hal_instructions(void) { return (0u - TIMER_VALUE) * INSTRUCTIONS_A_TICK; }

int32_t hal_counts(void) { return 1; }
