/* Netduino Plus 2: STM32F405, Cortex-M4F. Under QEMU with -icount shift=0 an instruction takes one nanosecond and
 * TIM2 ticks at 1 GHz, so its counter counts instructions. */
#include "cortex_m.h"
#include "hal.h"

#define USART1_STATUS REGISTER(0x40011000)
#define USART1_DATA REGISTER(0x40011004)
#define USART1_CONTROL REGISTER(0x4001100C)
#define TIM2_CONTROL REGISTER(0x40000000)
#define TIM2_UPDATE REGISTER(0x40000014)
#define TIM2_COUNT REGISTER(0x40000024)
#define TIM2_PRESCALER REGISTER(0x40000028)
#define TIM2_RELOAD REGISTER(0x4000002C)

#define RECEIVED (1u << 5)
#define CAN_SEND (1u << 7)

void machine_init(void) {
    TIM2_PRESCALER = 0;
    TIM2_RELOAD = 0xFFFFFFFF;
    TIM2_UPDATE = 1;
    TIM2_CONTROL = 1;
    /* USART on, transmitter, receiver, receive interrupt. */
    USART1_CONTROL = 1u << 13 | 1u << 3 | 1u << 2 | 1u << 5;
}

void machine_interrupt(void) {
    while (USART1_STATUS & RECEIVED) {
        cortex_m_received((uint8_t)USART1_DATA);
    }
}

void hal_write(const uint8_t *bytes, uint32_t count) {
    while (count--) {
        while (!(USART1_STATUS & CAN_SEND)) {
        }
        USART1_DATA = *bytes++;
    }
}

uint32_t hal_instructions(void) { return TIM2_COUNT; }

int32_t hal_counts(void) { return 1; }
