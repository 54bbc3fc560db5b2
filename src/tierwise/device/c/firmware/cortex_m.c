/* Start-up, vectors, sleep and stack of any Cortex-M; the machine's own file adds UART and counter. */
#include "cortex_m.h"

#include "hal.h"

#ifndef TW_INTERRUPT
#error "TW_INTERRUPT: the number of the UART's receive interrupt"
#endif

#define RING_BYTES 256u /* a power of two */
#define PAINT UINT32_C(0xA5A5A5A5)
#define IDLE_TICKS 3

#define SYSTICK_CONTROL REGISTER(0xE000E010)
#define SYSTICK_RELOAD REGISTER(0xE000E014)
#define SYSTICK_VALUE REGISTER(0xE000E018)
#define NVIC_ENABLE(n) REGISTER(0xE000E100 + 4 * ((n) / 32))
#define RESET_CONTROL REGISTER(0xE000ED0C)
#define COPROCESSORS REGISTER(0xE000ED88)

extern uint32_t tw_stack_low[], tw_stack_top[], tw_data_load[], tw_data[], tw_data_end[], tw_bss[], tw_bss_end[];

static volatile uint8_t ring[RING_BYTES];
static volatile uint32_t head, tail;
static volatile uint32_t ticks;

int32_t cortex_m_received(uint8_t byte) {
    if (head - tail == RING_BYTES) {
        return 0;
    }
    ring[head % RING_BYTES] = byte;
    head++;
    return 1;
}

void cortex_m_enable(uint32_t number) { NVIC_ENABLE(number) = UINT32_C(1) << (number % 32); }

static void on_tick(void) { ticks++; }

/* A fault has no way back: start again. The host sees a second READY. */
static void on_fault(void) {
    RESET_CONTROL = 0x05FA0004;
    for (;;) {
    }
}

void tw_reset(void);

void tw_reset(void) {
#if defined(__ARM_FP)
    COPROCESSORS |= 0xFu << 20;
    __asm__ volatile("dsb\n isb" ::: "memory");
#endif
    for (uint32_t *to = tw_data, *from = tw_data_load; to < tw_data_end;) {
        *to++ = *from++;
    }
    for (uint32_t *to = tw_bss; to < tw_bss_end;) {
        *to++ = 0;
    }
    uint32_t *here;
    __asm__ volatile("mov %0, sp" : "=r"(here));
    /* volatile: no call of memset, whose own stack would be painted over */
    for (volatile uint32_t *to = tw_stack_low; to < here; to++) {
        *to = PAINT;
    }
    tw_serve();
    on_fault();
}

__attribute__((section(".vectors"), used)) static void (*const vectors[16 + TW_INTERRUPT + 1])(void) = {
    [0] = (void (*)(void))tw_stack_top,
    [1] = tw_reset,
    [2] = on_fault,
    [3] = on_fault,
    [4] = on_fault,
    [5] = on_fault,
    [6] = on_fault,
    [15] = on_tick,
    [16 + TW_INTERRUPT] = machine_interrupt,
};

void hal_init(void) {
    machine_init();
    cortex_m_enable(TW_INTERRUPT);
}

int32_t hal_read(void) {
    if (head == tail) {
        return -1;
    }
    const uint8_t byte = ring[tail % RING_BYTES];
    tail++;
    return byte;
}

int32_t hal_wait(int32_t limited) {
    ticks = 0;
    if (limited) {
        SYSTICK_RELOAD = TW_CLOCK_HZ / 12 < 0xFFFFFF ? TW_CLOCK_HZ / 12 : 0xFFFFFF;
        SYSTICK_VALUE = 0;
        SYSTICK_CONTROL = 7;
    }
    /* A masked interrupt still ends WFI, so none can slip in between the test and the sleep. */
    __asm__ volatile("cpsid i" ::: "memory");
    while (head == tail && ticks < IDLE_TICKS) {
        __asm__ volatile("wfi\n cpsie i\n isb\n cpsid i" ::: "memory");
    }
    __asm__ volatile("cpsie i" ::: "memory");
    SYSTICK_CONTROL = 0;
    return head != tail;
}

uint32_t hal_stack_bytes(void) {
    const uint32_t *low = tw_stack_low;
    while (low < tw_stack_top && *low == PAINT) {
        low++;
    }
    return (uint32_t)((const uint8_t *)tw_stack_top - (const uint8_t *)low);
}
