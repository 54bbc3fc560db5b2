/* The ARMv7E-M instructions that the fast kernels use, and the same arithmetic in C for every other processor, so
 * that a host build tests the very code that runs on the Cortex-M4. A word holds two signed halfwords. */
#ifndef TW_DSP_H
#define TW_DSP_H

#include <stdint.h>
#include <string.h>

/* Four bytes from any address: one LDR where unaligned loads are allowed. */
static inline uint32_t tw_load4(const int8_t *from) {
    uint32_t word;
    memcpy(&word, from, sizeof word);
    return word;
}

/* Two halfwords from a word-aligned address. */
static inline uint32_t tw_load2x16(const int16_t *from) {
    uint32_t word;
    memcpy(&word, __builtin_assume_aligned(from, 4), sizeof word);
    return word;
}

static inline void tw_store2x16(int16_t *to, uint32_t word) {
    memcpy(__builtin_assume_aligned(to, 4), &word, sizeof word);
}

#if defined(__ARM_FEATURE_DSP)

#include <arm_acle.h>

static inline uint32_t tw_sxtb16(uint32_t w) { return (uint32_t)__sxtb16((int8x4_t)w); }

static inline uint32_t tw_sxtb16_ror8(uint32_t w) {
    uint32_t result;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(result) : "r"(w));
    return result;
}

static inline uint32_t tw_sxtab16(uint32_t a, uint32_t w) { return (uint32_t)__sxtab16((int16x2_t)a, (int8x4_t)w); }

static inline uint32_t tw_sxtab16_ror8(uint32_t a, uint32_t w) {
    uint32_t result;
    __asm__("sxtab16 %0, %1, %2, ror #8" : "=r"(result) : "r"(a), "r"(w));
    return result;
}

static inline uint32_t tw_pkhbt(uint32_t low, uint32_t high) {
    uint32_t result;
    __asm__("pkhbt %0, %1, %2, lsl #16" : "=r"(result) : "r"(low), "r"(high));
    return result;
}

static inline uint32_t tw_pkhtb(uint32_t high, uint32_t low) {
    uint32_t result;
    __asm__("pkhtb %0, %1, %2, asr #16" : "=r"(result) : "r"(high), "r"(low));
    return result;
}

static inline int32_t tw_smlad(uint32_t a, uint32_t b, int32_t sum) {
    return __smlad((int16x2_t)a, (int16x2_t)b, sum);
}

static inline int32_t tw_smlabb(uint32_t a, uint32_t b, int32_t sum) {
    int32_t result;
    __asm__("smlabb %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

static inline int32_t tw_smlatt(uint32_t a, uint32_t b, int32_t sum) {
    int32_t result;
    __asm__("smlatt %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

static inline int32_t tw_smmulr(int32_t a, int32_t b) {
    int32_t result;
    __asm__("smmulr %0, %1, %2" : "=r"(result) : "r"(a), "r"(b));
    return result;
}

static inline int32_t tw_ssat8(int32_t value) {
    int32_t result;
    __asm__("ssat %0, #8, %1" : "=r"(result) : "r"(value));
    return result;
}

#else

static inline int32_t tw_low(uint32_t w) { return (int16_t)(w & 0xFFFFu); }
static inline int32_t tw_high(uint32_t w) { return (int16_t)(w >> 16); }
static inline uint32_t tw_pair(int32_t low, int32_t high) { return ((uint32_t)low & 0xFFFFu) | (uint32_t)high << 16; }
static inline int32_t tw_wrap_add(int32_t a, int32_t b) { return (int32_t)((uint32_t)a + (uint32_t)b); }

static inline uint32_t tw_sxtb16(uint32_t w) { return tw_pair((int8_t)(w & 0xFFu), (int8_t)(w >> 16 & 0xFFu)); }
static inline uint32_t tw_sxtb16_ror8(uint32_t w) { return tw_pair((int8_t)(w >> 8 & 0xFFu), (int8_t)(w >> 24)); }

static inline uint32_t tw_add2x16(uint32_t a, uint32_t b) {
    return tw_pair(tw_low(a) + tw_low(b), tw_high(a) + tw_high(b));
}

static inline uint32_t tw_sxtab16(uint32_t a, uint32_t w) { return tw_add2x16(a, tw_sxtb16(w)); }
static inline uint32_t tw_sxtab16_ror8(uint32_t a, uint32_t w) { return tw_add2x16(a, tw_sxtb16_ror8(w)); }
static inline uint32_t tw_pkhbt(uint32_t low, uint32_t high) { return (low & 0xFFFFu) | high << 16; }
static inline uint32_t tw_pkhtb(uint32_t high, uint32_t low) { return (high & 0xFFFF0000u) | low >> 16; }

static inline int32_t tw_smlad(uint32_t a, uint32_t b, int32_t sum) {
    return tw_wrap_add(tw_wrap_add(tw_low(a) * tw_low(b), tw_high(a) * tw_high(b)), sum);
}

static inline int32_t tw_smlabb(uint32_t a, uint32_t b, int32_t sum) { return tw_wrap_add(tw_low(a) * tw_low(b), sum); }
static inline int32_t tw_smlatt(uint32_t a, uint32_t b, int32_t sum) { return tw_wrap_add(tw_high(a) * tw_high(b), sum); }

static inline int32_t tw_smmulr(int32_t a, int32_t b) {
    return (int32_t)(((int64_t)a * b + INT64_C(0x80000000)) >> 32);
}

static inline int32_t tw_ssat8(int32_t value) { return value < -128 ? -128 : value > 127 ? 127 : value; }

#endif

/* multiply by multiplier * 2^(shift - 31) for shift <= 0 and |value| < 2^30 (the compiler checks both): doubling the
 * value first makes SMMULR the doubling high multiplication, and adding the sign rounds halves away from zero. */
static inline int32_t tw_multiply_fast(int32_t value, int32_t multiplier, int32_t shift) {
    int32_t result = tw_smmulr((int32_t)((uint32_t)value << 1), multiplier);
    if (shift != 0) {
        const int32_t half = (1 << -shift) >> 1;
        result = (result + half + (result >> 31)) >> -shift;
    }
    return result;
}

#endif
