// The firmware on any board that Arduino runs on: its default serial port, and the cycle counter of Cortex-M3 and up.
// What is counted here are cycles of the real core, not instructions.
#include <Arduino.h>

extern "C" {
#include "hal.h"
}

static const unsigned long IDLE_MS = 250;

extern "C" void hal_init(void) {
    CoreDebug->DEMCR |= CoreDebug_DEMCR_TRCENA_Msk;
    DWT->CYCCNT = 0;
    DWT->CTRL |= DWT_CTRL_CYCCNTENA_Msk;
}

extern "C" int32_t hal_read(void) { return Serial.read(); }

extern "C" void hal_write(const uint8_t *bytes, uint32_t count) { Serial.write(bytes, count); }

extern "C" int32_t hal_wait(int32_t limited) {
    const unsigned long start = millis();
    while (!Serial.available()) {
        if (limited && millis() - start >= IDLE_MS) {
            return 0;
        }
    }
    return 1;
}

extern "C" uint32_t hal_instructions(void) { return DWT->CYCCNT; }

extern "C" int32_t hal_counts(void) { return 1; }

extern "C" uint32_t hal_stack_bytes(void) { return HAL_NOT_MEASURED; }

void setup() {
    Serial.begin(115200);
    while (!Serial) {
    }
    tw_serve();
}

void loop() {}
